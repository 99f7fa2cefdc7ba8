"""From encoded rows in Parquet to batches of pixels: Ray Data decodes ahead of the training step."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from brain_ray.config import Config, ModelConfig
from brain_ray.data.rows import BOX, changes_of, read_input
from brain_ray.data.transforms import InputSpec
from brain_ray.loading.sampler import Batch, Step, locate
from brain_ray.runs import Run, RunError

LOADING_CPUS = 0.5
"""CPUs that a loading task reserves: so many have to be free beside the workers. Nothing that loading does
may ask for more, such as `ray.data.from_arrow`, whose tasks take a whole CPU each: it would wait for ever."""

TASK_ROWS = 128
"""Rows that a task decodes, at most: about a tenth of a second's work."""

TASK_PIXELS = 16_000_000
"""Pixels that a task returns, about: large inputs come in smaller pieces."""

LATE_S = 5.0
"""After so long a task gives its CPUs back while it waits for rows: they may have to be read again."""

COLUMNS = ["row_id", "path", "label", "bytes", *BOX, "augment_seed"]


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
    parts = parts_of(run, "dataset", split)
    if not parts:
        raise RunError(f"{run.uri('dataset', split)} has no rows: run jobs/prepare.py for this run first")
    return parts


def parts_of(run: Run, *folder: str) -> list[Part]:
    """List the Parquet files of a run's folder that have rows, in the order of their names."""
    files = run.list_files(*folder, suffix=".parquet")
    parts = [Part(file, pq.read_metadata(file, filesystem=run.fs).num_rows) for file in files]
    return [part for part in parts if part.num_rows]


class PartStore:
    """Files' rows, as they are, in Ray's object store: each is read once for all workers and epochs.

    To be run as an actor. The last used ones stay, as many as have `capacity` rows together; a split that has
    fewer is read only once.
    """

    def __init__(self, run: Run, capacity: int) -> None:
        self._run = run
        self._capacity = capacity
        self._read = ray.remote(_read_part).options(num_cpus=LOADING_CPUS)
        self._held: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    def get(self, parts: Sequence[Part]) -> list[Any]:
        """Return references to the parts' tables; they may still be on their way."""
        for part in parts:
            if part.path not in self._held:
                self._held[part.path] = part.num_rows, self._read.remote(self._run, part.path)
            self._held.move_to_end(part.path)
        references = [self._held[part.path][1] for part in parts]
        while len(self._held) > len(parts) and sum(rows for rows, _ in self._held.values()) > self._capacity:
            self._held.popitem(last=False)
        return references


def _read_part(run: Run, path: str) -> pa.Table:
    return pq.read_table(path, filesystem=run.fs, partitioning=None)


@dataclass(frozen=True)
class Loader:
    """Loads one worker's batches of one split."""

    config: Config
    parts: Sequence[Part]
    store: Any
    """Handle of the `PartStore`."""

    def batches(self, steps: Iterable[Step], epoch: int | None) -> Iterator[Batch]:
        """Yield the batches of a plan, in order. With an epoch, rows are augmented as its draws say.

        Raises:
            RunError: a row cannot be decoded.
        """
        windows = self._windows(steps)
        ahead = next(windows, None)
        while ahead is not None:
            now, ahead = ahead, next(windows, None)  # whose files are read meanwhile
            yield from self._load(*now, epoch)

    def _windows(self, steps: Iterable[Step]) -> Iterator[tuple[list[Step], dict[int, Any]]]:
        """Cut a plan into runs of steps of about `shuffle_window` rows, each with its parts' references."""
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
        """Run the pipeline of some steps; yields what its tasks return, in order."""
        dataset = self._pipeline(steps, references, epoch)
        for block in dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2):
            for error in filter(None, block.pop("error")):
                raise RunError(error)
            yield block

    def _pipeline(self, steps: Sequence[Step], references: Mapping[int, Any], epoch: int | None) -> Any:
        """Build the Ray Dataset that decodes the rows of some steps, in order."""
        from ray.data import DataContext

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
    """Return how many rows a task decodes."""
    return max(1, min(TASK_ROWS, TASK_PIXELS // (model.height * model.width)))


def decode_plan(
    plan: pa.Table, references: Mapping[int, Any], config: Config, epoch: int | None
) -> dict[str, NDArray[Any]]:
    """Decode the rows that a plan lists by `part` and `row`; as `decode_rows`."""
    parts = plan["part"].to_numpy()
    needed = np.unique(parts).tolist()
    tables = dict(zip(needed, fetch([references[part] for part in needed]), strict=True))
    rows = [
        tables[part].slice(row, 1) for part, row in zip(parts.tolist(), plan["row"].to_pylist(), strict=True)
    ]
    return decode_rows(pa.concat_tables(rows), config, epoch)


def fetch(references: list[Any]) -> list[Any]:
    """Return what references stand for, as `ray.get`, in a task that holds CPUs.

    Ray keeps a task's CPUs while it waits for an object that was lost with a node. If tasks that wait hold
    all of them, none is left to make the object again, and all wait for ever (seen with Ray 2.60). It gives
    them back to a task that waits for another one.
    """
    _, late = ray.wait(references, num_returns=len(references), timeout=LATE_S)
    if late:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        ray.get(ray.remote(_arrive).options(num_cpus=0, scheduling_strategy=here).remote(*late))
    found: list[Any] = ray.get(references)
    return found


def _arrive(*_: Any) -> None:
    """Do nothing; what a task is given has come before it starts."""


def decode_rows(rows: pa.Table, config: Config, epoch: int | None) -> dict[str, NDArray[Any]]:
    """Turn prepared rows into `image` (n, height, width, 1) uint8, `label` (n,) int64 and `error` (n,) str.

    An error is returned instead of raised (empty: none), since Ray Data would wrap it beyond recognition.
    """
    model = config.model
    spec = InputSpec(model.height, model.width, model.fit, model.crop_size)
    pixels = np.empty((len(rows), model.height, model.width, 1), np.uint8)
    errors = np.full(len(rows), "", object)
    for i, row in enumerate(rows.select(COLUMNS).to_pylist()):
        try:
            pixels[i] = read_input(row, spec, config.data.max_pixels, changes_of(row, config, epoch))
        except RunError as error:
            errors[i] = str(error)
    return {"image": pixels, "label": rows["label"].to_numpy(), "error": errors}
