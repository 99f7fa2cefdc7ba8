"""Group of `gpu.py`: two workers of one machine, their speed, their sums, and how NCCL connects their GPUs.

NCCL refuses two workers on one GPU: with a single one, nothing is checked. Without a GPU the workers are on
the CPU, and there is no NCCL.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gpu_checks import Check, Step, batch_of, config_of

CONNECTED = re.compile(r"NCCL INFO Channel \S+ : \d+\[\w+\] -> \d+\[\w+\](?: \[\w+\])? via (\w+)")
"""A line of NCCL's log: how one GPU sends to another, such as P2P/CUMEM, SHM/direct or NET/Socket."""


def workers(gpu: float) -> Iterator[Check]:
    """Check that two workers take the steps of one, faster, and that nothing is between their GPUs."""
    gpus = _count_gpus() if gpu else 2
    yield Check("GPUs for two workers", gpus)
    if gpus < 2:
        return
    (alone,) = _run(1, gpu)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_FILE": f"{folder}/%p"}
        together = _run(2, gpu)
        log = "".join(file.read_text() for file in Path(folder).iterdir())
    losses = [sum(each["loss"] for each in found) for found in ([alone], together)]
    unlike = abs(losses[1] / losses[0] - 1)
    yield Check("two workers' loss unlike one's by", unlike, "", "<= 0.001", unlike <= 0.001)
    ratio = min(each["images_per_second"] for each in together) / alone["images_per_second"]
    yield Check("two workers over one", ratio, "", ">= 1.6" if gpu else "", not gpu or ratio >= 1.6)
    if gpu:
        yield from checks_of(log)


def checks_of(log: str) -> Iterator[Check]:
    """Check what NCCL's log says of the connections between the GPUs of one machine."""
    found = Counter(CONNECTED.findall(log))
    direct = found.pop("P2P", 0)
    yield Check("connections of NCCL from GPU to GPU", direct, "", "> 0", direct > 0, "NCCL logged none")
    others = ", ".join(sorted(found))
    yield Check("connections of NCCL by other ways", found.total(), "", "0", not found, others)


def _run(num_workers: int, gpu: float) -> list[dict[str, Any]]:
    """Run workers, each in a process that sees one GPU, as Ray starts them; return what they found."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(num_workers)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    started = []
    for rank in range(num_workers):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)} if num_workers > 1 else {**os.environ}
        if gpu:
            environment["CUDA_VISIBLE_DEVICES"] = str(rank)
        command = [sys.executable, __file__, str(rank), str(num_workers), str(gpu)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, **pipes))  # type: ignore[call-overload]
    ended = [process.communicate() for process in started]
    for process, (_, errors) in zip(started, ended, strict=True):
        if process.returncode:
            raise SystemExit(errors)
    return [json.loads(output.splitlines()[-1]) for output, _ in ended]


def train(rank: int, num_workers: int, gpu: float) -> dict[str, float]:
    """Take some steps as one of the workers; return its loss, and the images per second of all."""
    from brain_ray.loading.loader import Batch
    from brain_ray.training.tensorflow import devices
    from brain_ray.training.tensorflow.learner import Learner

    rows = 256 if gpu else 8  # of each worker, as many as there are
    step = Step("EfficientNetB0" if gpu else "tiny", 224 if gpu else 32, 2 * rows, True, 0, "float32")
    config = config_of(step, gpu)
    fixed = config.model.model_copy(update={"batch_norm": "fixed", "dropout": 0.0})
    devices.set_up(config.train, num_workers)
    strategy = devices.make_strategy(num_workers, use_gpu=config.train.use_gpu)
    learner = Learner(config.model_copy(update={"model": fixed}), 4, strategy, rank)
    learner.start_epoch(0)
    whole = batch_of(step)
    own = slice(rank, None, num_workers)
    arrays = (whole.inputs[own], whole.labels[own], whole.sample_weight[own])
    loss = 0.0
    for _ in range(3):
        loss = float(learner.train(Batch(*arrays, whole.total), 1e-3).numpy()[1])
    half = Batch(*(each[:rows] for each in arrays), num_workers * rows)  # the same work for any number
    times = []
    for _ in range(10 if gpu else 3):
        started = time.perf_counter()
        learner.train(half, 1e-4).numpy()
        times.append(time.perf_counter() - started)
    return {"loss": loss, "images_per_second": num_workers * rows / float(np.median(times))}


def _count_gpus() -> int:
    if shutil.which("nvidia-smi") is None:
        raise SystemExit("nvidia-smi is missing: install NVIDIA's driver")
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    return len(listed.splitlines())


if __name__ == "__main__":
    print(json.dumps(train(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
