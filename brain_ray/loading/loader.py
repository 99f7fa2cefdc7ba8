"""Data loader: batches from Parquet rows, which Ray Data decodes ahead of the training step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import DataContext

from brain_ray.cluster.capacity import LOADING_CPUS, cpus
from brain_ray.cluster.cpu_work import bound_executions
from brain_ray.config import Config
from brain_ray.data.histogram_matching import match_histograms
from brain_ray.data.parts import Part, Rows
from brain_ray.loading.blocks import decode_plan, read_block, task_rows
from brain_ray.loading.sampler import (
    Indices,
    Step,
    epoch_order,
    first_of_each,
    locate,
    shuffle_window,
    worker_steps,
)


@dataclass(frozen=True)
class Batch:
    """One worker's part of one global batch."""

    inputs: NDArray[np.uint8] | NDArray[np.float32]
    """Images, (n, height, width, 1) uint8, 0..255; or their features, (n, channels) float32."""
    labels: NDArray[np.int64]
    """(n,), indices into the classes."""
    sample_weight: NDArray[np.float32]
    """(n,), 1 for a row that counts, 0 for a row that fills an empty part."""
    total: int
    """Number of rows of the global batch, over all workers."""
    largest: int = 0
    """Number of rows of the worker's largest batch in the epoch; 0: not known."""
    masks: NDArray[np.uint8] | None = None
    """Masks of the tumours, (n, height, width) of `mask_size`, 255 inside; None: outlines are not learned."""
    outlined: NDArray[np.float32] | None = None
    """(n,), 1 for an image whose mask is known, else 0."""


FEW_ROWS = 32
"""Number of rows below which tasks are not made smaller: Ray needs some 10 ms of CPU time for each task."""

TASKS_PER_PLACE = 4
"""Tasks for each place that loading has, if there are rows enough: with fewer, places are idle at the end."""

READ_AHEAD = 4
"""Parts (files) are read the shuffle window's rows divided by this before they are needed."""


@dataclass(frozen=True)
class Loader:
    """Loader of one split."""

    config: Config
    rows: Rows
    store: Any
    """Handle of the `PartStore` actor."""

    @property
    def parts(self) -> Sequence[Part]:
        """Files that hold the rows."""
        return self.rows.parts

    def steps(self, epoch: int | None, rank: int, num_workers: int, first: int = 0) -> Iterator[Step]:
        """Yields a worker's part of each batch of an epoch (None: of the rows in their order), from the step
        `first` on."""
        return self.cut_order(self.order(epoch), epoch, rank, num_workers, first)

    def cut_order(
        self, order: Indices, epoch: int | None, rank: int, num_workers: int, first: int = 0
    ) -> Iterator[Step]:
        """Yields a worker's part of each batch of an epoch, whose order, (n,), is known."""
        train = self.config.train
        spread = epoch is not None and train.last_batch == "spread"
        steps = worker_steps(order, train.step_images, rank, num_workers, spread=spread)
        return islice(steps, first, None)

    def order(self, epoch: int | None) -> Indices:
        """Returns the global row indices, (n,), in the order of an epoch (None: in their own)."""
        counts, chosen = [part.num_rows for part in self.parts], self.rows.chosen
        if epoch is None:
            order = np.arange(sum(counts))
        else:
            labels = [part.label for part in self.parts]
            order = epoch_order(counts, self.config.seed, epoch, self.window, labels)
        order = order if chosen is None else order[chosen[order]]
        per_group, group = self.config.train.rows_per_group, self.rows.group
        if epoch is None or per_group is None or group is None:
            return order
        return order[first_of_each(group[order], per_group)]

    @property
    def window(self) -> int:
        """Number of rows that are shuffled together, at most."""
        return shuffle_window(self.config.train, self.parts)


@dataclass(frozen=True)
class ImageLoader(Loader):
    """Loader of one split's images."""

    def batches(
        self, epoch: int | None, rank: int = 0, num_workers: int = 1, first: int = 0
    ) -> Iterator[Batch]:
        """Yields one worker's batches, from an execution of Ray Data of its own.

        Args:
            epoch: rows are shuffled and augmented by the draws of this epoch; None: neither, for validation.
            rank: number of the worker.
            num_workers: number of workers that share each batch.
            first: step of the epoch, from 0, with which to begin.

        Raises:
            RunError: a row cannot be decoded.
        """
        blocks = self._decode([self._rows(self.order(epoch), epoch, rank, num_workers, first)], epoch)
        yield from self.cut((ray.get(block) for _, block in blocks), epoch, rank, num_workers, first)

    def blocks(self, epoch: int | None, num_workers: int, first: int = 0) -> Iterator[tuple[int, Any]]:
        """Decodes the rows of all workers in one execution of Ray Data; `epoch`, `first` as for `batches`.

        Yields:
            The number of a worker and the reference of its next block; the workers take turns.
        """
        order = self.order(epoch)
        ranks = range(num_workers)
        return self._decode([self._rows(order, epoch, rank, num_workers, first) for rank in ranks], epoch)

    def cut(
        self, blocks: Iterator[pa.Table], epoch: int | None, rank: int, num_workers: int, first: int = 0
    ) -> Iterator[Batch]:
        """Cuts a worker's blocks into its batches.

        Raises:
            RunError: a row cannot be decoded.
        """
        held = read_block(next(blocks), self.config)
        share = self.config.train.histogram_matching
        for number, step in enumerate(self.steps(epoch, rank, num_workers, first), start=first):
            size = len(step.rows)
            if len(held[0]) < size:
                pieces, found = [held], len(held[0])
                while found < size:
                    pieces.append(read_block(next(blocks), self.config))
                    found += len(pieces[-1][0])
                held = tuple(np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
            images, labels, *of_outlines = (array[:size] for array in held)
            if epoch is not None and share:
                rng = np.random.default_rng([self.config.seed, epoch, number, rank])
                images = match_histograms(images, share, rng)
            weights = np.full(size, step.weight, np.float32)
            yield Batch(images, labels, weights, step.total, step.largest, *of_outlines)
            held = tuple(array[size:] for array in held)

    def _rows(self, order: Indices, epoch: int | None, rank: int, num_workers: int, first: int) -> Indices:
        return np.concatenate([step.rows for step in self.cut_order(order, epoch, rank, num_workers, first)])

    def _decode(self, workers: Sequence[Indices], epoch: int | None) -> Iterator[tuple[int, Any]]:
        size = _rows_of_a_task(self.config, sum(map(len, workers)), cpus())
        turns = [
            (worker, rows[start : start + size])
            for start in range(0, max(map(len, workers)), size)
            for worker, rows in enumerate(workers)
            if start < len(rows)
        ]
        counts = [part.num_rows for part in self.parts]
        plans = [
            pa.table({"part": part.astype(np.int32), "row": row.astype(np.int32)})
            for part, row in (locate(rows, counts) for _, rows in turns)
        ]
        read = self._parts_to_read(plans)
        blocks = execute(
            decode_plan, plans, parts=list(self.parts), store=self.store, config=self.config, epoch=epoch
        )
        for number, ((worker, _), block) in enumerate(zip(turns, blocks, strict=True)):
            if number in read:
                self.store.get.remote(read[number])
            yield worker, block

    def _parts_to_read(self, plans: Sequence[pa.Table]) -> dict[int, list[Part]]:
        """Returns the parts (files) to be read when a block is used, by its number, so that they are there
        when a later one needs them."""
        first_rows = np.cumsum([0, *map(len, plans)])[:-1]
        groups = first_rows // max(1, self.window // READ_AHEAD)
        starts = np.flatnonzero(np.diff(groups, prepend=-1)).tolist()
        needed = [
            [self.parts[part] for part in pa.concat_tables(plans[a:b])["part"].unique().to_pylist()]
            for a, b in pairwise([*starts, len(plans)])
        ]
        return dict(zip(starts, needed[1:], strict=False))


def execute(task: Callable[..., pa.Table], blocks: list[pa.Table], **arguments: Any) -> Iterator[Any]:
    """Yields the references of what a task makes of each block, in order, by one execution of Ray Data."""
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    bound_executions(cpus())  # a training asks for its nodes itself
    dataset = ray.data.from_blocks(blocks).map_batches(
        task,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=LOADING_CPUS,
        fn_kwargs=arguments,
    )
    for bundle in dataset.iter_internal_ref_bundles():
        for entry in bundle.blocks:
            yield entry.ref


def _rows_of_a_task(config: Config, num_rows: int, num_cpus: int) -> int:
    """Returns how many of an execution's rows a task decodes."""
    enough = int(num_rows * LOADING_CPUS / (TASKS_PER_PLACE * num_cpus))
    return min(task_rows(config.model), max(FEW_ROWS, enough))
