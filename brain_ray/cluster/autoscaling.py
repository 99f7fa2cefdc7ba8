"""Autoscaling: how far the cluster can grow, and waiting for the nodes that it starts."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray

from brain_ray.cluster import private, private_data
from brain_ray.cluster.capacity import LOADING_CPUS, Nodes, check_resources, per_worker, running_nodes
from brain_ray.cluster.node_request import NodeRequest, places, places_on_demand
from brain_ray.cluster.waiting import NODES_TIMEOUT_S, RoomWatch, WaitLines
from brain_ray.cluster.worker_groups import HEAD, launcher_config
from brain_ray.config import TrainConfig
from brain_ray.errors import RunError
from brain_ray.logs import log


def nodes_to_come() -> Nodes | None:
    """Returns the nodes that the autoscaler may start, all at once; None if it is unknown which, as on
    Kubernetes where `WORKER_GROUPS` does not state them."""
    config = launcher_config()
    if config is not None:
        return startable_nodes(config, [node for node in running_nodes() if HEAD not in node])
    return None if "KUBERNETES_SERVICE_HOST" in os.environ else ()


def startable_nodes(config: Mapping[str, Any], running: Nodes) -> Nodes:
    """Returns the nodes that a launcher's config allows beside the `running` workers."""
    most = int(config.get("max_workers", 0))
    there = Counter(map(_size, running))
    nodes: list[Mapping[str, float]] = []
    for name, kind in config.get("available_node_types", {}).items():
        if name != config.get("head_node_type"):
            resources = kind.get("resources", {})
            count = min(most, int(kind.get("max_workers", most))) - there.pop(_size(resources), 0)
            nodes += [resources] * count
    # Of many, the large ones are counted on: the autoscaler ends others that have no work.
    nodes.sort(key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), reverse=True)
    return nodes[: max(0, most - len(running))]


def _size(node: Mapping[str, float]) -> tuple[float, float]:
    return node.get("CPU", 0.0), node.get("GPU", 0.0)


def check_room(settings: TrainConfig) -> str:
    """Checks that the workers have room on nodes that run or may be started.

    Returns a line on the nodes to wait for, or "" if there is room already.

    Raises:
        RunError: there will never be room.
    """
    return check_now_or_later(partial(check_resources, settings), "training")


def check_now_or_later(
    check: Callable[[Nodes], None],
    what: str,
    running: Callable[[], Nodes] = running_nodes,
    to_come: Callable[[], Nodes | None] = nodes_to_come,
) -> str:
    """Checks that some work has room on the nodes that run, or on those that may be started.

    Args:
        check: function that raises `RunError` if some nodes do not suffice.
        what: name of the work that starts the nodes.
        running: function that returns the nodes that run.
        to_come: as `nodes_to_come`.

    Returns a line on the nodes to wait for, or "" if there is room already.

    Raises:
        RunError: there will never be room.
    """
    there = running()
    try:
        check(there)
    except RunError as error:
        more = to_come()
        if more is None:
            return f"nodes are asked for when {what} starts"
        if not more:
            raise
        try:
            check([*there, *more])
        except RunError:
            raise RunError(
                f"{error}; the autoscaler may start {len(more)} node(s) more, and they do not suffice"
            ) from error
        return f"{len(more)} node(s) can be started, and are when {what} starts"
    return ""


def request_nodes(
    settings: TrainConfig, nodes_s: float = NODES_TIMEOUT_S, sign_s: float = 60.0, look_s: float = 1.0
) -> None:
    """Makes the autoscaler start the nodes that the workers need, and waits for them.

    Returns at once if there is room already, or if nothing starts nodes.

    Args:
        settings: settings of the workers.
        nodes_s: seconds to wait for the nodes.
        sign_s: seconds to wait for a sign of any node, if it is unknown which may come.
        look_s: seconds between two checks of the cluster.

    Raises:
        RunError: the nodes cannot come, or did not come in time.
    """
    if not check_room(settings):
        return
    worker = _of_worker(settings)
    workers = settings.min_workers
    what = f"{workers} x {worker['CPU']:g} CPUs" + (f" and {workers} GPUs" if settings.use_gpu else "")
    lines = WaitLines(
        begins="asks the autoscaler for room for {what}, and waits for its nodes",
        ends="the nodes are there after {waited:.0f} s",
        no_room="{lacking}",
        no_nodes=f"the nodes for {{what}} did not come within {nodes_s / 60:.0f} minutes: `ray status` on "
        "the head node says why; the same command goes on from here",
    )
    check, ask = partial(_check_requested, settings), partial(ask_for_nodes, settings)
    watch = RoomWatch(what, check, sign_s, nodes_s=nodes_s, lines=lines, ask=ask)
    try:
        if line := watch.look():
            log.info(line)
        while watch.waits:
            time.sleep(look_s)
            if line := watch.look():
                log.info(line)
    finally:
        watch.close()


def ask_for_nodes(settings: TrainConfig) -> NodeRequest:
    """Asks the autoscaler for the nodes that the workers need, with loading beside them."""
    worker = _of_worker(settings)
    on_demand = places_on_demand(launcher_config(), worker)
    return NodeRequest(worker, settings.min_workers, [{"CPU": LOADING_CPUS}], on_demand=on_demand)


def ask_beside_ray_train(settings: TrainConfig) -> NodeRequest:
    """Asks for nodes on demand once a launch has failed, for workers that Ray Train asks for already."""
    worker = _of_worker(settings)
    on_demand = places_on_demand(launcher_config(), worker)
    nodes = [*running_nodes(), *(nodes_to_come() or ())]
    beyond = sum(places(node, worker) for node in nodes) - settings.max_workers
    return NodeRequest(worker, settings.min_workers, on_demand=on_demand, beyond=max(0, beyond))


def ask_for_trials(resources: Mapping[str, float], most: int) -> NodeRequest:
    """Asks for nodes on demand once a launch has failed, for trials that Ray Tune asks for already.

    The autoscaler adds nothing up here: a node that is started for this request takes a trial that waits.

    Args:
        resources: those of a trial.
        most: largest number of trials at a time.
    """
    on_demand = places_on_demand(launcher_config(), resources)
    return NodeRequest(resources, most, on_demand=on_demand, beyond=most)


def _of_worker(settings: TrainConfig) -> dict[str, float]:
    return per_worker(settings) | ({"GPU": 1.0} if settings.use_gpu else {})


def _check_requested(settings: TrainConfig) -> str:
    """Checks that the workers have room, after nodes were requested.

    Returns a line on the nodes to wait for, or "" if there is room already.

    Raises:
        RunError: there is no room, and no sign of new nodes.
    """
    try:
        check_resources(settings)
    except RunError:
        if nodes_to_come() is None and not private.nodes_are_coming():
            raise
        return "nodes were asked for"
    return ""


@contextmanager
def room_for_loading(
    settings: TrainConfig, requester: str, renew_s: float = 2.0, kept_s: float = 60.0
) -> Iterator[None]:
    """Context manager: keeps CPUs for loading free of an elastic group, and makes Ray notice lost nodes soon.

    Ray Train sizes such a group by the reservation of Ray's autoscaling coordinator, out of all CPUs of the
    nodes, used or not. So loading reserves its share there, and does so first. The coordinator itself looks
    at the nodes every 20 s; with an older view, a group is planned on a lost node, and waited for in vain.

    Args:
        settings: settings of the training.
        requester: the loading's name at the coordinator.
        renew_s: seconds after which the reservation is renewed.
        kept_s: seconds after which the reservation expires if it is not renewed.
    """
    reservation = (
        private_data.reserve(requester, [{"CPU": LOADING_CPUS}], kept_s) if settings.elastic else None
    )
    if reservation is None:
        if settings.elastic:
            log.warning(
                "this version of Ray keeps no CPUs free for loading: workers that take all of them wait for "
                "batches for ever; set train.num_workers to one number"
            )
        yield
        return
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(renew_s):
            reservation.renew()

    ray.get(reservation.renew())
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        reservation.cancel()
