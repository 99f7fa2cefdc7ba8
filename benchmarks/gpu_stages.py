"""Groups of `gpu.py` that run stages: a training to its export, one that is killed, features, a sweep."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from gpu_checks import GPU_STEPS, Check, Step, config_of

from brain_ray.config import Config
from brain_ray.runs import Run

JOBS = Path(__file__).parents[1] / "jobs"


def _step(gpu: float, *, xla: bool = True) -> Step:
    return GPU_STEPS[2 if xla else 1] if gpu else Step("tiny", 32, 16, False, 0)


def training(gpu: float) -> Iterator[Check]:
    """Prepare phantoms, train, export: the stages as the pipeline runs them."""
    from brain_ray.pipeline import run_stages
    from brain_ray.tracking.history import read_history

    step = _step(gpu)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder, "gpu")
        run_stages(config_of(step, gpu, folder, epochs=3), ("prepare", "train", "export"))
        last = read_history(run)[-1]
        check = run.read_json("bundle", "bundle.json")["check"]
        served = list(_serve(run.path("bundle"), gpu))
    yield Check("epochs trained", last.epoch, "", "3", last.epoch == 3)
    wait = last.input_wait / last.seconds
    yield Check(
        "share of an epoch that waits for input", wait, "", "< 0.1" if gpu else "", not gpu or wait < 0.1
    )
    least = step.speed / 2 * gpu
    speed = last.images_per_second
    yield Check("training", speed, "images/s", f">= {least:.0f}" if gpu else "", speed >= least)
    difference = check["largest_difference"]
    yield Check("Keras and ONNX differ by", difference, "", "<= 1e-4", difference <= 1e-4)
    yield from served


def _serve(bundle: str, gpu: float) -> Iterator[Check]:
    """Open a replica's engine on a GPU; where ONNX Runtime has none, it has to refuse."""
    from brain_ray.bundle.bundle import BundleError
    from brain_ray.bundle.predictor import Predictor
    from brain_ray.bundle.session import GPU
    from brain_ray.serving.config import ServingConfig
    from brain_ray.serving.engine import Engine

    told = ""
    try:
        Engine(ServingConfig(bundle=bundle, gpus_per_replica=1))  # checks the canary images
    except BundleError as error:
        told = str(error)
    predictor = Predictor(bundle)
    if predictor.provider != GPU:
        refused = "gpus_per_replica is 1" in told
        yield Check("a replica without onnxruntime-gpu is refused", float(refused), "", "1", refused, told)
        return
    yield Check("a replica opens on the GPU", float(not told), "", "1", not told, told)
    one = np.zeros((1, *(predictor.spec.height, predictor.spec.width), 1), np.uint8)
    for count, name in ((1, "one image"), (32, "32 images")):
        images = np.repeat(one, count, axis=0)
        predictor.predict(images)
        times = []
        for _ in range(30):
            started = time.perf_counter()
            predictor.predict(images)
            times.append(time.perf_counter() - started)
        seconds = float(np.median(times))
        if count == 1:
            most = 0.01 / gpu
            yield Check(f"answer to {name}", seconds, "s", f"< {most:.2g}", seconds < most)
        else:
            least = 2500 * gpu
            yield Check(
                f"answers to {name}", count / seconds, "/s", f">= {least:.0f}", count / seconds >= least
            )


def killed(gpu: float) -> Iterator[Check]:
    """Kill a training after its first epoch; the same command has to end as one that was not killed."""
    from brain_ray.pipeline import run_stages
    from brain_ray.tracking.history import read_history

    config = config_of(_step(gpu, xla=False), gpu, epochs=3)
    with tempfile.TemporaryDirectory() as folder:
        whole, again = (
            config.model_copy(update={"storage": folder, "name": name}) for name in ("whole", "killed")
        )
        _run_apart("train", whole)
        run_stages(again, ("prepare",))
        command = _command("train", again)
        used = _gpu_memory() if gpu else 0
        with subprocess.Popen(
            command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        ) as job:  # fmt: skip
            said = []
            for line in job.stdout or ():
                said.append(line)
                if "epoch 1/3" in line:
                    break
            os.killpg(job.pid, signal.SIGKILL)
        if job.returncode != -signal.SIGKILL:
            raise SystemExit("".join(said))
        if gpu:
            started = time.perf_counter()
            while _gpu_memory() > used + 500 and time.perf_counter() < started + 60:
                time.sleep(0.1)
            freed = time.perf_counter() - started
            yield Check("GPU memory of a killed training is free after", freed, "s", "< 10", freed < 10)
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
        told = done.stdout + done.stderr
        goes_on = done.returncode == 0 and "epoch 1/3" not in told and "epoch 3/3" in told
        yield Check("a killed training goes on", float(goes_on), "", "1", goes_on, told[-500:])
        losses = [read_history(Run(folder, name))[-1].loss for name in ("killed", "whole")]
    ratio = losses[0] / losses[1]
    yield Check("its last loss over an undisturbed one's", ratio, "", "0.98 to 1.02", 0.98 <= ratio <= 1.02)


WRITE_WEIGHTS = """
import sys
from brain_ray.config import ModelConfig
from brain_ray.models.backbones import build_backbone
settings = ModelConfig.model_validate_json(sys.argv[1])
build_backbone(settings).save_weights(sys.argv[2])
"""


def features(gpu: float) -> Iterator[Check]:
    """Train the head on cached features, then everything on images."""
    from brain_ray.pipeline import run_stages
    from brain_ray.tracking.history import read_history

    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "backbone.weights.h5")
        plain = config_of(_step(gpu), gpu).model.model_dump_json()
        hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        # Untrained weights cost as much as others. In a process apart, which takes no memory of the GPU.
        subprocess.run([sys.executable, "-c", WRITE_WEIGHTS, plain, file], env=hidden, check=True)
        config = config_of(_step(gpu), gpu, folder, file, frozen_epochs=2, epochs=1)
        run_stages(config, ("prepare", "train"))
        _, cached, images = read_history(Run(folder, "gpu"))
    share = cached.seconds / images.seconds
    yield Check(
        "an epoch on cached features over one on images", share, "", "<= 0.125" if gpu else "",
        not gpu or share <= 0.125,
    )  # fmt: skip


def sweep(gpu: float) -> Iterator[Check]:
    """Run trials at a time, on a GPU four that share it."""
    from brain_ray.pipeline import run_stages
    from brain_ray.tracking.history import read_history
    from brain_ray.tuning.search_space import SearchSpace
    from brain_ray.tuning.trial_store import trial_run
    from brain_ray.tuning.tune import tune

    count = 4 if gpu else 2
    rates = ", ".join(f"{0.001 * (k + 1):g}" for k in range(count))
    step = _step(gpu, xla=False)
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(step, gpu, folder, epochs=2)
        settings = config.sweep.model_copy(
            update={
                "space": (f"train.learning_rate=grid({rates})",),
                "scheduler": "none",
                "trials_per_gpu": count,
            }
        )
        config = config.model_copy(update={"sweep": settings})
        run_stages(config, ("prepare",))
        run = Run(folder, "gpu")
        summary = tune(run, SearchSpace.parse(config))
        speeds = [read_history(trial_run(run, f"{k:03}"))[-1].images_per_second for k in range(count)]
    finished = summary == f"{count} trials: {count} finished"
    yield Check("trials that share the machine finish", float(finished), "", "1", finished, summary)
    least = step.speed / 2 * gpu
    together = sum(speeds)
    yield Check(
        "their speeds together", together, "images/s", f">= {least:.0f}" if gpu else "", together >= least
    )


def end(gpu: float) -> Iterator[Check]:
    """Check that nothing of the groups before is left on the GPU."""
    if gpu:
        used = _gpu_memory()
        yield Check("GPU's memory in use at the end", used, "MiB", "< 500", used < 500, "see nvidia-smi")


def _command(job: str, config: Config) -> Sequence[str]:
    return [sys.executable, str(JOBS / f"{job}.py"), "--storage", config.storage, "--name", config.name]


def _environment() -> dict[str, str]:
    """Return the environment of a job with a Ray of its own."""
    return {**os.environ, "RAY_ADDRESS": "local"}


def _run_apart(job: str, config: Config) -> None:
    """Prepare here, and run a job in a process of its own, so that a GPU is free afterwards."""
    from brain_ray.pipeline import run_stages

    run_stages(config, ("prepare",))
    done = subprocess.run(
        _command(job, config), env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def _gpu_memory() -> int:
    """Return the GPU's memory in use, in MiB."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    if shutil.which(query[0]) is None:
        raise SystemExit("nvidia-smi is missing: install NVIDIA's driver")
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0])
