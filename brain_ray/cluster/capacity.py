"""Capacity of the cluster: room for workers, trials, scoring, preparation, and for loading beside them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from brain_ray.errors import RunError

if TYPE_CHECKING:
    from brain_ray.config import Config, EvaluateConfig, TrainConfig

Nodes = Sequence[Mapping[str, float]]
"""Resources of each of some nodes."""


def per_worker(settings: "TrainConfig") -> dict[str, float]:
    """Returns the resources that Ray reserves for each worker, without its GPU.

    For an elastic group, CPUs are rounded up to a sixteenth: Ray adds them up and divides again to count the
    workers, and 0.3 + 0.3 + 0.3 holds 0.3 only twice.
    """
    cpus = settings.cpus_per_worker
    return {"CPU": math.ceil(cpus * 16) / 16 if settings.elastic else cpus}


def describe_small_stores(num_bytes: int, nodes: Nodes | None = None) -> str:
    """Returns which nodes' object stores are too small for the rows that loading holds, and what to do; "" if
    none is.

    Args:
        num_bytes: size of the rows that each node that loads holds at most.
        nodes: resources of each node; None: of the nodes that run.
    """
    nodes = running_nodes() if nodes is None else nodes
    stores = [node["object_store_memory"] for node in nodes if "object_store_memory" in node]
    small = [size for size in stores if size < num_bytes]
    if not small:
        return ""
    fitting = max(1, int(min(small) / 2e6))
    return (
        f"loading holds up to {num_bytes / 1e9:.1f} GB of rows on a node, and of {len(small)} of "
        f"{len(stores)} nodes the object store is smaller (the smallest: {min(small) / 1e9:.1f} GB): Ray "
        f"will write rows to disk. Lower train.shuffle_window_mb to {fitting}, or give Ray larger stores"
    )


def running_nodes() -> list[Mapping[str, float]]:
    """Returns the resources of each node of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_resources(settings: "TrainConfig", nodes: Nodes | None = None) -> None:
    """Checks that the smallest allowed number of workers can run at once, with loading beside them.

    Otherwise Ray would wait forever.

    Args:
        settings: settings of the workers.
        nodes: resources of each node; None: of the nodes that run.

    Raises:
        RunError: they cannot.
    """
    nodes = running_nodes() if nodes is None else nodes
    needed = settings.min_workers
    places = _places_beside_loading(nodes, settings)
    # Ray Train keeps room for loading on the first node that has it, and any node may be first.
    if places and (min(places) if settings.elastic else max(places)) >= needed:
        return
    asked = f"{'at least ' if settings.elastic else ''}{needed} x {per_worker(settings)['CPU']:g} CPUs"
    found = f"{sum(node.get('CPU', 0.0) for node in nodes):g} CPUs"
    cure = "train.num_workers or train.cpus_per_worker"
    if settings.use_gpu:
        asked += f" and {needed} GPUs"
        found += f" and {sum(node.get('GPU', 0.0) for node in nodes):g} GPUs"
        cure += ", set train.use_gpu to false"
    raise RunError(
        f"the cluster has {found} on {len(nodes)} node(s), and training asks for {asked} for its workers and "
        f"{LOADING_CPUS:g} CPUs on one node for loading: lower {cure}, or add nodes"
    )


def _places_beside_loading(nodes: Sequence[Mapping[str, float]], settings: "TrainConfig") -> list[int]:
    """Returns how many workers the cluster holds beside loading, for each node that has room for loading."""

    def places(node: Mapping[str, float], kept_free: float) -> int:
        by_cpu = int((node.get("CPU", 0.0) - kept_free) // per_worker(settings)["CPU"])
        return max(0, min(by_cpu, int(node.get("GPU", 0.0)) if settings.use_gpu else by_cpu))

    return places_beside(nodes, LOADING_CPUS, places)


def places_beside(
    nodes: Sequence[Mapping[str, float]], kept: float, places: Callable[[Mapping[str, float], float], int]
) -> list[int]:
    """Returns how many of something the cluster holds beside other work, for each node that has room for that
    work.

    Args:
        nodes: resources of each node.
        kept: CPUs of the other work, all on one node.
        places: function of a node and its CPUs to keep free; returns how many the node holds.
    """
    everywhere = sum(places(node, 0.0) for node in nodes)
    return [
        everywhere - places(node, 0.0) + places(node, kept) for node in nodes if node.get("CPU", 0.0) >= kept
    ]


def room_for_trials(settings: "TrainConfig", trials_per_gpu: int, nodes: Nodes) -> int:
    """Returns how many trials of a sweep can run at once on some nodes, with loading beside them; 0: not even
    one.

    On CPUs at most one per core: more would only slow each other down.
    """
    cores = int(sum(node.get("CPU", 0.0) for node in nodes))
    if settings.max_workers == 1:  # trials share GPUs
        nodes = [{**node, "GPU": node.get("GPU", 0.0) * trials_per_gpu} for node in nodes]
    found = max(_places_beside_loading(nodes, settings), default=0) // settings.min_workers
    return found if settings.use_gpu else min(found, max(1, cores // settings.min_workers))


def trials_at_a_time(config: "Config", running: Nodes, to_come: Nodes | None) -> tuple[int, int]:
    """Returns how many trials of a sweep run at once now, and how many once all nodes are there.

    A trial without a place makes the autoscaler start a node. Trials on CPUs start none: they would start
    nodes with GPUs, too.

    Args:
        config: settings of the trials and of the sweep.
        running: nodes that run.
        to_come: nodes that may be started; None: unknown, so that `sweep.max_concurrent` decides.

    Raises:
        RunError: there is no room for a trial.
    """
    settings, sweep = config.train, config.sweep
    now = room_for_trials(settings, sweep.trials_per_gpu, running)
    if not now:
        raise RunError(
            f"there is no room for a trial: it asks for {settings.min_workers} x "
            f"{per_worker(settings)['CPU']:g} CPUs{' and GPUs' if settings.use_gpu else ''}, and loading for "
            f"{LOADING_CPUS:g} CPUs beside it; lower train.num_workers or train.cpus_per_worker, or add nodes"
        )
    later = now
    if settings.use_gpu and to_come is None:
        later = max(now, sweep.max_concurrent or 0)
    elif settings.use_gpu:
        later = room_for_trials(settings, sweep.trials_per_gpu, [*running, *(to_come or ())])
    most = sweep.max_concurrent or later
    return min(now, most), min(later, most)


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Returns the scheduling strategy for actors that must not be lost with another node."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def cpus() -> int:
    """Returns the number of CPUs of the cluster."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


LOADING_CPUS = 0.5
"""CPUs that a loading task reserves, which have to be free beside the workers. No task of loading may reserve
more, as those of `ray.data.from_arrow` do, with a whole CPU each: it would wait forever. With whole CPUs
loading has 0.75 of the speed, since Ray Data lets them idle between tasks (docs/RESULTS.md). What the
processes, which have the lowest priority, take from TensorFlow's threads beside a GPU was not measured."""


TASK_CPUS = 1.0
"""CPUs of a task of Ray Data that prepares images, or reads rows for scoring."""


def refuse_scoring(settings: "EvaluateConfig", nodes: Nodes) -> None:
    """Checks that nodes have room for the copies of the model that score, and for reading beside them.

    Otherwise Ray Data would wait forever.

    Raises:
        RunError: they have no room.
    """
    if scoring_places(settings, nodes) < settings.num_actors:
        there, lower = _offered("CPU", nodes), "evaluate.num_actors or evaluate.cpus_per_actor"
        if settings.gpus_per_actor:
            there = f"{there} CPUs and {_offered('GPU', nodes)} GPUs"
            lower = "evaluate.num_actors, evaluate.cpus_per_actor or evaluate.gpus_per_actor"
        raise RunError(
            f"evaluation asks for {describe_scoring(settings)}, and there are {there} on the nodes: lower "
            f"{lower}"
        )


def _offered(resource: str, nodes: Nodes) -> str:
    return ", ".join(f"{node.get(resource, 0.0):g}" for node in nodes)


def scoring_places(settings: "EvaluateConfig", nodes: Nodes) -> int:
    """Returns how many copies of the model have room on some nodes, beside a task that reads rows."""

    def places(node: Mapping[str, float], kept: float) -> int:
        found = int((node.get("CPU", 0.0) - kept) // settings.cpus_per_actor)
        gpus = settings.gpus_per_actor
        # Ray shares a GPU, but no part of it reaches over two.
        return found if gpus == 0 else min(found, int(node.get("GPU", 0.0)) * int(1 / gpus))

    return max(places_beside(nodes, TASK_CPUS, places), default=0)


def refuse_preparing(nodes: Nodes) -> None:
    """Checks that a task of preparation has room on one of some nodes.

    Raises:
        RunError: it has no room.
    """
    if max((node.get("CPU", 0.0) for node in nodes), default=0.0) < TASK_CPUS:
        raise RunError(f"none of the cluster's {len(nodes)} node(s) has a CPU: add nodes")


def describe_scoring(settings: "EvaluateConfig") -> str:
    gpus = f" with {settings.gpus_per_actor:g} GPUs each" if settings.gpus_per_actor else ""
    return f"{settings.num_actors} x {settings.cpus_per_actor} CPUs{gpus} and one for reading"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _some(nodes: list[str]) -> str:
    return ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
