"""Ray actor that keeps Parquet files in the object store, and `fetch`, which waits for them."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from brain_ray.cluster.capacity import LOADING_CPUS
from brain_ray.data.parts import Part
from brain_ray.runs import Run
from brain_ray.storage_retries import patiently

LATE_S = 5.0
"""Seconds of waiting for rows after which a task gives its CPUs back: the rows may have to be read again."""


class PartStore:
    """Cache of Parquet files in Ray's object store; each is read once for all workers and epochs.

    Runs as an actor. The most recently used files stay, up to `capacity` bytes together; splits that are
    smaller are read only once.
    """

    def __init__(self, run: Run, capacity: int, draw_masks: Callable[[], pa.Table] | None = None) -> None:
        """Takes the number of bytes of rows that it keeps, and what draws the masks when they are asked for:
        after a restart of the actor, which loses them, once more."""
        self._run = run
        self._capacity = capacity
        self._draw_masks = draw_masks
        self._masks: Any = None
        self._read = ray.remote(_read_part).options(num_cpus=LOADING_CPUS)
        self._held: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    def get(self, parts: Sequence[Part]) -> list[Any]:
        """Returns references to the parts' tables, which may still be being read."""
        for part in parts:
            if part.path not in self._held:
                self._held[part.path] = part.num_bytes, self._read.remote(self._run, part.path)
            self._held.move_to_end(part.path)
        references = [self._held[part.path][1] for part in parts]
        while len(self._held) > len(parts) and sum(size for size, _ in self._held.values()) > self._capacity:
            self._held.popitem(last=False)
        return references

    def masks(self) -> list[Any]:
        """Returns the reference of the masks, in a list, so that Ray does not fetch them.

        Raises:
            RunError: as `draw_masks`.
        """
        if self._masks is None:
            assert self._draw_masks is not None, "the training learns from no outlines"
            self._masks = ray.put(self._draw_masks())
        return [self._masks]


def _read_part(run: Run, path: str) -> pa.Table:
    """Returns a file's rows, each column in one piece."""
    table = patiently()(_read_file, run, path)
    whole = all(column.num_chunks == 1 for column in table.columns)
    return table if whole else table.combine_chunks()


def _read_file(run: Run, path: str) -> pa.Table:
    # By `pq.read_table` the process of the first task would import pandas.
    with run.fs.open_input_file(path) as file:
        return pq.ParquetFile(file, pre_buffer=True).read()


def fetch(references: list[Any]) -> list[Any]:
    """Returns the values of references, like `ray.get`, in a task that holds CPUs.

    Ray keeps a task's CPUs while it waits for an object that was lost with a node. If waiting tasks hold all
    CPUs, none is left to make the object again, and all wait for ever (seen with Ray 2.60). So the task waits
    for another task instead, for which Ray takes its CPUs back.
    """
    _, late = ray.wait(references, num_returns=len(references), timeout=LATE_S)
    if late:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        ray.get(ray.remote(_arrive).options(num_cpus=0, scheduling_strategy=here).remote(*late))
    found: list[Any] = ray.get(references)
    return found


def _arrive(*_: Any) -> None:
    """Does nothing; its arguments have arrived before it starts."""
