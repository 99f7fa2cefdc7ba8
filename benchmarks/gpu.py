"""Checks on a machine with a GPU what this project promises there: a line for each check, then JSON.

Each check prints what it found and what is expected; the first broken promise ends the script with exit code
1. Each group of checks is a process of its own. Speeds are expected of an H100, and are estimates
(docs/SCALING.md tells what was measured): a check fails below half of them, times `--share` for a slower GPU.
25 minutes there (estimated); `--only` runs some groups. With `--cpu` everything is small and nothing is said
of speed, so that the script can be tried, and is tested, where there is no GPU. It has not run on a GPU yet.

Not checked: a library that is hidden (only GPUs are; tests/test_cuda.py hides libraries), a Ray task without
a GPU (`training` has a Ray worker with one), losses of many steps in each precision (only one gradient),
float32 without TF32, cuDNN's persistent batch norms, the seconds between two shuffle windows, the cores that
loading keeps busy and the use of the GPU (only their effects: the speed, and the share of waiting), images
per second of the features' extractor, CPUs of each trial's loader, a worker of several that is lost, and more
than two workers. They need more than one machine, or a longer look than a line.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --share 0.1 --only machine seen step step1 step2 cache placement numerics tile \
        loader training killed features sweep end
    python benchmarks/gpu.py --cpu
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gpu_stages
import gpu_steps
import numpy as np
from gpu_checks import CPU_STEPS, GPU_STEPS, Check, Step, batch_of, config_of, learner_of
from gpu_placement import placement
from gpu_workers import workers
from legs import run_leg

from brain_ray.config import TrainConfig


def machine(gpu: float) -> Iterator[Check]:
    """Check packages, driver and GPU."""
    from brain_ray.checks.cluster import LEAST_DRIVER
    from brain_ray.checks.machine import check_packages
    from brain_ray.checks.packages import differences

    wrong = differences(extras=("gpu",) if gpu else ())
    yield Check("packages unlike constraints.txt", len(wrong), "", "0", not wrong, "; ".join(wrong))
    warnings = [found.text for found in check_packages() if found.level != "ok"]
    yield Check("packages that disturb others", len(warnings), "", "0", not warnings, "; ".join(warnings))
    if not gpu:
        return
    if shutil.which("nvidia-smi") is None:
        yield Check("nvidia-smi", 0, "", "1", False, "not found: install NVIDIA's driver")
        return
    fields = "name,driver_version,memory.total,memory.used,mig.mode.current"
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    line = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    name, driver, total, used, mig = line.split(", ")
    number = int(driver.split(".")[0])
    yield Check(f"driver of {name}", number, "", f">= {LEAST_DRIVER}", number >= LEAST_DRIVER, driver)
    share = int(used) / int(total)
    yield Check("GPU's memory in use", share, "", "< 0.1", share < 0.1, "another program uses it")
    yield Check("GPU divided (MIG)", float(mig == "Enabled"), "", "0", mig != "Enabled", mig)


def seen(gpu: float) -> Iterator[Check]:
    """Check that TensorFlow sees the GPU with no path set, and that a training without one says so."""
    from brain_ray.checks.machine import see_gpus

    os.environ.pop("LD_LIBRARY_PATH", None)
    found = see_gpus()
    count = found.get("tensorflow", -1)
    expected = 1 if gpu else 0
    why = str(found.get("error") or found.get("reason"))
    yield Check("GPUs that TensorFlow sees", count, "", f">= {expected}", count >= expected, why)
    code = (
        "from brain_ray.config import TrainConfig\nfrom brain_ray.errors import RunError\n"
        "from brain_ray.training.tensorflow.devices import set_up\n"
        "try: set_up(TrainConfig(use_gpu=True), 1)\n"
        "except RunError as error: print(error)\n"
    )
    started = time.perf_counter()
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, env=hidden, capture_output=True, text=True, check=True).stdout.strip()
    seconds = time.perf_counter() - started
    yield Check("a hidden GPU is refused after", seconds, "s", "< 30", bool(told) and seconds < 30, told)


def gradient(backbone: str, precision: str, gpu: float, target: str) -> None:
    """Write the gradient of one batch, as the change that one step of SGD makes."""
    step = Step(backbone, 64, 16, False, 0, precision)
    learner = learner_of(config_of(step, gpu, optimizer="SGD", clip_norm=None, ema=None))
    learner.start_epoch(0)
    before = [np.array(variable) for variable in learner.model.trainable_variables]
    learner.train(batch_of(step), 1.0)
    changes = [np.array(v) - b for v, b in zip(learner.model.trainable_variables, before, strict=True)]
    np.save(target, np.concatenate([np.ravel(change) for change in changes]))


def numerics(gpu: float) -> Iterator[Check]:
    """Compare gradients of the precisions with the CPU's of float32."""
    backbone = "EfficientNetB0" if gpu else "tiny"
    with tempfile.TemporaryDirectory() as folder:

        def of(precision: str, on_gpu: float) -> np.ndarray[Any, Any]:
            target = str(Path(folder) / f"{precision}-{on_gpu}.npy")
            run_leg(__file__, precision, "--gradient", backbone, precision, on_gpu, target)
            found: np.ndarray[Any, Any] = np.load(target).astype(np.float64)
            return found / np.linalg.norm(found)

        exact = of("float32", 0)
        for precision, least in (("float32", 1 - 1e-4), ("mixed_bfloat16", 0.98), ("mixed_float16", 0.98)):
            if gpu or precision == "mixed_bfloat16":
                cosine = float(exact @ of(precision, gpu))
                yield Check(f"cosine of {precision}'s gradient", cosine, "", f">= {least}", cosine >= least)


def loader(gpu: float) -> Iterator[Check]:
    """Load without training: all cores, in one shuffle window and in 16, for one and for two consumers."""
    from loading import draw

    cores = os.cpu_count() or 1
    count = 2048 * cores if gpu else 512
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), count)
        legs = ("loader", "loader, two consumers", "loader, 16 windows")
        script = str(Path(__file__).with_name("loading.py"))
        one, two, windows = (
            run_leg(script, leg, "--rows", count, "--leg", leg, folder)["images_per_second"] for leg in legs
        )
    least = 130 * cores if gpu else 0
    yield Check(f"loader on {cores} cores", one, "images/s", f">= {least}" if gpu else "", one >= least)
    for name, share in (("two consumers over one", two / one), ("16 windows over one", windows / one)):
        yield Check(name, share, "", ">= 0.8" if gpu else "", not gpu or share >= 0.8)


def tile(gpu: float) -> Iterator[Check]:
    """Compare embeddings on the GPU, as the search for copies does on CPUs; the pairs found must be equal."""
    from brain_ray.data.copies.spectra import EMBEDDING_SIZE
    from brain_ray.data.copies.whitening import WHITENED_FLOOR
    from brain_ray.training.tensorflow import devices

    devices.set_up(TrainConfig(use_gpu=gpu > 0), 1)
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    size, floor = 16384 if gpu else 1024, WHITENED_FLOOR
    rows = np.random.default_rng(1).normal(size=(size, EMBEDDING_SIZE)).astype(np.float32)
    rows[::2] += rows[1::2]  # so that some pairs reach the floor
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def find(one: Any, two: Any) -> Any:
        return tf.where(tf.matmul(one, two, transpose_b=True) >= floor - 1e-3)

    held = tf.constant(rows)
    found = find(held, held).numpy()
    products = np.einsum("ij,ij->i", rows[found[:, 0]], rows[found[:, 1]])
    wanted = int((rows @ rows.T >= floor).sum())
    count = int((products >= floor).sum())
    started = time.perf_counter()
    for _ in range(5):
        found = find(held, held)
    found.numpy()
    speed = 5 * size**2 / (time.perf_counter() - started)
    missed = abs(wanted - count)
    yield Check(f"pairs of {size} embeddings unlike the CPU's", missed, "", "<= 2", missed <= 2, f"{wanted}")
    least = 5e9 * gpu
    yield Check("pairs compared", speed, "/s", f">= {least:.0e}" if gpu else "", speed >= least)


GROUPS: dict[str, Callable[[float], Iterator[Check]]] = {
    "machine": machine,
    "seen": seen,
    **{
        f"step{i or ''}": lambda gpu, i=i: gpu_steps.one_step(gpu, i)  # type: ignore[misc]
        for i in range(len(GPU_STEPS))
    },
    "cache": gpu_steps.cache,
    "placement": placement,
    "numerics": numerics,
    "tile": tile,
    "loader": loader,
    "training": gpu_stages.training,
    "killed": gpu_stages.killed,
    "features": gpu_stages.features,
    "sweep": gpu_stages.sweep,
    "workers": workers,
    "end": gpu_stages.end,
}
"""Groups of checks, in their order; each is given the GPU's speed as a share of an H100's, 0 without one."""


def main(names: list[str], gpu: float) -> int:
    """Run the groups, print a line for each check and, last, the values as JSON; return the exit code."""
    values: dict[str, float] = {}

    def show(name: str, checks: Iterable[Check]) -> bool:
        for check in checks:
            values[check.name] = round(check.value, 4)
            word = ("ok" if check.expected else "-") if check.holds else "BROKEN"
            print(f"{word:7}{check.name:63}{check.value:12.4g} {check.unit:9}{check.expected}", flush=True)
            if not check.holds:
                print(f"{name} broke a promise: {check.why or 'see docs/OPERATIONS.md'}")
                return False
        return True

    hold = True
    for name in names:
        started = time.perf_counter()
        found = run_leg(__file__, name, "--share", gpu, "--leg", name)
        hold = show(name, (Check(**each) for each in found["checks"]))
        if not hold:
            break
        print(f"       {name}: {time.perf_counter() - started:.0f} s", flush=True)
    hold = hold and show("step2", gpu_steps.compare(values))
    print(json.dumps(values))
    return 0 if hold else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu", action="store_true", help="small sizes, no GPU, no promises on speed")
    parser.add_argument("--share", type=float, default=1.0, help="speed of the GPU as a share of an H100's")
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="only these groups")
    parser.add_argument("--leg", choices=GROUPS)
    parser.add_argument("--gradient", nargs=4)
    given = parser.parse_args()
    share = 0.0 if given.cpu else given.share
    steps = len(GPU_STEPS if share else CPU_STEPS)
    if given.gradient:
        backbone, precision, on_gpu, target = given.gradient
        gradient(backbone, precision, float(on_gpu), target)
        print("{}")
    elif given.leg:
        found = []
        for check in GROUPS[given.leg](share):
            found.append(asdict(check))
            if not check.holds:
                break
        print(json.dumps({"checks": found}))
    else:
        every = [name for name in GROUPS if not name.startswith("step") or int(name[4:] or 0) < steps]
        raise SystemExit(main(given.only or every, share))
