"""Work on CPUs stays within its bound; tests/test_cluster_files.py has what Ray's scheduler starts for it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import ray
import ray.data
from ray.data import DataContext
from ray.data._internal.cluster_autoscaler import RateBasedClusterAutoscaler
from ray.data._internal.cluster_autoscaler.base_autoscaling_coordinator import STANDARD_RESOURCE_TYPES
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)
from ray.data._internal.execution.execution_callback import ExecutionCallback

from brain_ray.cluster import cpu_work
from brain_ray.cluster.capacity import LOADING_CPUS
from brain_ray.cluster.cpu_work import bound_executions, keep_trials_share, tasks_at_a_time, trials_share
from brain_ray.cluster.tasks import run_tasks
from brain_ray.config import TrainConfig

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


def most_at_once(starts: Any, ends: Any) -> int:
    return int(max(((starts <= start) & (start < ends)).sum() for start in starts))


def test_an_execution_uses_no_more_cpus_than_its_bound() -> None:
    bound_executions(2.0)
    starts, ends = naps(6)
    assert most_at_once(starts, ends) <= 2


def test_an_execution_has_its_cpus_from_the_beginning() -> None:
    bound_executions(4.0)
    naps(1)  # Ray Data starts what it needs once
    starts, ends = naps(8)
    assert (starts < ends.min()).sum() > 1


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nine executions elsewhere, as those of a sweep's trials: this one gets none of the four CPUs."""
    for name in ("get_total_resources", "on_executor_shutdown"):  # restores what is changed below
        monkeypatch.setattr(RateBasedClusterAutoscaler, name, getattr(RateBasedClusterAutoscaler, name))
    coordinator: Any = get_or_create_autoscaling_coordinator()
    others = [f"other {number}" for number in range(9)]
    asked = {"resources": [], "expire_after_s": 60.0, "request_remaining": STANDARD_RESOURCE_TYPES}
    ray.get([coordinator.request_resources.remote(requester_id=each, **asked) for each in others])
    yield
    ray.get([coordinator.cancel_request.remote(each) for each in others])


@pytest.mark.usefixtures("crowded")
def test_an_execution_pauses_while_its_blocks_wait_to_be_taken() -> None:
    looks: list[float] = []

    class Count(ExecutionCallback):
        def on_execution_step(self, executor: Any) -> None:
            looks.append(time.monotonic())

    for _ in range(2):  # the second time changes nothing
        bound_executions(4.0)
    context = DataContext.get_current()
    context.custom_execution_callback_classes.append(Count)
    try:
        blocks = ray.data.range(8, override_num_blocks=8).map_batches(lambda batch: batch, batch_size=None)
        taken = blocks.iter_internal_ref_bundles()
        next(taken)
        time.sleep(1.0)
        looks.clear()
        time.sleep(1.0)
        assert 1 <= len(looks) <= 20
        assert len(list(taken)) == 7
    finally:
        context.custom_execution_callback_classes.remove(Count)


@pytest.mark.usefixtures("crowded")
def test_executions_of_a_process_have_its_share_beside_those_of_many_others() -> None:
    bound_executions(4.0)
    assert most_at_once(*naps(4)) == 1
    keep_trials_share(TrainConfig(cpus_per_worker=2), 1)  # of a node of four CPUs
    assert most_at_once(*naps(6)) == 2
    with ThreadPoolExecutor(2) as both:  # an epoch's last batches, and the next epoch's first
        found = [np.concatenate(times) for times in zip(*both.map(naps, [9, 9]), strict=True)]
    assert most_at_once(*found) <= 3, "two of the first, until it knows of the second"
    keep_trials_share(TrainConfig(cpus_per_worker=0.5), 1)  # the process takes another trial
    assert most_at_once(*naps(8)) > 2


def test_trials_share_what_they_leave_of_their_node() -> None:
    assert trials_share(4.0, 1.0, 1) == 3.0
    assert trials_share(16.0, 1.0, 4) == 3.0
    assert trials_share(2.0, 1.0, 2) == LOADING_CPUS, "one task"


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
