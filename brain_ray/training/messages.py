"""Messages from workers to the driver: log lines, finished epochs, progress."""

from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from brain_ray.tracking.history import EpochRecord
from brain_ray.tracking.position import Position

SECONDS = 0.25
"""Between two messages on how far a worker is."""


@dataclass(frozen=True)
class Epoch:
    """An epoch that has ended, and its line for people."""

    record: EpochRecord
    line: str
    last: bool
    """No epoch follows."""


@dataclass(frozen=True)
class Controller:
    """Ray Train's controller, sent after each epoch: to stop a training early, its `abort` is called."""

    handle: Any


@dataclass(frozen=True)
class Reservation:
    """Placement group of the workers: to stop a training early, it is removed."""

    placement_group: Any


Message = str | Position | Epoch | Controller | Reservation


class Sink(Protocol):
    """Takes messages, such as `Outbox`."""

    def put(self, message: Message) -> None:
        """Passes a message on."""


class ProgressSender:
    """Sends how far a worker is, at most every SECONDS."""

    def __init__(self, messages: Sink | None, epochs: int, steps: int) -> None:
        self.epochs = epochs
        """Of the whole run; more when its operator says so."""
        self._messages = messages
        self._steps = steps
        self._said = 0.0

    def __call__(self, epoch: int, step: int) -> None:
        """Takes the finished epochs and the finished steps of this one."""
        if self._messages is not None and monotonic() > self._said + SECONDS:
            self._said = monotonic()
            self._messages.put(Position(epoch, max(self.epochs, epoch + 1), step, self._steps))
