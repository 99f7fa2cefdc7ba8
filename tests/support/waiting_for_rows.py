"""A program for tests: a task that holds a node's CPUs wants rows that were lost with another node.

python waiting_for_rows.py FOLDER

It waits until there is a file `lost` in FOLDER, and prints how many rows it then got.
"""

import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from brain_ray.loading import store

FOLDER = Path(sys.argv[1])


class Store:
    """Owns what is lost, on the node that stays, as the `PartStore`."""

    def get(self, node: str) -> list[Any]:
        """Have rows made on a node, if it is there."""
        there = NodeAffinitySchedulingStrategy(node, soft=True)
        made = [ray.remote(make).options(num_cpus=1, scheduling_strategy=there).remote() for _ in range(3)]
        ray.wait(made, num_returns=len(made), fetch_local=False)
        return made


def make() -> pa.Table:
    """Return rows too large to be sent with the task's result."""
    return pa.table({"row": range(100_000)})


def use(references: list[Any]) -> int:
    """Count rows, once they are lost."""
    (FOLDER / "begun").touch()
    while not (FOLDER / "lost").exists():
        time.sleep(0.05)
    return sum(len(table) for table in store.fetch(references))


def main() -> None:
    """Print the node that makes the rows, and their number when that is lost."""
    ray.init(logging_level="error")
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    alive = {node["NodeID"]: node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]}
    cpus = {name: number for name, number in alive.items() if number}
    first, second = cpus
    store = ray.remote(Store).options(num_cpus=0, scheduling_strategy=here).remote()
    made = ray.get(store.get.remote(first))
    there = NodeAffinitySchedulingStrategy(second, soft=False)
    counted = ray.remote(use).options(num_cpus=cpus[second], scheduling_strategy=there).remote(made)
    while not (FOLDER / "begun").exists():
        time.sleep(0.05)
    print("made", first, flush=True)
    print("rows", ray.get(counted), flush=True)


if __name__ == "__main__":
    main()
