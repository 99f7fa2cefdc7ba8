"""Ray Train's trainer, and its callbacks that end a training: at fatal errors, and one that waits in vain."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.collective

from brain_ray.cluster.autoscaling import ask_beside_ray_train, check_room
from brain_ray.cluster.node_request import NodeRequest
from brain_ray.cluster.waiting import ROOM_TIMEOUT_S, RoomWatch, WaitLines
from brain_ray.config import TrainConfig
from brain_ray.logs import log
from brain_ray.training.failures import describe_lost_worker, fatal_error
from brain_ray.training.messages import Controller, Sink
from brain_ray.training.resizing import OVER, note_kept

WAITING = {"InitializingState", "RestartingState", "ReschedulingState"}
"""Names of the controller's states in which a training has no workers."""


GIVEN_UP = (
    "no room for {what} within {limit:g} s: {lacking}; the same command goes on from the newest checkpoint"
)

LINES = WaitLines(
    begins="waits up to {limit:g} s for room for its workers: {lacking}",
    ends="",
    no_room=GIVEN_UP,
    no_nodes=GIVEN_UP,
)

OTHERS_USE_IT = "waits for room for its workers, which others use now"


def trainer_class() -> type[Any]:
    """Returns Ray Train's trainer, without its callback for datasets.

    That one starts an actor for each group of workers, which here load for themselves. Uses Ray's private
    `DatasetsCallback` and `_create_default_callbacks` (2.60); without them it is the trainer as it is, which
    starts the actor.
    """
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    try:
        from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    except ImportError:
        return DataParallelTrainer  # type: ignore[no-any-return]

    class Trainer(DataParallelTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            found = super()._create_default_callbacks()
            return [one for one in found if not isinstance(one, DatasetsCallback)]

    return Trainer


def end_vain_waits(settings: TrainConfig, messages: Sink, patience_s: float = ROOM_TIMEOUT_S) -> list[Any]:
    """Makes callbacks for Ray Train's controller that end a training which waits for room in vain.

    Uses Ray's private `ControllerCallback` (2.60), which alone is called while there are no workers. Without
    it the list is empty, and a training without room waits for ever, as Ray Train does by itself.

    Args:
        settings: what the workers need.
        messages: gets the lines that say what is waited for.
        patience_s: how long to wait where nothing starts nodes.
    """
    try:
        from ray.train.v2._internal.execution.callback import ControllerCallback
    except ImportError:
        log.warning("this version of Ray tells nothing of trainings that wait for room: they wait for ever")
        return []
    end = type("EndVainWaits", (Waiting, ControllerCallback), {})
    ask = partial(ask_beside_ray_train, settings)
    return [end(partial(check_room, settings), messages, patience_s, ask=ask)]


class Waiting:
    """Ends a training that waits for room in vain, which Ray Train itself does for ever without a word.

    It runs in Ray Train's controller, which gives up at once when a callback fails.
    """

    def __init__(
        self,
        check: Callable[[], str],
        messages: Sink,
        patience_s: float = ROOM_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
        *,
        look_s: float = 5.0,
        busy_s: float = 30.0,
        ask: Callable[[], NodeRequest] | None = None,
    ) -> None:
        """Begins with a training that has its workers.

        Args:
            check: as of `RoomWatch`.
            messages: gets the lines that say what is waited for.
            patience_s: how long to wait where nothing starts nodes.
            clock: tells the time in seconds.
            look_s: seconds between two looks; Ray needs some to see that a node is lost.
            busy_s: seconds after which it is said that there is room, but not for this training: new groups
                take some.
            ask: as of `RoomWatch`.
        """
        self._watch_room = partial(RoomWatch, "the workers", check, patience_s, clock, lines=LINES, ask=ask)
        self._messages, self._clock = messages, clock
        self._look_s, self._busy_s = look_s, busy_s
        self._watch = self._watch_room()
        self._begin()

    def _begin(self) -> None:
        self._watch.close()
        self._watch = self._watch_room()
        self._since: float | None = None
        self._looked = 0.0
        self._said = ""

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Looks for room while there are no workers.

        Raises:
            RunError: there was none for too long.
        """
        state = type(current_state).__name__
        if state == "RunningState":
            self._begin()
        elif state in WAITING:
            self._wait(self._clock())

    def _wait(self, now: float) -> None:
        if self._since is None:
            self._since = self._looked = now
        if now < self._looked + self._look_s:
            return
        self._looked = now
        line = self._watch.look()
        if not self._watch.waits and now - self._since > self._busy_s:
            line = OTHERS_USE_IT
        if line and line != self._said:
            self._said = line
            self._messages.put(line)


class EndAtFaults(ray.train.UserCallback):  # type: ignore[misc]
    """Ends a training at what trying again does not cure, which Ray Train itself does not tell apart; notes
    where the state was kept.

    It runs in Ray Train's controller, which gives up at once when a callback fails.
    """

    def __init__(self, messages: Sink) -> None:
        self._messages = messages

    def after_report(self, run_context: Any, metrics: Sequence[Mapping[str, Any]], checkpoint: Any) -> None:
        """Says which actor this is, and where there is more to train that the group may change its size."""
        self._messages.put(Controller(ray.get_runtime_context().current_actor))
        if not metrics[0].get(OVER):
            note_kept()

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, BaseException]) -> None:
        """Raises the fault among what ended the workers; if there is none, say what was lost."""
        fault = fatal_error(worker_exceptions)
        if fault is not None:
            raise fault
        self._messages.put(describe_lost_worker(worker_exceptions))
