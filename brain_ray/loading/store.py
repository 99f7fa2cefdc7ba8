"""Actor that keeps Parquet parts in the object store."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from brain_ray.cluster.capacity import LOADING_CPUS
from brain_ray.data.dataset import Part
from brain_ray.runs import Run

LATE_S = 5.0
"""After so long a task gives its CPUs back while it waits for rows: they may have to be read again."""


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
