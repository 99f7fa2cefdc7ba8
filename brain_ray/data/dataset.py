"""Reader of a prepared data set: its parts, rows and labels."""

from dataclasses import dataclass

import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.data.rows import BOX, read_input
from brain_ray.data.transforms import InputSpec
from brain_ray.errors import RunError
from brain_ray.runs import DATASET, Run


@dataclass(frozen=True)
class Part:
    """One Parquet file of a split."""

    path: str
    """Within the run's filesystem."""
    num_rows: int


def find_parts(run: Run, split: str) -> list[Part]:
    """List a split's files and count their rows, from their footers.

    Raises:
        RunError: the split has no rows.
    """
    parts = parts_of(run, DATASET, split)
    if not parts:
        raise RunError(f"{run.uri('dataset', split)} has no rows: run jobs/prepare.py for this run first")
    return parts


def parts_of(run: Run, *folder: str) -> list[Part]:
    """List the Parquet files of a run's folder that have rows, in the order of their names."""
    files = run.list_files(*folder, suffix=".parquet")
    parts = [Part(file, pq.read_metadata(file, filesystem=run.fs).num_rows) for file in files]
    return [part for part in parts if part.num_rows]


Counts = NDArray[np.int64]
"""Rows of each class, (classes,)."""


def count_labels(run: Run, split: str, num_classes: int) -> Counts:
    """Count a split's rows by label, (num_classes,); of its files, only the labels are read, bit by bit.

    Raises:
        RunError: a row's label is none of the classes.
    """
    counts = np.zeros(num_classes, np.int64)
    files = run.list_files(DATASET, split, suffix=".parquet")
    if not files:
        return counts
    rows = pads.dataset(files, filesystem=run.fs, format="parquet")
    # The footers of ten thousand files weigh more than their labels: they are not kept.
    for batch in rows.to_batches(columns=["label"], cache_metadata=False):
        labels = batch["label"].to_numpy(zero_copy_only=False)
        known = (labels >= 0) & (labels < num_classes)
        if not known.all():
            raise RunError(
                f"{run.uri('dataset', split)} has rows of label {labels[~known][0]}, and there are "
                f"{num_classes} classes: prepare again, with the data.classes of this run"
            )
        counts += np.bincount(labels, minlength=num_classes)
    return counts


def read_images(
    run: Run, config: Config, split: str, most: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the inputs (n, height, width, 1) and labels (n,) of a split's images, not of augmented copies.

    Of more than `most` images, that many are drawn by the run's seed.
    """
    dataset = pads.dataset(run.path(DATASET, split), filesystem=run.fs, format="parquet")
    augmented = dataset.to_table(columns=["augment_seed"])["augment_seed"].to_numpy() >= 0
    chosen = np.flatnonzero(~augmented)
    if len(chosen) > most:
        rng = np.random.default_rng(config.seed)
        chosen = np.sort(rng.choice(chosen, most, replace=False))
    table = dataset.take(chosen, columns=["path", "label", "bytes", *BOX])
    model = config.model
    spec = InputSpec(model.height, model.width, model.fit, model.crop_size)
    inputs = [read_input(row, spec, config.data.max_pixels) for row in table.to_pylist()]
    return np.stack(inputs), table["label"].to_numpy()
