"""Ray Train controller callbacks: end a training at fatal errors, and one that waits in vain."""

from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Any

import ray
import ray.train
import ray.train.collective
from ray.util.queue import Queue

from brain_ray.cluster.autoscaling import check_room
from brain_ray.cluster.waiting import PATIENCE_S, shortage
from brain_ray.config import TrainConfig
from brain_ray.errors import RunError
from brain_ray.logs import log
from brain_ray.training.failures import fault_of, loss_of
from brain_ray.training.messages import Controller

LOOK_S = 5.0
"""Between two looks at the cluster; Ray needs some seconds to see that a node is lost."""

BUSY_S = 30.0
"""After so long it is said that there is room, but not for this training: new groups take some seconds."""

WAITING = {"InitializingState", "RestartingState", "ReschedulingState"}
"""Names of the controller's states in which a training has no workers."""


def end_vain_waits(settings: TrainConfig, messages: Queue) -> list[Any]:
    """Callbacks for Ray Train's controller that end a training which waits for room in vain.

    Uses Ray's private `ControllerCallback` (2.60), which alone is called while there are no workers. Without
    it the list is empty, and a training without room waits for ever, as Ray Train does by itself.
    """
    try:
        from ray.train.v2._internal.execution.callback import ControllerCallback
    except ImportError:
        log.warning("this version of Ray tells nothing of trainings that wait for room: they wait for ever")
        return []
    return [type("EndVainWaits", (Waiting, ControllerCallback), {})(settings, messages)]


class Waiting:
    """Ends a training that waits for room in vain, which Ray Train itself does for ever without a word.

    It runs in Ray Train's controller, which gives up at once when a callback fails.
    """

    def __init__(self, settings: TrainConfig, messages: Queue) -> None:
        self._settings = settings
        self._messages = messages
        self._patience = PATIENCE_S
        self._since: float | None = None
        self._looked = 0.0
        self._said = ""

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Look for room while there are no workers."""
        state = type(current_state).__name__
        if state == "RunningState":
            self._since = None
            self._said = ""
        elif state in WAITING:
            self._wait(monotonic())

    def _wait(self, now: float) -> None:
        if self._since is None:
            self._since = self._looked = now
        if now < self._looked + LOOK_S:
            return
        self._looked = now
        what = self._look(now - self._since)
        if what and what != self._said:
            self._said = what
            self._messages.put(what)

    def _look(self, waited: float) -> str:
        """Say what is waited for; "" if it is too early to say.

        Raises:
            RunError: it was waited for too long.
        """
        limit, lacking = shortage(partial(check_room, self._settings), self._patience)
        if lacking:
            return self._said_within(limit, waited, lacking)
        return "waits for room for its workers, which others use now" if waited > BUSY_S else ""

    def _said_within(self, limit: float, waited: float, text: str) -> str:
        if waited < limit:
            return f"waits up to {limit:g} s for room for its workers: {text}"
        raise RunError(
            f"no room for the workers within {limit:g} s: {text}; "
            "the same command goes on from the last epoch"
        )


class EndAtFaults(ray.train.UserCallback):  # type: ignore[misc]
    """Ends a training at what trying again does not cure, which Ray Train itself does not tell apart.

    It runs in Ray Train's controller, which gives up at once when a callback fails.
    """

    def __init__(self, messages: Queue) -> None:
        self._messages = messages

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        """Say which actor this is."""
        self._messages.put(Controller(ray.get_runtime_context().current_actor))

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, BaseException]) -> None:
        """Raise the fault among what ended the workers; if there is none, say what was lost."""
        fault = fault_of(worker_exceptions)
        if fault is not None:
            raise fault
        self._messages.put(loss_of(worker_exceptions))
