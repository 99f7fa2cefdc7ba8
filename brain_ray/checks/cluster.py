"""Checks of the cluster: room for workers and scoring, memory, GPUs."""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from brain_ray.checks.finding import Finding
from brain_ray.checks.machine import GIB
from brain_ray.checks.nodes import WORKER_GIB, Visit, alive_nodes
from brain_ray.cluster.autoscaling import check_now_or_later, check_room
from brain_ray.cluster.capacity import describe_scoring, refuse_scoring, running_nodes
from brain_ray.cluster.small_batches import describe_small_batch
from brain_ray.config import Config, EvaluateConfig, TrainConfig
from brain_ray.cuda import CURE
from brain_ray.errors import RunError


def check_cluster(config: Config) -> list[Finding]:
    """Checks whether the cluster has, or can get, the resources that a training needs, and shares its batch
    among as many GPUs."""
    batch = describe_small_batch(config.train, config.model, running_nodes())
    advice = [Finding("batch", "warning", *batch.split(": ", 1))] if batch else []
    return [*_check_room(config.train), *advice]


def _check_room(settings: TrainConfig) -> list[Finding]:
    asked = f"{settings.min_workers} worker(s)" + (" with a GPU each" if settings.use_gpu else "")
    try:
        waits = check_room(settings)
    except RunError as error:
        return [Finding("room", "error", str(error))]
    room = Finding("room", "ok", f"for {asked}")
    if waits:
        room = Finding("room", "warning", f"not yet for {asked}", waits)
    memory = sum(node.get("memory", 0.0) for node in running_nodes()) / GIB
    if memory < WORKER_GIB * settings.min_workers and not waits:
        cure = "lower train.num_workers, or add memory"
        text = f"{memory:.1f} GiB for {asked}, which take about {WORKER_GIB:g} GiB each"
        return [room, Finding("memory", "warning", text, cure)]
    return [room, Finding("memory", "ok", f"{memory:.0f} GiB on all nodes together")]


def check_scoring(settings: EvaluateConfig) -> Finding:
    """Checks whether the cluster has, or will have, room for scoring."""
    try:
        waits = check_now_or_later(partial(refuse_scoring, settings), "evaluation")
    except RunError as error:
        return Finding("scoring", "error", str(error))
    if waits:
        return Finding("scoring", "warning", f"not yet room for {describe_scoring(settings)}", waits)
    return Finding("scoring", "ok", f"room for {describe_scoring(settings)}")


LEAST_DRIVER = 555
"""Least major version of NVIDIA's driver that compiles TensorFlow 2.21's intermediate code, which is PTX of
CUDA 12.5 (https://docs.nvidia.com/deploy/cuda-compatibility/)."""


def check_machine_code(node: str, seen: Mapping[str, Any]) -> list[Finding]:
    """Checks that TensorFlow has machine code for a node's GPUs, or the driver compiles it; `seen` is from
    `machine.see_gpus`."""
    compiled = [re.fullmatch(r"sm_(\d+)(\d)", name) for name in seen["compiled"]]
    codes = [(int(each[1]), int(each[2])) for each in compiled if each]
    without = {
        (major, minor)
        for major, minor in seen["capabilities"]
        if not any(code[0] == major and code[1] <= minor for code in codes)
    }
    if not without:
        return []
    names = ", ".join(f"{major}.{minor}" for major, minor in sorted(without))
    text = f"{node}: TensorFlow has no machine code for compute capability {names}, "
    driver = str(seen["driver"])
    if driver and int(driver.partition(".")[0]) < LEAST_DRIVER:
        text += f"and the driver, {driver}, cannot compile it"
        return [Finding("gpu code", "error", text, f"install driver {LEAST_DRIVER} or newer")]
    text += "which the driver compiles at first use: it may take half an hour or longer, TensorFlow says"
    cure = "keep ~/.nv/ComputeCache, or the folder of CUDA_CACHE_PATH, in the machine's image"
    return [Finding("gpu code", "warning", text, cure)]


LEAST_CACHE = 2**31
"""Bytes that CUDA's cache should hold, as TensorFlow's guide for GPUs asked for where these are newer than
its machine code (https://www.tensorflow.org/install/gpu)."""


def check_cuda_cache(node: str, cache: Mapping[str, Any]) -> Finding:
    """Checks that what the driver compiles on a node is kept for the next process; `cache` is of
    `cuda.cache`."""
    path, limit, free = cache["path"], cache["limit"], cache["free"]
    again, cure = f"{node}: processes may have to compile TensorFlow's kernels anew: ", ""
    if not limit:
        again, cure = f"{again}CUDA_CACHE_DISABLE is 1", "unset it"
    elif limit < LEAST_CACHE:
        again += f"CUDA's cache keeps {limit / GIB:.1f} GiB at most"
        cure = f"set CUDA_CACHE_MAXSIZE to {2 * LEAST_CACHE} before Ray is started there"
    elif not cache["writable"]:
        again, cure = f"{again}{path} cannot be written to", "set CUDA_CACHE_PATH to another folder"
    elif free < LEAST_CACHE:
        again += f"{path} is for them, and {free / GIB:.1f} GiB are free there"
        cure = f"make room to {LEAST_CACHE / GIB:g} GiB, or set CUDA_CACHE_PATH to a folder on another disk"
    if cure:
        return Finding("cuda cache", "warning", again, cure)
    return Finding(
        "cuda cache", "ok", f"{node}: up to {limit / GIB:.1f} GiB of machine code are kept in {path}"
    )


def check_gpus(config: Config, visits: Iterable[Visit]) -> list[Finding]:
    """Checks which of the GPUs that Ray offers TensorFlow and ONNX Runtime see."""
    findings = []
    offered = {address: int(node["Resources"].get("GPU", 0)) for address, node in alive_nodes().items()}
    for each in visits:
        if each.gpus is None:
            continue
        if wheels := each.gpus["wheels"]:
            text = f"{each.node}: {'; '.join(wheels[:5])}" + (
                f" and {len(wheels) - 5} more" if wheels[5:] else ""
            )
            cure = (
                "pip install -c constraints.txt '.[gpu]', unless CUDA's libraries come from elsewhere there"
            )
            findings.append(Finding("gpu packages", "warning", text, cure))
        if "error" in each.gpus:
            findings.append(Finding("gpus", "error", f"{each.node}: TensorFlow: {each.gpus['error']}", CURE))
        elif each.gpus["tensorflow"] < offered.get(each.node, 0):
            text = f"{each.node}: Ray offers {offered[each.node]} GPU(s) and TensorFlow sees "
            seen = str(each.gpus["tensorflow"] or f"none: {each.gpus['reason']}")
            findings.append(Finding("gpus", "error", text + seen, CURE))
        else:
            onnx = "CUDAExecutionProvider" in each.gpus["onnxruntime"]
            text = f"{each.node}: TensorFlow sees {each.gpus['tensorflow']}; ONNX Runtime computes on "
            findings.append(Finding("gpus", "ok", text + ("GPUs" if onnx else "CPUs")))
            compiles = check_machine_code(each.node, each.gpus)
            findings += compiles
            if any(found.level == "warning" for found in compiles):
                findings.append(check_cuda_cache(each.node, each.facts["cuda_cache"]))
    if not any(found.name == "gpus" for found in findings):
        needs = "and none is asked for"
        if config.train.use_gpu:
            needs = "yet; those that come are looked at when training starts"
        findings.append(Finding("gpus", "ok", f"no node of the cluster has any {needs}"))
    return findings
