"""A run's folder: names of its files, atomic writes, and which stages are finished."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from brain_ray.errors import RunError
from brain_ray.storage import describe_os_error, filesystem, resolve, storage_errors, subfolders
from brain_ray.storage_retries import (
    copy_folder,
    delete_file,
    delete_folder,
    is_known,
    note_answer,
    patiently,
    read_file,
    retry_known,
    write_file,
)

MARKER = "stage.json"
"""File written last into a stage's folder: without it, the stage does not count as finished."""

STARTED = "started.json"
"""File written first into a stage's folder: the inputs with which an unfinished stage was started."""

DATASET, TRAIN, SWEEP, BUNDLE, REPORT = "dataset", "train", "sweep", "bundle", "report"
"""Folders of the stages within a run's folder."""

PHANTOM_IMAGES = "phantoms"
"""Folder of drawn images, if a run has any."""

KEPT = "kept"
"""Folder of kept trainings, such as `train-<digest of its inputs>`, each unchanged."""

CONFIG, DATASET_IDS = ("config.json",), ("dataset_ids.json",)
SALT = ("patient_salt.json",)
AUDIT = (DATASET, "audit.json")
DATASET_MANIFEST = (DATASET, "manifest.parquet")
DATASET_PARTS = (DATASET, "parts.parquet")
DATASET_SHORTCUTS = (DATASET, "shortcuts.parquet")
LISTINGS = (DATASET, "listings.json")
HISTORY, TENSORBOARD = (TRAIN, "history.csv"), (TRAIN, "tensorboard")
MLFLOW = (TRAIN, "mlflow.json")
OPERATOR = (TRAIN, "operator.json")
FEATURES, SHARED_FEATURES = (TRAIN, "features"), (SWEEP, "features")
BEST = (TRAIN, "best.npz")
RESULT = (TRAIN, "result.json")
VAL_PROBABILITIES = (TRAIN, "answers.npz")
OUT_OF_FOLD = (TRAIN, "out_of_fold.parquet")
CHOICE = (TRAIN, "choice.json")
FOLD_SCORES = (TRAIN, "folds.json")
MEMBERS = (TRAIN, "members")
MEMBER_FOLDS = (*MEMBERS, "folds.json")
AVERAGES = (TRAIN, "averages.json")
AVERAGES_OUT_OF_FOLD = {kind: (TRAIN, f"{kind}_out_of_fold.parquet") for kind in ("models", "seeds")}
WINNER = (TRAIN, "config.json")
TRIALS = (SWEEP, "trials")
RUNGS = (SWEEP, "rungs.json")
COSTS = (SWEEP, "costs.json")
BUNDLE_INFO = (BUNDLE, "bundle.json")
PREDICTIONS = (REPORT, "predictions.parquet")
LOCALISATION = (REPORT, "localisation.parquet")
METRICS = (REPORT, "metrics.json")
REPORT_PAGE = (REPORT, "report.html")
SWEEP_PAGES = ("sweep.html", "sweep.json")
"""Names of a sweep's page and figures: written to `TRAIN`, shown in `REPORT`."""

FOLDS_PAGE = "cross_validation.html"
SUSPECT_FILES = ("suspects.html", "suspects.csv", "labels.csv")
"""Names of the files on out-of-fold answers, and on the labels they contradict: written to `TRAIN`, shown in
`REPORT`."""


@dataclass(frozen=True)
class Run:
    """Folder of one run, `<storage>/<name>`; picklable, so that workers can write into it."""

    storage: str
    """Absolute path or URI, so that a worker in another folder finds the same place."""
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "storage", resolve(self.storage))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "answered": is_known(self.storage)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.pop("answered", False):  # to whoever sent it: its address is right
            note_answer(state["storage"])
        self.__dict__.update(state)

    @cached_property
    def _opened(self) -> tuple[pafs.FileSystem, str]:
        return filesystem(self.uri())

    @property
    def fs(self) -> pafs.FileSystem:
        """Filesystem of the run's storage."""
        return self._opened[0]

    @property
    def _makes_folders(self) -> bool:
        """Whether a folder is listed only if it was created; S3 has only the names of objects."""
        return bool(self.fs.type_name != "s3")

    def uri(self, *parts: str) -> str:
        """Returns the absolute path or URI of a file or folder of the run."""
        base, mark, query = self.storage.partition("?")
        return "/".join([base.rstrip("/"), self.name, *parts]) + mark + query

    def path(self, *parts: str) -> str:
        """Returns the path of a file or folder of the run, within its filesystem."""
        return "/".join([self._opened[1], *parts])

    def exists(self, *parts: str) -> bool:
        """Returns whether a file or folder exists."""
        with storage_errors(f"read {self.uri(*parts)}"):
            info = retry_known(self.storage, partial(self.fs.get_file_info, self.path(*parts)))
        return bool(info.type != pafs.FileType.NotFound)

    def list_files(self, *parts: str, suffix: str = "") -> list[str]:
        """Returns the sorted paths, within the filesystem, of a folder's files that end in `suffix`."""
        selector = pafs.FileSelector(self.path(*parts), allow_not_found=True)
        with storage_errors(f"read {self.uri(*parts)}"):
            infos = retry_known(self.storage, partial(self.fs.get_file_info, selector))
        return sorted(info.path for info in infos if info.path.endswith(suffix))

    def list_folders(self, *parts: str) -> list[str]:
        """Returns the sorted names of a folder's folders."""
        with storage_errors(f"read {self.uri(*parts)}"):
            return retry_known(self.storage, partial(subfolders, self.fs, self.path(*parts)))

    def read_bytes(self, *parts: str) -> bytes:
        """Returns the content of a file.

        Raises:
            FileNotFoundError: there is no such file.
            RunError: the storage refuses, or does not answer.
        """
        with storage_errors(f"read {self.uri(*parts)}"):
            return retry_known(self.storage, partial(read_file, self.fs, self.path(*parts)))

    def write_bytes(self, data: bytes | Path, *parts: str) -> None:
        """Writes a file atomically, a local one piece by piece: readers see the old content or the new one.

        Raises:
            RunError: the storage refuses, or does not answer.
        """
        target = self.path(*parts)

        def write() -> None:
            if self._makes_folders:
                self.fs.create_dir(target.rpartition("/")[0], recursive=True)
            write_file(self.fs, target, data)

        try:
            retry_known(self.storage, write)
        except OSError as error:
            raise RunError(f"cannot write {self.uri(*parts)}: {describe_os_error(error)}") from error

    def read_json(self, *parts: str) -> Any:
        """Returns the content of a JSON file.

        Raises:
            FileNotFoundError: there is no such file.
            RunError: the storage refuses, or does not answer.
        """
        return json.loads(self.read_bytes(*parts))

    def write_json(self, value: object, *parts: str) -> None:
        """Writes a JSON file atomically; NaN and infinity are refused, because other readers refuse them."""
        self.write_bytes((json.dumps(value, indent=1, allow_nan=False) + "\n").encode(), *parts)

    def clear(self, *parts: str) -> None:
        """Deletes a folder's content, its records first, so that a half-deleted stage counts as none."""
        with storage_errors(f"empty {self.uri(*parts)}"):
            self._delete_records(*parts)
            if self._makes_folders:
                patiently()(self.fs.create_dir, self.path(*parts), recursive=True)
            patiently()(self.fs.delete_dir_contents, self.path(*parts), missing_dir_ok=True)

    def remove(self, *parts: str) -> None:
        """Deletes a folder, if it exists, in the same order as `clear`."""
        with storage_errors(f"delete {self.uri(*parts)}"):
            self._delete_records(*parts)
            if self.exists(*parts):
                delete_folder(self.fs, self.path(*parts))

    def move(self, source: Sequence[str], target: Sequence[str]) -> None:
        """Moves a stage's folder to a path; a folder that is there is deleted first.

        If this is killed at any time, one of the two folders is complete and has its records, `STARTED` or
        `MARKER`. On a disk the folder is renamed. In a bucket its files are copied, the records last, and
        then deleted, the records first.

        Args:
            source: parts of the path of a folder that has records.
            target: parts of the new path.
        """
        self.remove(*target)
        with storage_errors(f"move {self.uri(*source)} to {self.uri(*target)}"):
            if self._makes_folders:
                patiently()(self.fs.create_dir, self.path(*target[:-1]), recursive=True)
            if self.fs.type_name not in ("s3", "gcs"):
                with suppress(OSError):  # some mounts of buckets rename files only
                    self.fs.move(self.path(*source), self.path(*target))
                    return
            copy_folder(self.fs, self.path(*source), self.path(*target), last=(STARTED, MARKER))
        self.remove(*source)

    def _delete_records(self, *parts: str) -> None:
        # Without STARTED only, a finished stage is still whole; without both, it is none.
        for name in (STARTED, MARKER):
            if self.exists(*parts, name):
                delete_file(self.fs, self.path(*parts, name))

    def upload(self, folder: Path, *parts: str) -> None:
        """Copies a local folder's files into a folder of the run, piece by piece."""
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.write_bytes(file, *parts, *file.relative_to(folder).parts)

    def finished(self, folder: str) -> dict[str, Any] | None:
        """Returns the inputs with which a stage was finished, or None if it is not finished."""
        if not self.exists(folder, MARKER):
            return None
        inputs: dict[str, Any] = self.read_json(folder, MARKER)["inputs"]
        return inputs

    def finish(self, folder: str, inputs: Mapping[str, Any], seconds: float) -> None:
        """Marks a stage as finished; call it after everything else is written."""
        self.write_json({"inputs": inputs, "seconds": round(seconds, 1)}, folder, MARKER)

    def require(self, folder: str, job: str) -> dict[str, Any]:
        """Returns a finished stage's inputs.

        Raises:
            RunError: the stage is not finished; the text names the job that runs it.
        """
        inputs = self.finished(folder)
        if inputs is None:
            raise RunError(f"{self.uri(folder)} is not complete: run jobs/{job}.py for this run first")
        return inputs
