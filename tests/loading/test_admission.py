"""What Ray's coordinator gives one execution that loads for all workers, on clusters of small nodes.

Ray's own class (2.60), without a cluster.
"""

from typing import Any

import pytest
from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator
from ray.data._internal.cluster_autoscaler.base_autoscaling_coordinator import (
    STANDARD_RESOURCE_TYPES,
    ResourceRequestPriority,
)

HEAD_CPUS, NODE_CPUS, WORKER_CPUS = 6.0, 4.0, 0.5


def given(workers: int, executions: int) -> tuple[float, float]:
    """CPUs that an execution may use, and its share of those that workers leave; a node for each worker."""
    head = {"CPU": HEAD_CPUS, "node:__internal_head__": 1.0}
    resources: list[dict[str, float]] = [head, *[{"CPU": NODE_CPUS, "GPU": 1.0}] * workers]
    nodes = [
        {"Alive": True, "NodeID": str(i), "Resources": {"memory": 1e10, "object_store_memory": 4e9, **found}}
        for i, found in enumerate(resources)
    ]
    actor_class: Any = default_autoscaling_coordinator._AutoscalingCoordinatorActor
    coordinator = actor_class(
        get_current_time=lambda: 0.0,
        send_resources_request=lambda *_, **__: None,
        get_cluster_nodes=lambda: [{"Labels": {}, **node} for node in nodes],
    )
    bundles = [{"CPU": WORKER_CPUS, "GPU": 1.0}] * workers
    coordinator.request_resources("train", bundles, 180, priority=ResourceRequestPriority.HIGH)
    for number in range(executions):
        coordinator.request_resources(f"data-{number}", [], 180, request_remaining=STANDARD_RESOURCE_TYPES)
    found = coordinator.get_reserved_resources("data-0")
    free = sum(node["CPU"] for node in resources) - workers * WORKER_CPUS
    return sum(node.get("CPU", 0.0) for node in found.values()), free / executions


@pytest.mark.parametrize("workers", [4, 16, 64])
def test_one_execution_gets_what_workers_leave(workers: int) -> None:
    """All whole CPUs of each node: the coordinator rounds down."""
    cpus, fair = given(workers, 1)
    assert cpus == HEAD_CPUS + 3 * workers
    assert cpus > 0.85 * fair


def test_two_get_half_while_the_next_epoch_is_opened() -> None:
    cpus, fair = given(16, 2)
    assert cpus > 0.5 * fair


def test_one_for_each_worker_or_trial_would_get_nothing() -> None:
    """Why there is a dispatcher, and a share that trials of a sweep keep for themselves (`keep_share`): the
    coordinator divides each node's CPUs, rounded down."""
    cpus, fair = given(16, 16)
    assert fair > 3
    assert cpus == 0
