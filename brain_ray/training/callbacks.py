"""A training without room for its workers: it says what it waits for, and gives up when no room will come."""

from functools import partial
from time import monotonic
from typing import Any

from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.controller.state import (
    InitializingState,
    ReschedulingState,
    RestartingState,
    RunningState,
)
from ray.util.queue import Queue

from brain_ray.cluster.autoscaling import PATIENCE_S, check_room, shortage
from brain_ray.config import TrainConfig
from brain_ray.runs import RunError

LOOK_S = 5.0
"""Between two looks at the cluster; Ray needs some seconds to see that a node is lost."""

BUSY_S = 30.0
"""After so long it is said that there is room, but not for this training: new groups take some seconds."""

WAITING = (InitializingState, RestartingState, ReschedulingState)


class Waiting(ControllerCallback):  # type: ignore[misc]
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
        if isinstance(current_state, RunningState):
            self._since = None
            self._said = ""
        elif isinstance(current_state, WAITING):
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
