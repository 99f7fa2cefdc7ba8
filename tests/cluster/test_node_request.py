"""Requests for nodes: kept up, and for nodes on demand once a launch failed."""

from typing import Any

import pytest
import ray
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)

from brain_ray.cluster import private, private_data
from brain_ray.cluster.node_request import MARKET, ON_DEMAND, RENEW_S, NodeRequest, places_on_demand

GPU = {"CPU": 0.5, "GPU": 1.0}
SPOT = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}, "Labels": {MARKET: "spot"}}
TYPES = {
    "head": {"resources": {"CPU": 6, "GPU": 4}, "labels": {MARKET: ON_DEMAND}},
    "spot": {"resources": SPOT["Resources"], "labels": SPOT["Labels"]},
    "demand": {"resources": {"CPU": 4, "GPU": 1}, "labels": {MARKET: ON_DEMAND}, "max_workers": 4},
}


class Coordinator:
    """Stands for Ray's: notes what it is asked for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.labels: list[list[Any]] = []
        self.cancelled = 0

    def reserve(
        self, requester: str, bundles: list[Any], kept_s: float, labels: list[Any], first: bool
    ) -> private_data.Reservation:
        assert len(bundles) == len(labels)
        assert not first
        self.labels.append(labels)
        return private_data.Reservation(lambda: None, self.cancel)

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


def later(coordinator: Coordinator, request: NodeRequest) -> str:
    coordinator.now += RENEW_S
    return request.renew()


def test_once_a_launch_failed_the_workers_without_a_place_are_asked_for_on_demand(
    coordinator: Coordinator,
) -> None:
    failed: dict[str, str] = {}
    nodes = [SPOT, {**SPOT, "Alive": False}, {**SPOT, "Labels": {MARKET: ON_DEMAND}}]
    request = NodeRequest(
        GPU,
        3,
        [{"CPU": 0.5}],
        on_demand=4,
        reserve=coordinator.reserve,
        failed=lambda _: failed,
        nodes=lambda: nodes,
        clock=lambda: coordinator.now,
    )
    assert later(coordinator, request) == ""
    assert coordinator.labels == [[{}] * 4] * 2
    failed["gpu-spot"] = "InsufficientInstanceCapacity:\n none left"
    assert later(coordinator, request) == (
        "asks for nodes on demand, since launches failed: gpu-spot (InsufficientInstanceCapacity: none left)"
    )
    # One worker has a place on the spot node; the one on demand keeps its label, or another would take it.
    assert coordinator.labels[-1] == [{}, {}, {MARKET: ON_DEMAND}, {MARKET: ON_DEMAND}]
    assert later(coordinator, request) == ""
    nodes.pop(0)
    assert "on demand" in later(coordinator, request)
    assert coordinator.labels[-1] == [{}] + [{MARKET: ON_DEMAND}] * 3
    request.cancel()
    assert coordinator.cancelled == 1


def test_beside_others_who_ask_for_the_workers_only_nodes_on_demand_are_asked_for(
    coordinator: Coordinator,
) -> None:
    failed: dict[str, str] = {}
    request = NodeRequest(
        GPU,
        4,
        [{"CPU": 0.5}],
        on_demand=4,
        beyond=2,
        reserve=coordinator.reserve,
        failed=lambda _: failed,
        nodes=lambda: [SPOT],
        clock=lambda: coordinator.now,
    )
    assert later(coordinator, request) == ""
    assert coordinator.labels == []
    request.cancel()  # nothing was asked for, by it: what others ask for directly stays
    failed["gpu-spot"] = "InsufficientInstanceCapacity"
    assert "on demand" in later(coordinator, request)
    assert coordinator.labels == [[{MARKET: ON_DEMAND}] * 2], "three lack a place, and two more have room"
    request.cancel()
    assert coordinator.cancelled == 1


def test_where_there_are_no_nodes_on_demand_others_are_asked_for_again(coordinator: Coordinator) -> None:
    request = NodeRequest(
        GPU,
        1,
        reserve=coordinator.reserve,
        failed=lambda _: {"spot": "none"},
        clock=lambda: coordinator.now,
    )
    assert later(coordinator, request) == ""
    assert coordinator.labels[-1] == [{}]


def test_a_request_is_not_renewed_at_every_look(coordinator: Coordinator) -> None:
    request = NodeRequest(GPU, 1, reserve=coordinator.reserve, clock=lambda: coordinator.now)
    for _ in range(10):
        coordinator.now += RENEW_S / 10
        request.renew()
    assert len(coordinator.labels) == 2


def test_of_more_workers_than_nodes_on_demand_hold_the_others_are_asked_for_as_before(
    coordinator: Coordinator,
) -> None:
    request = NodeRequest(
        GPU,
        5,
        on_demand=2,
        reserve=coordinator.reserve,
        failed=lambda _: {"gpu-spot": "none"},
        nodes=lambda: [SPOT],
        clock=lambda: coordinator.now,
    )
    assert "on demand" in later(coordinator, request)
    assert coordinator.labels[-1] == [{}] * 3 + [{MARKET: ON_DEMAND}] * 2


def test_a_request_for_fewer_workers_asks_for_fewer_nodes(coordinator: Coordinator) -> None:
    failed = {"gpu-spot": "none"}
    request = NodeRequest(
        GPU,
        3,
        on_demand=4,
        beyond=3,
        reserve=coordinator.reserve,
        failed=lambda _: failed,
        nodes=list,
        clock=lambda: coordinator.now,
    )
    assert "on demand" in later(coordinator, request)
    assert coordinator.labels == [[{MARKET: ON_DEMAND}] * 3]
    failed.clear()
    request.count = 1
    assert later(coordinator, request) == ""
    assert coordinator.labels[-1] == [{MARKET: ON_DEMAND}]
    request.count = 0
    assert later(coordinator, request) == ""
    assert (len(coordinator.labels), coordinator.cancelled) == (2, 1)
    request.cancel()
    assert coordinator.cancelled == 1, "nothing is asked for any more"


def test_a_launchers_file_tells_how_many_workers_fit_on_nodes_on_demand() -> None:
    config = {"head_node_type": "head", "max_workers": 9, "available_node_types": TYPES}
    assert places_on_demand(config, GPU) == 4
    assert places_on_demand(config, GPU | {"GPU": 0.5}) == 8
    assert places_on_demand({**config, "max_workers": 3}, GPU) == 3
    assert places_on_demand(config, {"CPU": 8.0}) == 0
    assert places_on_demand(None, GPU) == 0
    demand = TYPES["demand"]
    for changed in ({"max_workers": 0}, {"labels": {}}):
        assert places_on_demand({**config, "available_node_types": {"demand": demand | changed}}, GPU) == 0
    open_ended = {name: value for name, value in demand.items() if name != "max_workers"}
    assert places_on_demand({**config, "available_node_types": {"demand": open_ended}}, GPU) == 9


@pytest.mark.usefixtures("ray_cluster")
def test_rays_coordinator_keeps_the_request_with_its_labels_and_gives_others_their_part_first() -> None:
    coordinator: Any = get_or_create_autoscaling_coordinator()
    request = NodeRequest({"CPU": 0.5}, 1)
    requester = request.requester
    assert ray.get(coordinator.get_reserved_resources.remote(requester, recompute=True))
    everything = ray.cluster_resources()["CPU"]
    other = private_data.reserve("another", [{"CPU": everything}], 60.0)
    assert other is not None
    ray.get(other.renew())
    assert ray.get(coordinator.get_reserved_resources.remote(requester, recompute=True)) == {}
    other.cancel()
    request.cancel()
    assert ray.get(coordinator.get_reserved_resources.remote(requester, recompute=True)) == {}
    assert private.failed_launches(0.0) == {}
