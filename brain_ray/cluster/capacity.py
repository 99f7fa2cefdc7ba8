"""Room for workers, and for loading beside them: what a cluster must have, and what it keeps free."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from brain_ray.config import TrainConfig
from brain_ray.loading.loader import LOADING_CPUS
from brain_ray.runs import RunError

RENEWED = 2.0
"""Seconds after which the place kept for loading is asked for anew."""

KEPT = 60.0
"""Seconds for which it stays kept when nobody asks any more."""


def per_worker(settings: TrainConfig) -> dict[str, float]:
    """Return the resources that Ray reserves for each worker, its GPU apart.

    For an elastic group, CPUs are rounded up to a sixteenth: Ray adds them up and divides again to count the
    workers, and 0.3 + 0.3 + 0.3 holds 0.3 only twice.
    """
    cpus = settings.cpus_per_worker
    return {"CPU": math.ceil(cpus * 16) / 16 if settings.elastic else cpus}


def running_nodes() -> list[Mapping[str, float]]:
    """Return the resources of each node of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_resources(settings: TrainConfig, nodes: Sequence[Mapping[str, float]] | None = None) -> None:
    """Make sure that as many workers as are needed can run at once, and loading beside them.

    Ray would wait for ever.

    Args:
        settings: what is asked for.
        nodes: the resources of each node; None: of those that run.

    Raises:
        RunError: they cannot.
    """
    nodes = running_nodes() if nodes is None else nodes
    needed = settings.min_workers
    places = _places_beside_loading(nodes, settings)
    # Ray Train keeps room for loading on the first node that has it, whichever that is.
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


def _places_beside_loading(nodes: Sequence[Mapping[str, float]], settings: TrainConfig) -> list[int]:
    """Return how many workers the cluster holds when loading has its room, on each node that can give it."""

    def places(node: Mapping[str, float], kept_free: float) -> int:
        by_cpu = int((node.get("CPU", 0.0) - kept_free) // per_worker(settings)["CPU"])
        return max(0, min(by_cpu, int(node.get("GPU", 0.0)) if settings.use_gpu else by_cpu))

    return places_beside(nodes, LOADING_CPUS, places)


def places_beside(
    nodes: Sequence[Mapping[str, float]], kept: float, places: Callable[[Mapping[str, float], float], int]
) -> list[int]:
    """Return how many of something the cluster holds beside other work, on each node that has room for that.

    Args:
        nodes: the resources of each node.
        kept: CPUs of the other work, all on one node.
        places: tells how many a node holds when so many of its CPUs are kept free.
    """
    everywhere = sum(places(node, 0.0) for node in nodes)
    return [
        everywhere - places(node, 0.0) + places(node, kept) for node in nodes if node.get("CPU", 0.0) >= kept
    ]


def room_for_trials(settings: TrainConfig, trials_per_gpu: int) -> int:
    """Return how many trials of a sweep can run at once, with loading beside them; 0: not even one.

    On CPUs not more than there are cores: more would only slow each other down.
    """
    nodes = running_nodes()
    cores = int(sum(node.get("CPU", 0.0) for node in nodes))
    if settings.max_workers == 1:  # they share GPUs
        nodes = [{**node, "GPU": node.get("GPU", 0.0) * trials_per_gpu} for node in nodes]
    found = max(_places_beside_loading(nodes, settings), default=0) // settings.min_workers
    return found if settings.use_gpu else min(found, max(1, cores // settings.min_workers))


@contextmanager
def room_for_loading(settings: TrainConfig, requester: str) -> Iterator[None]:
    """Keep an elastic group from growing into the CPUs that loading needs, and tell it of lost nodes soon.

    Ray Train sizes such a group by what Ray's autoscaling coordinator sets aside for it, out of all CPUs of
    the nodes, used or not. So loading asks for its share there, and asks first. The coordinator looks at
    the nodes every 20 s by itself; with an older view, a group is planned on a node that is lost, and waited
    for in vain.
    """
    if not settings.elastic:
        yield
        return
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
        ResourceRequestPriority,
        get_or_create_autoscaling_coordinator,
    )

    coordinator: Any = get_or_create_autoscaling_coordinator()
    ended = threading.Event()

    def ask() -> Any:
        coordinator.request_resources.remote(
            requester_id=requester,
            resources=[{"CPU": LOADING_CPUS}],
            expire_after_s=KEPT,
            priority=ResourceRequestPriority.HIGH,
        )
        return coordinator.get_reserved_resources.remote(requester, recompute=True)

    def renew() -> None:
        while not ended.wait(RENEWED):
            ask()

    ray.get(ask())
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        coordinator.cancel_request.remote(requester)


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Return the strategy for actors that must not be lost with another node."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
