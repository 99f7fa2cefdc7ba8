"""Distributed sampler: which rows each worker sees in each step, from seed, epoch and counts alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import TrainConfig
from brain_ray.data.parts import Part

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """One worker's part of one global batch."""

    rows: Indices
    """Global row indices; never empty."""
    weight: float
    """1 if the rows count; 0 for the one row of a worker that has no row of its own."""
    total: int
    """Number of rows of the global batch, over all workers."""
    largest: int
    """Number of rows of the worker's largest part in the epoch."""


def epoch_order(
    rows_per_part: Sequence[int],
    seed: int,
    epoch: int,
    window: int,
    labels: Sequence[int | None] | None = None,
) -> Indices:
    """Returns the order in which an epoch visits all rows: (sum of rows_per_part,) int64 global row indices.

    Rows are numbered across the parts (files), in their order. Up to `window` rows are shuffled as a whole.
    More are shuffled in two steps, so that only a few parts are needed at a time: first the order of the
    parts, then the rows within each window, which consists of whole parts with at most `window` rows, or of a
    single part. A part holds images of one folder, and so often of one class: the parts of each class
    (`labels`) are spread evenly over the epoch, so that windows have nearly the classes' shares.
    """
    rng = np.random.default_rng([seed, epoch])
    counts = np.asarray(rows_per_part, np.int64)
    if counts.sum() <= window:
        return rng.permutation(counts.sum())
    starts = np.cumsum(counts) - counts
    windows: list[list[Indices]] = []
    rows_in_window = 0
    for part in _spread(rng.permutation(len(counts)), labels or [None] * len(counts), seed, epoch):
        rows = np.arange(starts[part], starts[part] + counts[part])
        if not windows or rows_in_window + len(rows) > window:
            windows.append([])
            rows_in_window = 0
        windows[-1].append(rows)
        rows_in_window += len(rows)
    return np.concatenate([rng.permutation(np.concatenate(parts)) for parts in windows])


def _spread(order: Indices, labels: Sequence[int | None], seed: int, epoch: int) -> Indices:
    """Returns an order of parts, (n,), with those of each label at even distances, in their order; with one
    label, the order itself."""
    rng = np.random.default_rng([seed, epoch, 1])
    _, kind, sizes = np.unique(
        [-1 if label is None else label for label in labels], return_inverse=True, return_counts=True
    )
    place = np.empty(len(order))
    for number, size in enumerate(sizes):
        place[order[kind[order] == number]] = (np.arange(size) + rng.random(size)) / size
    return np.asarray(np.argsort(place), np.int64)


def first_of_each(group: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Returns which rows, (n,), are among the first `count` of their group, (n,)."""
    by_group = np.argsort(group, kind="stable")
    _, starts, sizes = np.unique(group[by_group], return_index=True, return_counts=True)
    place = np.empty(len(group), np.int64)
    place[by_group] = np.arange(len(group)) - np.repeat(starts, sizes)
    return np.asarray(place < count)


def shuffle_window(settings: TrainConfig, parts: Sequence[Part]) -> int:
    """Returns how many rows are shuffled together at most: `shuffle_window`, or as many rows of mean size as
    `shuffle_window_mb` allows."""
    rows = max(1, sum(part.num_rows for part in parts))
    size = sum(part.num_bytes for part in parts)
    allowed = settings.shuffle_window_mb * 1_000_000 * rows // max(1, size)
    return max(1, min(settings.shuffle_window, allowed))


def held_bytes(settings: TrainConfig) -> int:
    """Returns how many bytes of rows each node that loads holds at most: twice the largest window."""
    return 2 * settings.shuffle_window_mb * 1_000_000


def num_steps(num_rows: int, batch_size: int) -> int:
    """Returns the number of steps of an epoch; no step has more than `batch_size`."""
    return -(-num_rows // batch_size)


def worker_steps(
    order: Indices, batch_size: int, rank: int, num_workers: int, *, spread: bool = False
) -> Iterator[Step]:
    """Yields a worker's part of each global batch, which are `num_steps` consecutive runs of the order.

    All workers get the same number of steps; together they get each row once, and their batches are those of
    a single worker. A worker for which a batch has no row gets the batch's first row with weight 0, because a
    network cannot be called on nothing.

    Args:
        order: (n,) global row indices.
        batch_size: largest number of rows of a global batch.
        rank: number of the worker, from 0.
        num_workers: number of workers that share each batch.
        spread: whether the batches' sizes differ by one row at most, the larger ones first; else all have
            `batch_size` rows but the last, which has the rest.
    """
    if spread:
        batches = np.array_split(order, num_steps(len(order), batch_size))
    else:
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    largest = 1
    for batch in batches:
        part = np.array_split(batch, num_workers)[rank]
        largest = max(largest, len(part))  # that of the first batch
        if len(part):
            yield Step(part, 1.0, len(batch), largest)
        else:
            yield Step(batch[:1], 0.0, len(batch), largest)


def locate(rows: Indices, rows_per_part: Sequence[int]) -> tuple[Indices, Indices]:
    """Returns the part number (n,) and the row within its part (n,) of global row indices (n,)."""
    ends = np.cumsum(np.asarray(rows_per_part, np.int64))
    parts = np.searchsorted(ends, rows, side="right")
    return parts, rows - (ends[parts] - np.asarray(rows_per_part, np.int64)[parts])
