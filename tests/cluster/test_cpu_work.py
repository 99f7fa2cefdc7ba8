"""Work on CPUs stays within its bound; tests/test_cluster_files.py has what Ray's scheduler starts for it."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
import ray.data

from brain_ray.cluster import cpu_work
from brain_ray.cluster.cpu_work import bound_executions, tasks_at_a_time
from brain_ray.cluster.tasks import run_tasks

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(autouse=True)
def unbound() -> Iterator[None]:
    yield
    bound_executions(None)


def naps(count: int) -> tuple[Any, Any]:
    """Returns when the tasks of an execution started and ended, (count,) each."""

    def nap(batch: dict[str, Any]) -> dict[str, Any]:
        start = time.time()
        time.sleep(0.3)
        return {"start": [start], "end": [time.time()]}

    blocks = ray.data.range(count, override_num_blocks=count)
    rows = blocks.map_batches(nap, batch_size=None, num_cpus=1).take_all()
    starts, ends = (np.array([row[name] for row in rows]) for name in ("start", "end"))
    assert len(rows) == count
    return starts, ends


def test_an_execution_uses_no_more_cpus_than_its_bound() -> None:
    bound_executions(2.0)
    starts, ends = naps(6)
    assert max(((starts <= start) & (start < ends)).sum() for start in starts) <= 2


def test_an_execution_has_its_cpus_from_the_beginning() -> None:
    bound_executions(4.0)
    naps(1)  # Ray Data starts what it needs once
    starts, ends = naps(8)
    assert (starts < ends.min()).sum() > 1


def test_no_more_tasks_wait_than_nodes_without_gpus_have_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tasks_at_a_time() == 16  # nothing starts nodes here
    launcher = {
        "max_workers": 8,
        "head_node_type": "head",
        "available_node_types": {
            "cpu": {"max_workers": 1, "resources": {"CPU": 3}},
            "gpu": {"max_workers": 4, "resources": {"CPU": 4, "GPU": 1}},
        },
    }
    monkeypatch.setattr(cpu_work, "launcher_config", lambda: launcher)
    assert tasks_at_a_time() == 7  # 4 of the node that runs, 3 of one that may come

    @ray.remote(num_cpus=1)
    def work() -> None:
        time.sleep(0.5)

    started: list[float] = []

    def start(_: int) -> Any:
        started.append(time.monotonic())
        return work.remote()

    begun = time.monotonic()
    assert len(list(run_tasks(start, range(8)))) == 8
    assert sum(at - begun < 0.4 for at in started) == 7
