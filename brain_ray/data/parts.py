"""Files of a prepared data set: their rows, bytes and labels. Imports no pandas: small actors need it."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from brain_ray.errors import RunError
from brain_ray.runs import DATASET, DATASET_PARTS, Run
from brain_ray.storage_retries import patiently

READERS = 16
"""Number of files read at a time: a bucket answers slowly."""


@dataclass(frozen=True)
class Part:
    """One Parquet file of a split."""

    path: str
    """Path within the run's filesystem."""
    num_rows: int
    num_bytes: int
    """Of the rows, or of the file."""
    label: int | None = None
    """Class of most rows; None: not known."""


def find_parts(run: Run, split: str) -> list[Part]:
    """Lists a split's files with their numbers of rows, as preparation has counted them.

    Of an earlier version's data set, which has no such list, all files' footers are read.

    Raises:
        RunError: the split has no rows.
    """
    listed = _listed(run, split)
    if listed is None:
        parts = parts_of(run, DATASET, split)
    else:
        parts = [
            Part(
                run.path(DATASET, split, row["file"]),
                row["num_rows"],
                row["num_bytes"],
                int(np.argmax(row["labels"])),
            )
            for row in listed
        ]
    if not parts:
        raise no_rows(run, split)
    return parts


def parts_of(run: Run, *folder: str) -> list[Part]:
    """Lists the Parquet files of a run's folder that have rows, in the order of their names."""
    files = run.list_files(*folder, suffix=".parquet")
    parts = [
        Part(file.path, patiently()(pq.read_metadata, file.path, filesystem=run.fs).num_rows, file.size)
        for file in (patiently()(run.fs.get_file_info, files) if files else ())
    ]
    return [part for part in parts if part.num_rows]


def files_of_rows(run: Run, split: str, row_ids: Sequence[int]) -> list[str]:
    """Returns the paths of a split's files that hold rows, in their order; of an earlier version's data set,
    which has no list of them, all files.

    The `row_id`s of a split count its rows from 0, over the files in the order of their names.
    """
    listed = _listed(run, split)
    if listed is None:
        return run.list_files(DATASET, split, suffix=".parquet")
    ends = np.cumsum([row["num_rows"] for row in listed])
    holding = set(np.minimum(np.searchsorted(ends, row_ids, side="right"), len(listed) - 1).tolist())
    return [run.path(DATASET, split, row["file"]) for k, row in enumerate(listed) if k in holding]


def files_of_labels(run: Run, split: str) -> list[str]:
    """Returns the paths of a split's files that hold the first row of a label, like `files_of_rows`."""
    listed = _listed(run, split)
    if listed is None:
        return run.list_files(DATASET, split, suffix=".parquet")
    seen, found = set[int](), []
    for row in listed:
        labels = set(np.flatnonzero(row["labels"]).tolist())
        if labels - seen:
            found.append(run.path(DATASET, split, row["file"]))
            seen |= labels
    return found


@dataclass(frozen=True)
class Rows:
    """Rows of some files, numbered across them in their order: all, or chosen ones."""

    parts: list[Part]
    chosen: NDArray[np.bool_] | None = None
    """(rows of all parts,), which ones are meant; None: all."""
    group: NDArray[np.int64] | None = None
    """(rows of all parts,), the group of each, of patients and copies; None: not known here."""

    @property
    def num_rows(self) -> int:
        """Number of the rows that are meant."""
        if self.chosen is not None:
            return int(self.chosen.sum())
        return sum(part.num_rows for part in self.parts)

    def num_visited(self, per_group: int | None) -> int:
        """Returns how many of these rows an epoch visits, if at most `per_group` of each group."""
        if per_group is None or self.group is None:
            return self.num_rows
        group = self.group if self.chosen is None else self.group[self.chosen]
        return int(np.minimum(np.unique(group, return_counts=True)[1], per_group).sum())


Counts = NDArray[np.int64]
"""Rows of each class, (classes,)."""


def count_labels(run: Run, split: str, num_classes: int) -> Counts:
    """Counts a split's rows by label: int64 (num_classes,), all 0 without files.

    Preparation has counted them; of an earlier version's data set, the labels are read, batch by batch.

    Raises:
        RunError: a row's label is none of the classes.
    """
    counts = np.zeros(num_classes, np.int64)
    listed = _listed(run, split)
    found = _read_counts(run, split) if listed is None else (enumerate(row["labels"]) for row in listed)
    for labels in found:
        for label, rows in labels:
            if not rows:
                continue
            if not 0 <= label < num_classes:
                raise RunError(
                    f"{run.uri('dataset', split)} has rows of label {label}, and there are {num_classes} "
                    "classes: prepare again, with the data.classes of this run"
                )
            counts[int(label)] += rows
    return counts


def no_rows(run: Run, split: str) -> RunError:
    """Returns the error of a split without files."""
    return RunError(f"{run.uri('dataset', split)} has no rows: run jobs/prepare.py for this run first")


def _listed(run: Run, split: str) -> list[dict[str, Any]] | None:
    """Returns a split's rows of `DATASET_PARTS`; None where that file does not exist."""
    if not run.exists(*DATASET_PARTS):
        return None
    path = run.path(*DATASET_PARTS)
    table = patiently()(pq.read_table, path, filesystem=run.fs, partitioning=None)
    return [row for row in table.to_pylist() if row["split"] == split]


def _read_counts(run: Run, split: str) -> Iterable[Iterable[tuple[Any, int]]]:
    """Yields the labels of each file of a split, with how often each is there; some are read at a time."""

    def read(file: str) -> list[tuple[Any, int]]:
        table = patiently()(pq.read_table, file, columns=["label"], filesystem=run.fs, partitioning=None)
        labels, rows = np.unique(table["label"].to_numpy(), return_counts=True)
        return list(zip(labels.tolist(), rows.tolist(), strict=True))

    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(read, run.list_files(DATASET, split, suffix=".parquet"))
