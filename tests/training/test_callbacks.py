"""A training without room for its workers: what it says, and when it gives up."""

import math
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayError
from ray.train import RunConfig, ScalingConfig, TrainingFailedError
from ray.train.v2._internal.execution.controller.state import RestartingState, RunningState
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.queue import Queue

from brain_ray.cluster.waiting import NODES_TIMEOUT_S
from brain_ray.config import TrainConfig
from brain_ray.errors import RunError
from brain_ray.runs import Run
from brain_ray.training.callbacks import Waiting, end_vain_waits
from brain_ray.training.failures import to_run_error
from brain_ray.training.resizing import ResizeWhereKept, note_kept
from brain_ray.training.trainer import poll_interval

LACKING = "the cluster has 2 CPUs on 1 node(s), and training asks for 4"


class Heard(list[str]):
    """In place of the queue of messages."""

    def put(self, text: str) -> None:
        self.append(text)


class Request:
    """In place of a request for nodes, a launch of which fails at a certain look."""

    def __init__(self, fails_at: int) -> None:
        self._fails_at = fails_at
        self.looks = self.cancelled = 0

    def renew(self) -> str:
        self.looks += 1
        return "asks for nodes on demand" if self.looks == self._fails_at else ""

    def cancel(self) -> None:
        self.cancelled += 1


class Controller:
    """Walks Ray Train's controller through its states, and the clock with it."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.room: str | RunError = ""
        self.requests: list[Request] = []
        self.fails_at = 0
        self._now = 1000.0
        self._waiting = Waiting(self._check, self.heard, clock=lambda: self._now, ask=self._ask)

    def _ask(self) -> Any:
        self.requests.append(Request(self.fails_at))
        return self.requests[-1]

    def _check(self) -> str:
        if isinstance(self.room, RunError):
            raise self.room
        return self.room

    def pass_through(self, kind: Any, seconds: float, steps: int) -> None:
        """Stay in a state, of which Ray Train takes notice again and again."""
        state = kind(training_failed_error=None) if kind is RestartingState else kind()
        for _ in range(steps):
            self._waiting.after_controller_state_update(state, state)
            self._now += seconds / steps


@pytest.fixture
def controller() -> Controller:
    return Controller()


def test_a_group_that_starts_within_seconds_is_not_spoken_of(controller: Controller) -> None:
    controller.pass_through(RestartingState, 25, 10)
    controller.pass_through(RunningState, 600, 10)
    controller.pass_through(RestartingState, 25, 10)
    assert controller.heard == []


def test_without_room_in_the_cluster_it_gives_up_after_a_minute(controller: Controller) -> None:
    controller.room = RunError(LACKING)
    controller.pass_through(RestartingState, 64, 200)  # the first look comes after 5 s
    assert controller.heard == [f"waits up to 60 s for room for its workers: {LACKING}"]
    with pytest.raises(
        RunError, match=re.escape(f"no room for the workers within 60 s: {LACKING}; the same")
    ):
        controller.pass_through(RestartingState, 10, 10)


def test_a_node_that_comes_ends_the_wait_and_the_next_one_begins_anew(controller: Controller) -> None:
    for _ in range(2):
        controller.room = RunError(LACKING)
        controller.pass_through(RestartingState, 50, 50)
        controller.room = ""
        controller.pass_through(RunningState, 10, 10)
    assert controller.heard == [f"waits up to 60 s for room for its workers: {LACKING}"] * 2


def test_it_waits_longer_for_nodes_that_an_autoscaler_starts(controller: Controller) -> None:
    controller.room = "2 node(s) can be started"
    controller.pass_through(RestartingState, NODES_TIMEOUT_S, 1000)
    assert controller.heard == ["waits up to 1800 s for room for its workers: 2 node(s) can be started"]
    with pytest.raises(RunError, match="within 1800 s: 2 node"):
        controller.pass_through(RestartingState, 10, 10)


def test_nodes_are_asked_for_while_it_waits_and_no_longer(controller: Controller) -> None:
    controller.fails_at = 3
    for _ in range(2):
        controller.room = "1 node(s) can be started"
        controller.pass_through(RestartingState, 60, 60)
        controller.room = ""
        controller.pass_through(RunningState, 10, 10)
    waits = "waits up to 1800 s for room for its workers: 1 node(s) can be started"
    assert controller.heard == [waits, "asks for nodes on demand"] * 2
    assert [request.cancelled for request in controller.requests] == [1, 1]


def test_it_waits_without_end_for_room_that_others_use(controller: Controller) -> None:
    controller.pass_through(RestartingState, 100_000, 1000)
    assert controller.heard == ["waits for room for its workers, which others use now"]


def test_room_that_others_use_is_no_wait_for_nodes(controller: Controller) -> None:
    """A node that is lost after a long wait for other trainings' room has its whole time to come back."""
    controller.pass_through(RestartingState, 1000, 200)
    controller.room = RunError(LACKING)
    controller.pass_through(RestartingState, 60, 60)
    controller.room = ""
    controller.pass_through(RestartingState, 60, 60)
    busy = "waits for room for its workers, which others use now"
    assert controller.heard == [busy, f"waits up to 60 s for room for its workers: {LACKING}", busy]


@pytest.mark.parametrize(("num_workers", "seconds"), [(1, 0.2), (8, 0.2), (64, 1.6), (200, 2.0)])
def test_many_workers_are_asked_less_often(num_workers: int, seconds: float) -> None:
    assert poll_interval(num_workers) == seconds


def test_ray_looks_for_room_once_after_a_state_was_kept_and_at_no_other_time() -> None:
    settings = ResizeWhereKept(num_workers=(1, 2))
    assert settings.elasticity_enabled
    there = pickle.loads(pickle.dumps(settings))
    assert there.elastic_resize_monitor_interval_s == math.inf
    note_kept()
    assert [there.elastic_resize_monitor_interval_s for _ in range(3)] == [0.0, math.inf, math.inf]


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_ray_train_ends_a_training_that_waits_in_vain(tmp_path: Path) -> None:
    settings, messages = TrainConfig(num_workers=64), Queue(actor_options={"num_cpus": 0})
    trainer = DataParallelTrainer(
        lambda: None,
        scaling_config=ScalingConfig(num_workers=64),
        run_config=RunConfig(
            name="train",
            storage_path=str(tmp_path),
            callbacks=end_vain_waits(settings, messages, patience_s=0.0),
        ),
    )
    with pytest.raises((TrainingFailedError, RayError)) as failed:
        trainer.fit()
    messages.shutdown()
    line = str(to_run_error(failed.value, Run(str(tmp_path), "run"), settings.max_failures))
    assert line.startswith("no room for the workers within 0 s: the cluster has 4 CPUs on 1 node(s), and ")
    assert line.endswith("; the same command goes on from the newest checkpoint")
