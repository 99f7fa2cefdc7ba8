"""Checks of each node of the cluster, by a task on it: its resources and the locations that it reaches."""

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from brain_ray.checks import machine
from brain_ray.checks.finding import Finding
from brain_ray.checks.locations import end_probe, try_data, try_folder, try_storage, try_weights
from brain_ray.checks.machine import GIB
from brain_ray.cluster import connection
from brain_ray.cluster.capacity import (
    _count,
    _some,
)
from brain_ray.config import Config
from brain_ray.data.sources.find import Source
from brain_ray.runs import Run

NODE_TIMEOUT_S = 60.0
"""Seconds that a node may take to answer: it may have to start a process and install packages first."""

WORKER_GIB = 3.0
"""Memory in GiB of a training worker: TensorFlow, a network, its gradients, two batches of 32 at 224 px."""


STORAGE_CURE = "set --storage to an s3:// or gs:// URI, or to a folder that all nodes mount"


@dataclass(frozen=True)
class Visit:
    """Facts that a task collected on one node; the texts are errors, "" if there is none."""

    node: str
    """Address of the node."""
    facts: Mapping[str, Any]
    storage: str = ""
    data: str = ""
    weights: str = ""
    gpus: Mapping[str, Any] | None = None


def visit(
    node: str, storage: str, name: str, config: Config, mark: str, places: Collection[str], gpus: bool
) -> Visit:
    """Collects this node's facts and checks that it reaches storage, data and weights."""
    run = Run(storage, name)  # not sent: it would wait for a storage that is out of reach from here
    return Visit(
        node,
        machine.facts(),
        try_storage(run, mark, node),
        try_folder(config) if "data" in places else "",
        try_weights(config) if "weights" in places else "",
        machine.see_gpus() if gpus else None,
    )


def alive_nodes() -> dict[str, Mapping[str, Any]]:
    """Returns Ray's record of each running node, by an address that is unique even for nodes of one
    machine."""
    return {
        f"{node['NodeManagerAddress']}-{node['NodeID'][:6]}": node for node in ray.nodes() if node["Alive"]
    }


PLACES = ("storage", "data", "weights")
"""Locations that a run may need on each node."""


def visit_nodes(
    run: Run, config: Config, places: Collection[str] = PLACES, *, gpus: bool = False
) -> tuple[list[Finding], list[Visit]]:
    """Runs a task on each node that collects its facts; returns errors for nodes that did not answer, and the
    visits.

    Args:
        run: its storage is written and read on every node.
        config: has the locations of data and weights.
        places: which of PLACES are checked; the storage always is.
        gpus: whether TensorFlow and ONNX Runtime are asked for the GPUs of nodes that have any.
    """
    mark = uuid.uuid4().hex
    wrong = try_storage(run, mark)
    if wrong:
        cure = "" if ";" in wrong else "mend the storage, or set --storage elsewhere"  # the text has its own
        return [Finding("storage", "error", wrong, cure)], []
    look = ray.remote(num_cpus=0, max_retries=0)(visit)
    waiting = {}
    for address, node in alive_nodes().items():
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        sees = gpus and node["Resources"].get("GPU", 0) > 0
        ask = look.options(scheduling_strategy=there).remote
        task = ask(address, run.storage, run.name, config, mark, places, sees)
        waiting[task] = address
    timeout = NODE_TIMEOUT_S + (machine.TENSORFLOW_TIMEOUT_S if gpus else 0.0)
    done, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=timeout)
    visits, findings = [], []
    for task in done:
        try:
            visits.append(ray.get(task))
        except ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            findings.append(no_answer(waiting[task], f"its task ended with: {first}"))
    for task in late:
        ray.cancel(task, force=True)
        findings.append(no_answer(waiting[task], f"it has not answered within {timeout:.0f} s"))
    end_probe(run)
    return findings, visits


def no_answer(node: str, text: str) -> Finding:
    """Returns the error of a node that has not answered, with the place of its logs."""
    logs = connection.started_logs()
    cure = f"see Ray's logs in {logs}" if logs else "see its logs (`ray logs`), or take it out"
    return Finding("nodes", "error", f"{node}: {text}", cure)


def check_places(
    run: Run,
    config: Config,
    visits: Iterable[Visit],
    places: Collection[str] = PLACES,
    source: Source | None = None,
) -> list[Finding]:
    """Checks whether every visited node reaches the storage, data and weights that `places` names.

    Args:
        run: has the storage.
        config: has the locations of data and weights.
        visits: of the nodes.
        places: which of PLACES are checked.
        source: the source that the settings name, if others look at it too.
    """
    visits = list(visits)
    settings = {
        "storage": (run.storage, STORAGE_CURE),
        "data": (config.data.source, "set --data.source to a folder or URI that all nodes see"),
        "weights": (config.model.weights, "set --model.weights to a file that all nodes see, or to none"),
    }
    findings = [_check_place(name, *settings[name], visits) for name in PLACES if name in places]
    # Once is enough for the classes' folders: finding them may list all images.
    classes = try_data(config, source) if "data" in places else ""
    if classes:
        findings = [Finding("data", "error", classes) if each.name == "data" else each for each in findings]
    return findings


def _check_place(name: str, place: str, cure: str, visits: list[Visit]) -> Finding:
    wrong: dict[str, list[str]] = {}
    for visit in visits:
        if getattr(visit, name):
            wrong.setdefault(getattr(visit, name), []).append(visit.node)
    if not wrong:
        return Finding(name, "ok", f"{place}, from {_count(len(visits), 'node')}")
    message = "; ".join(
        text if len(nodes) == len(visits) else f"{text} (on {_some(nodes)} of {len(visits)} nodes)"
        for text, nodes in wrong.items()
    )
    message = message if place in message else f"{place}: {message}"
    return Finding(name, "error", message, "" if "set --" in message else cure)


def check_nodes(visits: Iterable[Visit]) -> list[Finding]:
    """Checks whether the nodes are alike, and have enough disk and memory for Ray itself."""
    visits = list(visits)
    here = machine.facts()
    unlike = []
    for each in visits:
        theirs = {"python": each.facts["python"], **each.facts["versions"]}
        ours = {"python": here["python"], **here["versions"]}
        other = [f"{k} {theirs[k]} (here {ours[k]})" for k in theirs if k in ours and theirs[k] != ours[k]]
        if other:
            unlike.append(f"{each.node} has {', '.join(other[:5])}")
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    text = f"{_count(len(visits), 'node')}, {cpus:g} CPUs, {gpus:g} GPUs"
    same = (
        Finding("nodes", "error", "; ".join(unlike), "install the same constraints.txt on all machines")
        if unlike
        else Finding("nodes", "ok", f"{text}; the same Python and packages everywhere")
    )
    disks = [machine.check_disk(dict(each.facts), f"on {each.node}") for each in visits]
    short = [found for found in disks if found.level != "ok"]
    least = min((each.facts["free_gib"] for each in visits), default=0.0)
    enough = Finding("disk", "ok", f"{least:.0f} GiB free for Ray's temporary files, or more, on each node")
    return [same, *(short or [enough]), *_check_stores(visits)]


def _check_stores(visits: list[Visit]) -> list[Finding]:
    """Compares Ray's object stores with /dev/shm, where they should be."""
    stores = {
        address: node["Resources"].get("object_store_memory", 0.0) for address, node in alive_nodes().items()
    }
    small = [
        f"{each.node} has {stores[each.node] / GIB:.1f} GiB of it and /dev/shm of {each.facts['shm_gib']:.1f}"
        for each in visits
        if each.facts["shm_gib"] is not None
        and stores.get(each.node, 0.0) / GIB > each.facts["shm_gib"] * 1.05
    ]
    if small:
        cure = "give containers more (docker run --shm-size, a Memory volume on Kubernetes)"
        return [Finding("object store", "warning", "; ".join(small), cure)]
    least = min(stores.values(), default=0.0) / GIB
    return [Finding("object store", "ok", f"{least:.1f} GiB or more on each node, in shared memory")]
