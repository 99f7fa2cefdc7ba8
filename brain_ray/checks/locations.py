"""Checks that data, weights and storage can be reached, here and from each node."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath

from pyarrow import fs as pafs

from brain_ray.config import PHANTOMS, BackboneSpec, Config
from brain_ray.data.outlines import read_outlines
from brain_ray.data.sources.find import Source, given_source, is_manifest
from brain_ray.errors import RunError
from brain_ray.models.efficientnet_lite import find_weights
from brain_ray.models.weights import missing_package
from brain_ray.runs import Run
from brain_ray.storage import filesystem, resolve, storage_errors
from brain_ray.storage_retries import retry_known

PROBE = "probe"
"""Folder of a run for the files that test whether it can be written."""

DOWNLOADS = "https://storage.googleapis.com/"
"""URL from which Keras downloads the ImageNet weights."""

TRAINING = {"train", "sweep"}
"""Stages that need workers and weights."""

DOWNLOAD_TIMEOUT_S = 5.0
"""Seconds that this URL may take to answer."""


def try_storage(run: Run, mark: str, node: str = "") -> str:
    """Writes a file into a run's folder and reads it again; on a node, also reads the file that the driver
    wrote.

    Returns the error's text, or "".
    """
    name = f"{mark}-{node}" if node else mark

    def look() -> str:
        if node and not run.exists(PROBE, mark):
            return "it is not the same folder there"
        run.write_bytes(mark.encode(), PROBE, name)
        if run.read_bytes(PROBE, name) != mark.encode():
            return f"{run.uri(PROBE, name)} does not hold what was written into it"
        return ""

    return _error_of(run.uri(PROBE), look)


def end_probe(run: Run) -> None:
    """Deletes the files of `try_storage`, and on a disk the run's folder if nothing else is in it."""
    with suppress(OSError, RunError):
        run.fs.delete_dir(run.path(PROBE))
        if isinstance(run.fs, pafs.LocalFileSystem):
            Path(run.path()).rmdir()


def refuse_wrong_paths(
    run: Run, config: Config, stages: Collection[str], source: Source | None = None
) -> None:
    """Checks the paths of this machine before anything is started or written.

    Only for a Ray that is started here: nodes of a cluster may see other folders than this process does.

    Args:
        run: the run.
        config: its settings.
        stages: names of the stages.
        source: the source that the settings name, if others look at it too.

    Raises:
        RunError: the storage cannot be written, or the images, the outlines or the weights are not where the
            settings say.
    """
    if "://" not in run.storage:
        folder = next(
            path for path in (Path(run.path()), *Path(run.path()).parents) if os.access(path, os.F_OK)
        )
        if not folder.is_dir():
            raise RunError(f"storage: {folder} is a file: set --storage to a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RunError(f"storage: {folder} cannot be written to: set --storage elsewhere")
    if "prepare" in stages and "://" not in config.data.source and (wrong := try_data(config, source)):
        raise RunError(f"data: {wrong}")
    outlines = {config.evaluate.outlines} if "evaluate" in stages else set()
    outlines |= {config.train.outlines} if TRAINING & set(stages) else set()
    for location in sorted(str(each) for each in outlines - {None, PHANTOMS} if "://" not in str(each)):
        try:
            read_outlines(location)
        except RunError as error:
            raise RunError(f"outlines: {error}") from error
    weights = config.model.weights
    if (
        TRAINING & set(stages)
        and (weights != "imagenet" or config.model.backbone_spec.weights_package)
        and "://" not in weights
        and (wrong := try_weights(config))
    ):
        raise RunError(f"weights: {wrong}: set --model.weights to a file that is there, or to none")


def try_data(config: Config, source: Source | None = None) -> str:
    """Checks the folders of the images and of their classes, or a manifest and its files.

    Returns the error's text, or "". In a bucket of Google's, this lists all images.

    Args:
        config: the settings.
        source: the source that they name, if others look at it too.
    """
    looked_at = source or given_source(config.data)

    def look() -> str:
        if looked_at is not None:
            looked_at.splits()
        return ""

    return _error_of(config.data.source, look)


def try_folder(config: Config) -> str:
    """Checks only that the folder of the training images, or of all, or the manifest is there.

    Returns the error's text, or "".
    """
    source = config.data.source
    if source == PHANTOMS:
        return ""

    def look() -> str:
        opened, root = filesystem(source)
        if is_manifest(resolve(source)):
            there = _type_of(source, opened, root) == pafs.FileType.File
            return "" if there else f"there is no file {source}"
        folder = config.data.train_folder or "."
        path = "/".join([root.rstrip("/"), *PurePosixPath(folder).parts])
        there = _type_of(source, opened, path) == pafs.FileType.Directory
        name = f"{folder}/ in {source}" if folder != "." else source
        return "" if there else f"there is no folder {name}"

    return _error_of(source, look)


def try_weights(config: Config) -> str:
    """Checks the weights from which training starts; returns the error's text, or ""."""
    weights = config.model.weights
    if weights == "none":
        return ""
    if weights == "imagenet":
        package = config.model.backbone_spec.weights_package
        if package is None:
            return _try_download(config.model.backbone_spec)
        return "" if find_weights(package) else missing_package(config.model.backbone, package)

    def look() -> str:
        opened, path = filesystem(weights)
        there = _type_of(weights, opened, path) == pafs.FileType.File
        return "" if there else f"there is no file {weights}"

    return _error_of(weights, look)


def _type_of(location: str, opened: pafs.FileSystem, path: str) -> pafs.FileType:
    return retry_known(location, partial(opened.get_file_info, path)).type


def _error_of(place: str, look: Callable[[], str]) -> str:
    """Returns what a check reports about a location, or the text of the error that it raises."""
    try:
        with storage_errors(f"read {place}"):
            return look()
    except RunError as error:
        return str(error)
    except OSError as error:
        return f"cannot read {place}: {error}"


def _try_download(spec: BackboneSpec) -> str:
    if spec.weights_file and (Path.home() / ".keras" / "models" / spec.weights_file).exists():
        return ""
    try:
        asked = urllib.request.Request(DOWNLOADS, method="HEAD")
        with urllib.request.urlopen(asked, timeout=DOWNLOAD_TIMEOUT_S):
            return ""
    except urllib.error.HTTPError:  # it is there, and knows no such page
        return ""
    except OSError as error:
        reason = getattr(error, "reason", error)
        return f"{DOWNLOADS}, where Keras has the ImageNet weights from, cannot be reached: {reason}"
