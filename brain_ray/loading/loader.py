"""Data loader: batches from Parquet rows, which Ray Data decodes ahead of the training step."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import DataContext

from brain_ray.cluster.capacity import LOADING_CPUS
from brain_ray.config import Config, ModelConfig
from brain_ray.data.dataset import Part
from brain_ray.data.rows import ROW_COLUMNS, changes_of, read_input
from brain_ray.errors import RunError
from brain_ray.loading.sampler import Step, locate
from brain_ray.loading.store import fetch


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


TASK_ROWS = 128
"""Largest number of rows that a task decodes: about a tenth of a second's work."""

TASK_PIXELS = 16_000_000
"""Approximate number of pixels that a task returns; large inputs are split into smaller pieces."""


@dataclass(frozen=True)
class Loader:
    """Loader of one worker's batches of one split."""

    config: Config
    parts: Sequence[Part]
    store: Any
    """Handle of the `PartStore` actor."""

    def batches(self, steps: Iterable[Step], epoch: int | None) -> Iterator[Batch]:
        """Yields the batches of the given steps, in order. With an epoch, rows are augmented by that epoch's
        draws.

        Raises:
            RunError: a row cannot be decoded.
        """
        windows = self._windows(steps)
        ahead = next(windows, None)
        while ahead is not None:
            now, ahead = ahead, next(windows, None)  # whose files are read meanwhile
            yield from self._load(*now, epoch)

    def _windows(self, steps: Iterable[Step]) -> Iterator[tuple[list[Step], dict[int, Any]]]:
        """Splits steps into runs of about `shuffle_window` rows; yields each with the references of its
        parts."""
        window: list[Step] = []
        rows = 0
        for step in steps:
            if window and rows + step.total > self.config.train.shuffle_window:
                yield window, self._references(window)
                window, rows = [], 0
            window.append(step)
            rows += step.total
        if window:
            yield window, self._references(window)

    def _references(self, steps: Sequence[Step]) -> dict[int, Any]:
        counts = [part.num_rows for part in self.parts]
        needed = np.unique(locate(np.concatenate([step.rows for step in steps]), counts)[0]).tolist()
        references = ray.get(self.store.get.remote([self.parts[part] for part in needed]))
        return dict(zip(needed, references, strict=True))

    def _load(
        self, steps: Sequence[Step], references: Mapping[int, Any], epoch: int | None
    ) -> Iterator[Batch]:
        blocks = self._blocks(steps, references, epoch)
        rest = next(blocks)
        for step in steps:
            size = len(step.rows)
            while len(rest["label"]) < size:
                block = next(blocks)
                rest = {name: np.concatenate([rest[name], block[name]]) for name in block}
            weights = np.full(size, step.weight, np.float32)
            yield Batch(rest["image"][:size], rest["label"][:size], weights, step.total)
            rest = {name: column[size:] for name, column in rest.items()}

    def _blocks(
        self, steps: Sequence[Step], references: Mapping[int, Any], epoch: int | None
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Runs the pipeline of some steps and yields what its tasks return, in order."""
        dataset = self._pipeline(steps, references, epoch)
        for block in dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2):
            for error in filter(None, block.pop("error")):
                raise RunError(error)
            yield block

    def _pipeline(self, steps: Sequence[Step], references: Mapping[int, Any], epoch: int | None) -> Any:
        """Builds the Ray Dataset that decodes the rows of some steps, in order."""

        context = DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        part, row = locate(np.concatenate([step.rows for step in steps]), [p.num_rows for p in self.parts])
        plan = pa.table({"part": part, "row": row})
        size = task_rows(self.config.model)
        slices = [plan.slice(start, size) for start in range(0, len(plan), size)]
        return ray.data.from_blocks(slices).map_batches(
            decode_plan,
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=LOADING_CPUS,
            fn_kwargs={"references": dict(references), "config": self.config, "epoch": epoch},
        )


def task_rows(model: ModelConfig) -> int:
    """Returns how many rows a task decodes."""
    return max(1, min(TASK_ROWS, TASK_PIXELS // (model.height * model.width)))


def decode_plan(
    plan: pa.Table, references: Mapping[int, Any], config: Config, epoch: int | None
) -> dict[str, NDArray[Any]]:
    """Decodes the rows that a plan lists by `part` and `row`.

    Returns:
        Like `decode_rows`: `image` (n, height, width, 1) uint8, `label` (n,) int64, `error` (n,) str.
    """
    parts = plan["part"].to_numpy()
    needed = np.unique(parts).tolist()
    tables = dict(zip(needed, fetch([references[part] for part in needed]), strict=True))
    rows = [
        tables[part].slice(row, 1) for part, row in zip(parts.tolist(), plan["row"].to_pylist(), strict=True)
    ]
    return decode_rows(pa.concat_tables(rows), config, epoch)


def decode_rows(rows: pa.Table, config: Config, epoch: int | None) -> dict[str, NDArray[Any]]:
    """Decodes prepared rows into `image` (n, height, width, 1) uint8, `label` (n,) int64 and `error` (n,)
    str.

    Errors are returned (empty: none) and not raised, because Ray Data would wrap them beyond recognition.
    """
    model = config.model
    pixels = np.empty((len(rows), model.height, model.width, 1), np.uint8)
    errors = np.full(len(rows), "", object)
    for i, row in enumerate(rows.select(ROW_COLUMNS).to_pylist()):
        try:
            changes = changes_of(row, config, epoch)
            pixels[i] = read_input(
                row, model.input_spec, config.data.max_pixels, config.data.read_spec, changes
            )
        except RunError as error:
            errors[i] = str(error)
    return {"image": pixels, "label": rows["label"].to_numpy(), "error": errors}


@dataclass(frozen=True)
class FeatureLoader(Loader):
    """Loader of one worker's batches of features of one split, from the files that `cache_features` wrote."""

    def _load(
        self, steps: Sequence[Step], references: Mapping[int, Any], epoch: int | None
    ) -> Iterator[Batch]:
        tables: dict[int, pa.Table] = dict(zip(references, ray.get(list(references.values())), strict=True))
        features = {part: _as_matrix(table["features"]) for part, table in tables.items()}
        labels = {part: table["label"].to_numpy() for part, table in tables.items()}
        counts = [part.num_rows for part in self.parts]
        for step in steps:
            parts, rows = locate(step.rows, counts)
            pairs = list(zip(parts.tolist(), rows.tolist(), strict=True))
            yield Batch(
                np.stack([features[part][row] for part, row in pairs]),
                np.array([labels[part][row] for part, row in pairs]),
                np.full(len(step.rows), step.weight, np.float32),
                step.total,
            )


def _as_matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    array = column.combine_chunks()
    values = array.storage.flatten() if isinstance(array, pa.ExtensionArray) else array.flatten()
    matrix: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return matrix
