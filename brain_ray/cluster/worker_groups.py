"""Kinds of nodes that may be started: those of Ray's cluster launcher, or those that a manifest of Kubernetes
states."""

import os
from collections.abc import Mapping
from typing import Any

import ray
import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, TypeAdapter, ValidationError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from brain_ray.cluster import private
from brain_ray.errors import RunError

HEAD = "node:__internal_head__"
"""Resource that Ray gives to the head node."""

WORKER_GROUPS = "BRAIN_RAY_WORKER_GROUPS"
"""Variable of the head node that states the groups of workers in JSON, `{NAME: {"max_workers": ...,
"resources": {"CPU": ..., "GPU": ...}}}`: an operator of Kubernetes starts them, and does not tell Ray."""


class WorkerGroup(BaseModel):
    """Nodes of one kind."""

    model_config = ConfigDict(extra="forbid")

    max_workers: NonNegativeInt
    """Largest number of nodes."""
    resources: dict[str, NonNegativeFloat]
    """Resources of each, by Ray's names."""
    labels: dict[str, str] = {}
    """Ray's labels of each."""


def launcher_config() -> Any:
    """Returns the autoscaler's config, as `ray up` has it, from any node; None if no nodes are started, or it
    is unknown which may be.

    Raises:
        RunError: the variable `WORKER_GROUPS` has another form.
    """
    head = next((node for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"]), None)
    if head is None:
        return None
    if head["NodeID"] == ray.get_runtime_context().get_node_id():
        stated, config = _read_config()
    else:
        there = NodeAffinitySchedulingStrategy(head["NodeID"], soft=False)
        look = ray.remote(_read_config).options(num_cpus=0, scheduling_strategy=there)
        stated, config = ray.get(look.remote())
    return config if stated is None else config_of(stated)


def config_of(stated: str) -> dict[str, Any]:
    """Returns what `ray up` would have as config, for the groups of `WORKER_GROUPS`.

    Raises:
        RunError: they have another form.
    """
    try:
        groups = TypeAdapter(dict[str, WorkerGroup]).validate_json(stated)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise RunError(
            f"{WORKER_GROUPS} on the head node is {stated[:200]!r}, and {place}: {first['msg']}; "
            'expected JSON such as {"gpu": {"max_workers": 4, "resources": {"CPU": 3, "GPU": 1}}}'
        ) from error
    return {
        "max_workers": sum(group.max_workers for group in groups.values()),
        "available_node_types": {name: group.model_dump() for name, group in groups.items()},
    }


def _read_config() -> tuple[str | None, Mapping[str, Any] | None]:
    """Returns, on the head node, what is stated of the groups, and the launcher's config."""
    file = private.autoscaler_file()
    return os.environ.get(WORKER_GROUPS), None if file is None else yaml.safe_load(file.read_text())
