"""Request for nodes at the autoscaler: kept up while it is waited for, and for nodes on demand where there
are no spot ones."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import ray

from brain_ray.cluster import private, private_data

MARKET = "ray.io/market-type"
"""Label of nodes that says how they are paid for; Ray's own. The types of a launcher's file have it, too."""

ON_DEMAND = "on-demand"

KEPT_S = 60.0
"""Seconds for which a request stands that is not renewed."""

RENEW_S = 5.0


class NodeRequest:
    """Asks the autoscaler for nodes for some workers.

    Ray's autoscaler (2.60) asks again and again for the type with the highest priority, also if the cloud has
    just refused it: only a request that takes too long lowers a type's rank. So once a launch has failed, the
    workers without a place are asked for on demand.
    """

    def __init__(
        self,
        bundle: Mapping[str, float],
        count: int,
        beside: Sequence[Mapping[str, float]] = (),
        *,
        on_demand: int = 0,
        beyond: int | None = None,
        reserve: Callable[..., private_data.Reservation | None] = private_data.reserve,
        failed: Callable[[float], Mapping[str, str]] = private.failed_launches,
        nodes: Callable[[], Sequence[Mapping[str, Any]]] = ray.nodes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Asks.

        Args:
            bundle: resources of a worker, all on one node.
            count: number of workers.
            beside: further bundles, of any node.
            on_demand: how many workers nodes on demand may hold (see `places_on_demand`).
            beyond: how many workers the cluster can hold beyond those that others ask for already, as Ray
                Train does for a group that waits. Then nothing is asked for until a launch has failed, and
                then only what is to be on demand, no more than that: a wish that cannot be met would keep
                all from nodes. None: nobody else asks.
            reserve: function that reserves at Ray's coordinator.
            failed: function of a time; returns the types whose launches failed since then, and the reasons.
            nodes: function that returns Ray's nodes.
            clock: function that returns the seconds since 1970.
        """
        self.count = count
        """Number of workers; with fewer of them, fewer nodes are asked for at the next renewal."""
        self._bundle, self._beside = bundle, list(beside)
        self._on_demand, self._reserve, self._failed = on_demand, reserve, failed
        self._beyond = beyond
        self._nodes, self._clock = nodes, clock
        self.requester = f"brain_ray, nodes {uuid4().hex}"
        """Its name at the coordinator."""
        self._labelled = 0
        self._reservation: private_data.Reservation | None = None
        self._asked_directly = False
        self._since = self._renewed = clock()
        self._send()

    def renew(self) -> str:
        """Renews the request if it is time for that; returns a line if other nodes are asked for now,
        else ""."""
        now = self._clock()
        if now < self._renewed + RENEW_S:
            return ""
        self._renewed = now
        self._labelled = min(self._labelled, self.count)
        line = self._change(now) if self._on_demand else ""
        self._send()
        return line

    def cancel(self) -> None:
        """Takes the request back; nodes that have no work end after the launcher's time-out."""
        if self._reservation is not None:
            self._reservation.cancel()
        elif self._asked_directly:
            _ask_directly([], [])
        self._reservation, self._asked_directly = None, False

    def _change(self, now: float) -> str:
        if not (failed := self._failed(self._since)):
            return ""
        others = [node for node in self._nodes() if node["Alive"] and _market(node) != ON_DEMAND]
        labelled = self.count - sum(places(node["Resources"], self._bundle) for node in others)
        labelled = min(labelled, self._on_demand)
        if self._beyond is not None:
            labelled = min(labelled, self._beyond)
        if labelled <= self._labelled:
            return ""
        self._since, self._labelled = now, labelled
        names = [
            name + (f" ({' '.join(reason.split())[:200]})" if reason else "")
            for name, reason in failed.items()
        ]
        return f"asks for nodes on demand, since launches failed: {', '.join(names)}"

    def _send(self) -> None:
        plain = [*self._beside, *[self._bundle] * (self.count - self._labelled)]
        if self._beyond is not None:
            plain = []
        bundles = [*plain, *[self._bundle] * self._labelled]
        labels: list[dict[str, str]] = [{} for _ in plain] + [{MARKET: ON_DEMAND}] * self._labelled
        if not bundles:
            self.cancel()
            return
        self._reservation = self._reserve(self.requester, bundles, KEPT_S, labels, first=False)
        if self._reservation is not None:
            self._reservation.renew()
        else:
            _ask_directly(bundles, labels)
            self._asked_directly = True


def places(node: Mapping[str, float], bundle: Mapping[str, float]) -> int:
    """Returns how many such bundles a node with these resources holds."""
    return min(int(node.get(name, 0.0) // amount) for name, amount in bundle.items() if amount)


def places_on_demand(config: Mapping[str, Any] | None, bundle: Mapping[str, float]) -> int:
    """Returns how many such bundles the nodes on demand hold that a launcher's config allows at most."""
    if config is None:
        return 0
    most = int(config.get("max_workers", 0))
    kinds = [
        kind for name, kind in config["available_node_types"].items() if name != config.get("head_node_type")
    ]
    return sum(
        min(most, int(kind.get("max_workers", most))) * places(kind.get("resources", {}), bundle)
        for kind in kinds
        if kind.get("labels", {}).get(MARKET) == ON_DEMAND
    )


def _market(node: Mapping[str, Any]) -> str:
    return str((node.get("Labels") or {}).get(MARKET, ""))


def _ask_directly(bundles: Sequence[Mapping[str, float]], labels: Sequence[Mapping[str, str]]) -> None:
    """Asks the autoscaler, without the coordinator, which replaces this within 20 s where it runs."""
    from ray.autoscaler.sdk import request_resources

    request_resources(
        bundles=[dict(bundle) for bundle in bundles],
        bundle_label_selectors=[dict(each) for each in labels],
    )
