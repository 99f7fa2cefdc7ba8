"""Uses of Ray Data's private APIs (2.60), where no public one exists; without them, brain_ray does less.

As in `brain_ray.cluster.private`, each function documents what is lost if Ray has moved an API that it uses.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakSet

LOOKS = "GLOBAL_LIMITS_UPDATE_INTERVAL_S"
"""Constant of Ray's `ResourceManager`: seconds between two looks."""

PAUSE_S = 0.1
"""Seconds between two looks of an execution of Ray Data for ended tasks, while some run."""

SHARE = "_brain_ray_share"
"""Our attribute of Ray's class that sizes executions: the CPUs that `keep_share` was told."""


class Reservation(NamedTuple):
    """Resources that Ray's autoscaling coordinator has nodes started for, and keeps free of Ray Train's
    elastic groups and of Ray Data."""

    renew: Callable[[], Any]
    """Renews the reservation, and makes the coordinator look at the nodes; returns a reference to all
    reservations."""
    cancel: Callable[[], Any]


def reserve(
    requester: str,
    bundles: Sequence[Mapping[str, float]],
    kept_s: float,
    labels: Sequence[Mapping[str, str]] | None = None,
    first: bool = True,
) -> Reservation | None:
    """Returns a reservation, which expires `kept_s` seconds after it was renewed.

    The coordinator alone may ask the autoscaler for nodes: every 20 s it replaces what others asked for.
    Without Ray's `default_autoscaling_coordinator`: None, so that an elastic group may take all CPUs, and
    whoever asks for nodes has to do that itself.

    Args:
        requester: name of the reservation at the coordinator.
        bundles: resources; each has to be on one node.
        kept_s: seconds.
        labels: for each bundle, labels that its node has to have.
        first: whether it gets resources before Ray Train and Ray Data, or after them.
    """
    try:
        from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
            ResourceRequestPriority,
            get_or_create_autoscaling_coordinator,
        )

        coordinator: Any = get_or_create_autoscaling_coordinator()
        request, reserved = coordinator.request_resources, coordinator.get_reserved_resources
        cancel = coordinator.cancel_request
    except (ImportError, AttributeError):
        return None

    def renew() -> Any:
        request.remote(
            requester_id=requester,
            resources=[dict(bundle) for bundle in bundles],
            expire_after_s=kept_s,
            priority=ResourceRequestPriority.HIGH if first else ResourceRequestPriority.LOW,
            label_selectors=None if labels is None else [dict(each) for each in labels],
        )
        return reserved.remote(requester, recompute=True)

    return Reservation(renew, partial(cancel.remote, requester))


def look_for_room(every_s: float, first_s: float) -> None:
    """Makes later executions of Ray Data in this process look at once, and not a second later, for the room
    they have.

    They look each second, and the first time before they can know, so that without this each execution of
    Ray Data runs one task at a time for its first second. Without Ray's `ResourceManager`: it stays so.

    Args:
        every_s: seconds between two looks at the beginning of an execution.
        first_s: seconds for which that is so: all executions of the cluster ask one actor.
    """
    try:
        from ray.data._internal.execution.resource_manager import ResourceManager
    except ImportError:
        return
    usual = getattr(ResourceManager, LOOKS, None)
    if not isinstance(usual, int | float):  # done before, or Ray has another way
        return

    def interval(manager: Any) -> float:
        started = vars(manager).setdefault("_started_looking", time.monotonic())
        return every_s if time.monotonic() - started < first_s else usual

    setattr(ResourceManager, LOOKS, property(interval))


def pause_while_full(context: Any) -> None:
    """Makes later executions of Ray Data under a `DataContext` pause while their consumer has blocks to take
    and they have nothing to do.

    They look for ended tasks every 0.1 s. If none runs and none may start, since no CPU is free or the memory
    is full, they look without a pause until the consumer has taken what there is: that keeps a core of its
    process busy, and Python's lock from a training's steps (2,500 looks a second, seen with Ray 2.60).
    Without Ray's `ExecutionCallback`: it stays so.
    """
    try:
        from ray.data._internal.execution.execution_callback import ExecutionCallback
    except ImportError:
        return
    kept = getattr(context, "custom_execution_callback_classes", None)
    if kept is not None and not any(issubclass(kind, _Pause) for kind in kept):
        kept.append(type("Pause", (_Pause, ExecutionCallback), {}))


class _Pause:
    """Waits after a look that did not wait itself, until the consumer has taken all; called after each."""

    def __init__(self) -> None:
        self._looked = time.monotonic()

    def on_execution_step(self, executor: Any) -> None:
        has_nothing_to_take = getattr(executor, "_consumer_idling", lambda: True)
        now = time.monotonic()
        end = now + PAUSE_S if now - self._looked < PAUSE_S / 2 else now
        while time.monotonic() < end and not has_nothing_to_take():
            time.sleep(PAUSE_S / 10)
        self._looked = time.monotonic()


def keep_share(cpus: float) -> None:
    """Gives later executions of Ray Data in this process so many CPUs, if they would have fewer.

    Ray's coordinator divides each node's free CPUs among all executions of the cluster, rounded down: with
    one for each of a sweep's trials, none is left on small nodes. While two of the process are open, each has
    half. Without Ray's `RateBasedClusterAutoscaler`: it stays so, and each loads one task at a time.

    Args:
        cpus: those that nobody else in the cluster counts on.
    """
    try:
        from ray.data._internal.cluster_autoscaler import RateBasedClusterAutoscaler as Autoscaler

        given, end = Autoscaler.get_total_resources, Autoscaler.on_executor_shutdown
    except (ImportError, AttributeError):
        return
    patched = hasattr(Autoscaler, SHARE)
    setattr(Autoscaler, SHARE, cpus)
    if patched:  # this process has trained before
        return
    opened: WeakSet[Any] = WeakSet()

    def get_total_resources(autoscaler: Any) -> Any:
        opened.add(autoscaler)
        found = given(autoscaler)
        return found.copy(cpu=max(found.cpu, getattr(Autoscaler, SHARE) / len(opened)))

    def on_executor_shutdown(autoscaler: Any) -> None:
        opened.discard(autoscaler)
        end(autoscaler)

    Autoscaler.get_total_resources = get_total_resources
    Autoscaler.on_executor_shutdown = on_executor_shutdown
