"""Errors of a trial, and losses of its process or node, are counted apart."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError
from support.lost_workers import ending_itself
from support.messages import messages_to
from support.numpy_learner import Numpy
from support.training_problem import MakeConfig, problem_config, write_dataset

from brain_ray.cluster.private import MemoryKillError
from brain_ray.config import Config, SweepConfig
from brain_ray.errors import RunError
from brain_ray.runs import Run
from brain_ray.training.failures import WorkerLostError
from brain_ray.tuning import tune
from brain_ray.tuning.failures import Failures
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.trial_store import read_trials


def failures(errors: int, losses: int, silence_minutes: float = 120.0) -> Failures:
    sweep = SweepConfig(max_failures=errors, silence_minutes=silence_minutes)
    return Failures(problem_config(max_failures=losses).model_copy(update={"sweep": sweep}))


def attempts(counted: Failures, *errors: BaseException | None) -> list[bool]:
    """Count errors of a trial, one for each attempt; returns whether another attempt follows."""
    counted.hear("000")
    return [not counted.count("000", error).final for error in errors]


LOST = ActorDiedError()


def test_losses_and_errors_have_limits_of_their_own() -> None:
    error = RunError("no finite loss")
    assert attempts(failures(1, 3), LOST, error, LOST, LOST, error) == [True, True, True, True, False]
    assert attempts(failures(1, 3), error, LOST, LOST, LOST, LOST) == [True, True, True, True, False]
    assert attempts(failures(0, 0), error) == attempts(failures(0, 0), LOST) == [False]


@pytest.mark.parametrize(
    ("error", "counts_as"),
    [
        (ActorDiedError(), "loss"),
        (WorkerLostError("UnavailableError: connection reset"), "loss"),
        (None, "loss"),
        (RayActorError(preempted=True), "nothing"),
        (RayActorError(actor_init_failed=True), "error"),
        (MemoryKillError("the node runs low on memory"), "error"),
        (RunError("train.loss is unknown"), "error"),
        (ValueError("any other"), "error"),
    ],
)
def test_what_counts_as_a_loss(error: BaseException | None, counts_as: str) -> None:
    assert attempts(failures(0, 9), error) == [counts_as != "error"]
    assert attempts(failures(9, 0), error) == [counts_as != "loss"]


def test_a_process_that_was_ended_as_stuck_was_not_lost() -> None:
    counted = failures(0, 9, silence_minutes=1e-9)
    counted.hear("000")
    failure = counted.count("000", LOST)
    assert failure.final
    assert failure.reason.endswith("; it had reported nothing for 1e-09 minutes")


def test_trials_are_counted_apart() -> None:
    counted = failures(0, 1)
    for trial in ("000", "001"):
        counted.hear(trial)
        assert not counted.count(trial, LOST).final
        assert counted.count(trial, LOST).final


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_is_lost_often_finishes_and_others_are_given_up(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    run, ends = Run(str(tmp_path), "lossy"), tmp_path / "ends"
    write_dataset(run)
    lost, always_lost, wrong = 0.001, 0.002, 0.003

    def fail(config: Config, epoch: int, step: int) -> None:
        rate = config.train.learning_rate
        if (epoch, step) != (1, 3):
            return
        if rate == wrong:
            raise RunError("it is wrong")
        with ends.open("a") as file:
            file.write(f"{rate}\n")
        if rate == always_lost or ends.read_text().split().count(str(rate)) < 3:
            os.kill(os.getpid(), signal.SIGKILL)

    space = f"train.learning_rate=grid({lost}, {always_lost}, {wrong})"
    sweep = SweepConfig(space=(space,), scheduler="none", max_concurrent=2, max_failures=1)
    config = make_config(epochs=3, max_failures=2).model_copy(update={"sweep": sweep})
    lines: list[str] = []
    with messages_to(lines.append):
        summary = tune.tune(run, SearchSpace.parse(config), Numpy(fail))
    assert summary == "3 trials: 2 failed, 1 finished"
    records = read_trials(run)
    assert [record.status for record in records] == ["finished", "failed", "failed"]
    assert [record.attempts for record in records] == [3, 3, 2]
    often, used_up, error = (record.reason for record in records)
    assert (often, error) == ("", "it is wrong")
    assert used_up.startswith(
        "its process or node was lost 3 times, and train.max_failures is 2: ActorDiedError: "
    )
    assert sum(line.endswith(f"  failed, is given up: {used_up}") for line in lines) == 1
    told = [line.split("epoch ")[1][0] for line in lines if line.startswith("000") and " | val ce " in line]
    assert told == ["1", "2", "3"]


@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_ray_killed_for_its_memory_is_tried_again_as_after_an_error(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: the process kills itself, and Ray's error is replaced by that of a node without memory."""
    run, get = Run(str(tmp_path), "lossy"), ray.get
    write_dataset(run)

    def get_as_if_killed(*given: Any, **named: Any) -> Any:
        try:
            return get(*given, **named)
        except ActorDiedError:
            raise OutOfMemoryError("the node runs low on memory\nand more lines") from None

    monkeypatch.setattr(ray, "get", get_as_if_killed)
    sweep = SweepConfig(space=("train.learning_rate=grid(0.003)",), scheduler="none", max_failures=1)
    config = make_config(max_failures=0).model_copy(update={"sweep": sweep})
    lines: list[str] = []
    with messages_to(lines.append):
        tune.tune(run, SearchSpace.parse(config), ending_itself(tmp_path / "steps", epoch=1, step=3))
    (line,) = [line for line in lines if "failed, is tried again" in line]
    assert line.endswith("Error: the node runs low on memory")
    assert [(record.status, record.attempts) for record in read_trials(run)] == [("finished", 2)]
