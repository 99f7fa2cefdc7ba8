"""Ray tasks of preparation: open the files that may hold several images or name a patient, and list their
images."""

from collections.abc import Sequence

import pandas as pd
import ray

from brain_ray.cluster import capacity
from brain_ray.cluster.tasks import run_tasks
from brain_ray.config import DataConfig
from brain_ray.data.decoding import ImageError
from brain_ray.data.file_names import is_no_image
from brain_ray.data.formats import is_volume
from brain_ray.data.frames import FileImages, expand, images_of, is_picture, pick
from brain_ray.data.scan import batches, describe, read_files

BLOCK_FILES = 1024
"""Largest number of files that a task opens."""


def open_files(source: str, data: DataConfig, salt: str, paths: Sequence[str]) -> dict[str, FileImages]:
    """Ray task: returns the images of each file, by its path; pictures, and files that cannot be read, have
    one.

    The ids in the headers leave it as salted hashes only.

    Args:
        source: folder or URI.
        data: settings of the slices.
        salt: secret of the run.
        paths: paths of the files within the source.
    """
    found, rest = {}, iter(paths)
    for batch in batches(read_files(source, paths)):
        named = [(next(rest), content) for content in batch]
        volumes = [
            (path, content) for path, content in named if isinstance(content, bytes) and is_volume(content)
        ]
        told = describe([content for _, content in volumes], data)
        for (path, _), description in zip(volumes, told, strict=True):
            if not isinstance(description, ImageError):
                found[path] = images_of(path, description, salt)
    return {path: found.get(path, FileImages()) for path in paths}


def expand_files(
    files: pd.DataFrame, source: str, data: DataConfig, salt: str, block_files: int = BLOCK_FILES
) -> tuple[pd.DataFrame, dict[str, list[int]]]:
    """Returns a source's table of images, and the numbers of empty slices that were left out, by path.

    Files whose suffix is that of a picture, or of no image, are not opened; a file that cannot be read keeps
    one row, and is rejected when it is scanned.

    Args:
        files: one row per file, with the column `path`, relative to the source, and any others; or one per
            image of a file that is named by the column `frame`.
        source: folder or URI.
        data: settings of the slices.
        salt: secret of the run, with which ids are hashed.
        block_files: largest number of files that a task opens.

    Raises:
        RunError: as `pick`.
    """
    paths = dict.fromkeys(files["path"])
    to_open = [path for path in paths if not (is_picture(path) or is_no_image(path))]
    work = ray.remote(open_files).options(num_cpus=1)
    size = max(1, min(block_files, -(-len(to_open) // (4 * capacity.cpus()))))
    blocks = (to_open[k : k + size] for k in range(0, len(to_open), size))
    opened: dict[str, FileImages] = {}
    for _, found in run_tasks(lambda block: work.remote(source, data, salt, block), blocks):
        opened |= found
    known = pick(files, opened)
    empty: dict[str, list[int]] = {}
    for path, one in zip(files["path"], known, strict=True):
        if one.empty:
            empty.setdefault(path, []).extend(one.empty)
    return expand(files, known), empty
