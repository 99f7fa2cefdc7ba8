"""Groups of `gpu.py` that take training steps: speed, what XLA leaves out, a process's first step."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from gpu_checks import CPU_STEPS, GPU_STEPS, Check, Step, batch_of, config_of, learner_of, operations_outside
from legs import run_leg


def one_step(gpu: float, number: int) -> Iterator[Check]:
    """Time one of the training steps, its batch copied to the GPU each time."""
    import tensorflow as tf

    step = (GPU_STEPS if gpu else CPU_STEPS)[number]
    started = time.perf_counter()
    learner, batch = learner_of(config_of(step, gpu)), batch_of(step)
    learner.start_epoch(0)
    sums = learner.train(batch, 1e-4).numpy()
    first = time.perf_counter() - started
    yield Check(f"{step.name}: first", first, "s", "< 180", first < 180, "an empty CUDA cache takes minutes")
    outside = operations_outside(learner)
    least_left = not step.xla or outside < 300
    yield Check(f"{step.name}: operations outside XLA", outside, "", "< 300" if step.xla else "", least_left)
    times, steps = [], 10 if gpu else 2
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(steps):
            sums = learner.train(batch, 1e-4)
        sums = sums.numpy()
        times.append((time.perf_counter() - started) / steps)
    finite = bool(np.isfinite(sums[0]))
    yield Check(f"{step.name}: loss finite", float(finite), "", "1", finite)
    speed, least = step.batch / float(np.median(times)), step.speed / 2 * gpu
    yield Check(step.name, speed, "images/s", f">= {least:.0f}" if gpu else "", speed >= least)
    arrays = {name: getattr(batch, name)[1:] for name in ("inputs", "labels", "sample_weight")}
    started = time.perf_counter()
    learner.train(replace(batch, **arrays, total=step.batch - 1), 1e-4).numpy()
    other = time.perf_counter() - started
    name = f"{step.name}: first with an image less"
    yield Check(name, other, "s", "< 5", other < 5, "another shape was compiled")
    if gpu:
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e9
        yield Check(f"{step.name}: peak memory", peak, "GB", "< 70", peak < 70)


def compare(values: Mapping[str, float]) -> Iterator[Check]:
    """Compare bfloat16 with float32, of steps that were timed: 1.8 times as fast is expected."""
    names = [step.name for step in GPU_STEPS[2:4]]
    if values.keys() >= set(names):
        ratio = values[names[0]] / values[names[1]]
        yield Check("bfloat16 over float32", ratio, "", ">= 1.2", ratio >= 1.2)


def cache(gpu: float) -> Iterator[Check]:
    """Time the first step of a process with an empty CUDA cache, and of the next with what that one left."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"CUDA_CACHE_PATH": folder, "CUDA_CACHE_MAXSIZE": "4294967296"}
        seconds = [run_leg(__file__, "first step", gpu)["seconds"] for _ in range(2)]
        kept = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    yield Check("first step, CUDA's cache empty", seconds[0], "s")
    yield Check("what it left in the cache", kept / 1e6, "MB")
    held = not gpu or seconds[1] < 40
    yield Check("first step of the next process", seconds[1], "s", "< 40" if gpu else "", held)


def first_step(step: Step, gpu: float) -> float:
    """Return the seconds from the building of a network to the end of its first step."""
    started = time.perf_counter()
    learner = learner_of(config_of(step, gpu))
    learner.start_epoch(0)
    learner.train(batch_of(step), 1e-4).numpy()
    return time.perf_counter() - started


if __name__ == "__main__":
    share = float(sys.argv[1])
    print(json.dumps({"seconds": first_step((GPU_STEPS if share else CPU_STEPS)[0], share)}))
