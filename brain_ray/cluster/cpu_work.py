"""Bounds for work on CPUs: it asks for no more than nodes without GPUs can give, so that it starts no others.

Ray's autoscaler prefers nodes without GPUs for tasks on CPUs, but starts the others too when more wait than
these can take.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray.data import DataContext, ExecutionResources

from brain_ray.cluster.capacity import LOADING_CPUS, Nodes, cpus, per_worker, running_nodes
from brain_ray.cluster.private_data import keep_share, look_for_room, pause_while_full
from brain_ray.cluster.worker_groups import HEAD, launcher_config

if TYPE_CHECKING:
    from brain_ray.config import TrainConfig

TASKS_PER_CPU = 4
"""Tasks that wait or run at a time for each CPU, where no node is started for them."""

LOOK_S, FIRST_S = 0.1, 2.0
"""Seconds after which an execution of Ray Data looks again how many CPUs it has, for its first seconds."""


def cpus_without_new_gpus(config: Mapping[str, Any], running: Nodes) -> float:
    """Returns the CPUs of the nodes that run, and of those without a GPU that may be started beside them.

    Args:
        config: the config of Ray's cluster launcher.
        running: resources of each node that runs.
    """
    workers = [node for node in running if HEAD not in node]
    to_come: list[float] = []
    for name, kind in config.get("available_node_types", {}).items():
        resources = kind.get("resources", {})
        if name != config.get("head_node_type") and not resources.get("GPU"):
            most = int(kind.get("max_workers", config.get("max_workers", 0)))
            to_come += [float(resources.get("CPU", 0.0))] * most
    started = sum(not node.get("GPU") for node in workers)  # the largest ones, if kinds differ
    free = max(0, int(config.get("max_workers", 0)) - len(workers))
    later = sorted(to_come, reverse=True)[started:][:free]
    return sum(node.get("CPU", 0.0) for node in running) + sum(later)


def most_cpus() -> float | None:
    """Returns how many CPUs work on CPUs may ask for; None where no nodes are started, or it is unknown
    which."""
    config = launcher_config()
    return None if config is None else cpus_without_new_gpus(config, running_nodes())


def tasks_at_a_time() -> int:
    """Returns how many tasks of a CPU each may wait or run at a time."""
    most = most_cpus()
    tasks = TASKS_PER_CPU * cpus()
    return tasks if most is None else max(1, min(tasks, int(most)))


def bound_executions(most: float | None) -> None:
    """Bounds the CPUs that later executions of Ray Data in this process use and ask for; None: no bound.

    They have all of them from the beginning, not one task at a time until they have looked again, and use
    none while their blocks wait to be taken.
    """
    context = DataContext.get_current()
    look_for_room(LOOK_S, FIRST_S)
    pause_while_full(context)
    context.execution_options.resource_limits = ExecutionResources.for_limits(cpu=most)


def keep_trials_share(settings: "TrainConfig", processes: int) -> None:
    """Lets this process, one of so many on its node that each train alone, load with its share of the node's
    CPUs, however many trials run on other nodes."""
    node = ray.get_runtime_context().get_node_id()
    (here,) = (found["Resources"].get("CPU", 0.0) for found in ray.nodes() if found["NodeID"] == node)
    keep_share(trials_share(here, per_worker(settings)["CPU"], processes))


def trials_share(cpus: float, of_each: float, processes: int) -> float:
    """Returns the CPUs for the loading of each process, of those that a node with `processes` of `of_each`
    CPUs has left; at least for one task."""
    return max(LOADING_CPUS, cpus / processes - of_each)
