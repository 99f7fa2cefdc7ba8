"""A GPU that Ray offers and TensorFlow does not see: work that asks for it ends at once, with a line."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.jobs import ROOT, environment_of
from support.messages import messages_to

from brain_ray.checks import machine

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

SLOWEST_S = 600.0
"""In which all of it ends, on a slow machine."""

MOST_S = 60.0
"""In which each kind of work ends."""

LINE = "train.use_gpu is true, and TensorFlow sees no GPU on "


WORK = ("preflight", "training", "sweep")

FURTHER_WORK = ("features", "sweep-of-two-workers")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """How each kind of work has ended on a cluster whose GPU is made up (simulated)."""
    return endings(tmp_path_factory.mktemp("no_gpu"), WORK)


@pytest.fixture(scope="module")
def ended_too(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """As `ended`, of further work."""
    return endings(tmp_path_factory.mktemp("no_gpu"), FURTHER_WORK)


def endings(folder: Path, work: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Have work done in a process of its own, and return how it has ended."""
    if machine.see_gpus()["tensorflow"]:
        pytest.skip("TensorFlow sees a GPU on this machine")
    paths = f"{ROOT}:{ROOT / 'tests'}"
    with tempfile.TemporaryDirectory(prefix="ng-", dir="/tmp") as home:  # a short path, for Ray's sockets
        done = subprocess.run(
            [sys.executable, __file__, str(folder), *work],
            env=environment_of(home, PYTHONPATH=paths),
            capture_output=True,
            text=True,
            timeout=SLOWEST_S,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return {found["work"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("work", ["training", "sweep"])
def test_it_ends_with_the_reason_at_the_first_attempt(work: str, ended: dict[str, dict[str, Any]]) -> None:
    check_reason(ended[work])


@pytest.mark.thorough
@pytest.mark.parametrize("work", FURTHER_WORK)
def test_other_work_ends_with_it_too(work: str, ended_too: dict[str, dict[str, Any]]) -> None:
    check_reason(ended_too[work])
    assert ended_too[work]["trials"] == ([] if work == "features" else [["running", 1]])


def check_reason(found: dict[str, Any]) -> None:
    """Check that work ended with the reason, in one line, and was not tried again."""
    assert found["error"].startswith(LINE), found
    assert "cannot load libcuda.so.1: " in found["error"], found
    assert "\n" not in found["error"]
    assert found["seconds"] < MOST_S
    assert not [line for line in found["said"] if "again" in line or "ended with" in line], found


def test_no_trial_is_given_up_for_it_and_none_follows(ended: dict[str, dict[str, Any]]) -> None:
    assert ended["sweep"]["trials"] == [["running", 1]]


def test_it_is_seen_before_anything_is_begun(ended: dict[str, dict[str, Any]]) -> None:
    assert "Ray offers 2 GPU(s) and TensorFlow sees none: cannot load libcuda" in ended["preflight"]["error"]
    assert ended["preflight"]["seconds"] < MOST_S


def main(folder: str, *names: str) -> None:
    """Have work of these kinds done that asks for a GPU, and print how it has ended."""
    import ray
    from support.training_problem import SIDE, write_dataset

    from brain_ray.checks.preflight import preflight
    from brain_ray.cluster import connection
    from brain_ray.config import AugmentConfig, Config, ModelConfig, SweepConfig, TrainConfig
    from brain_ray.errors import RunError
    from brain_ray.runs import Run
    from brain_ray.training import train
    from brain_ray.tuning import tune
    from brain_ray.tuning.search_space import SearchSpace
    from brain_ray.tuning.trial_store import read_trials

    os.environ.update(connection.LOCAL_ENV)
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    connection.quiet()
    weights = Path(folder) / "never_read.weights.h5"
    weights.touch()
    model = ModelConfig(backbone="tiny", weights=str(weights), height=SIDE, width=SIDE)
    trials = SweepConfig(space=("train.learning_rate=grid(0.01, 0.003)",), scheduler="none", max_failures=1)
    frozen = {"frozen_epochs": 1, "epochs": 0, "augment": AugmentConfig()}

    def sweep(run: Run, config: Config) -> str:
        return tune.tune(run, SearchSpace.parse(config))

    settings: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "preflight": (lambda run, config: preflight(run, config, ["train"]), {}),
        "training": (train.train, {"epochs": 1}),
        "features": (train.train, frozen),
        "sweep": (sweep, {"epochs": 1}),
        "sweep-of-two-workers": (sweep, {"num_workers": 2, **frozen}),
    }
    for name in names:
        work, changes = settings[name]
        run = Run(folder, name)
        write_dataset(run)
        config = Config(
            storage=folder,
            name=name,
            model=model,
            train=TrainConfig(use_gpu=True, batch_size=8, mlflow_uri="none", **changes),
            sweep=trials.model_copy(update={"max_concurrent": 1}),
        )
        said: list[str] = []
        start = time.monotonic()
        try:
            with messages_to(said.append):
                work(run, config)
            error = ""
        except RunError as refused:
            error = str(refused)
        attempts = [[record.status, record.attempts] for record in read_trials(run, val_probabilities=False)]
        seconds = round(time.monotonic() - start, 1)
        told = {"work": name, "error": error, "said": said, "trials": attempts, "seconds": seconds}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
