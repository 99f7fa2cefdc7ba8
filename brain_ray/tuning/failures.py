"""Failures of trials: errors, and losses of a process or node, each kind counted against its own limit."""

import pickle
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import OutOfMemoryError, RayActorError

from brain_ray.cluster.losses import is_loss
from brain_ray.config import Config
from brain_ray.errors import RunError, last_line
from brain_ray.training.failures import WorkerLostError


@dataclass(frozen=True)
class Failure:
    """The end of an attempt at a trial."""

    reason: str
    """What ended it, in a line."""
    final: bool
    """No other attempt follows."""


class Failures:
    """Counts the failures of each trial since the sweep was started; Ray Tune has one limit for all kinds.

    Errors count against `sweep.max_failures`, losses of a process or node against `train.max_failures`. A
    process that Ray killed for want of memory, or that ended itself because it was stuck, failed with an
    error. A node that was taken back after a notice does not count, as under Ray Train.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._errors: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._heard: dict[str, float] = {}

    def hear(self, trial: str) -> None:
        """Notes that a trial has just started, or reported an epoch."""
        self._heard[trial] = time.monotonic()

    def count(self, trial: str, error: BaseException | None) -> Failure:
        """Counts what ended an attempt at a trial; None: its process left no error."""
        reason = _line(error)
        if isinstance(error, RayActorError) and error.preempted:
            return Failure(reason, final=False)
        silence, now = self._config.sweep.silence_minutes, time.monotonic()
        if isinstance(error, RayActorError) and now - self._heard.get(trial, now) >= 60 * silence:
            reason = f"{reason}; it had reported nothing for {silence:g} minutes"
        elif _is_loss(error):
            self._losses[trial] += 1
            lost, most = self._losses[trial], self._config.train.max_failures
            if lost > most:
                reason = (
                    f"its process or node was lost {lost} times, and train.max_failures is {most}: {reason}"
                )
            return Failure(reason, final=lost > most)
        self._errors[trial] += 1
        return Failure(reason, final=self._errors[trial] > self._config.sweep.max_failures)


def error_of(trial: Any) -> BaseException | None:
    """Returns the error that ended the last attempt of a trial of Ray Tune, which keeps it in a file; None if
    there is none."""
    try:
        error: BaseException = pickle.loads(Path(trial.pickled_error_file).read_bytes())
    except (OSError, TypeError):
        return None
    while isinstance(inner := getattr(error, "cause", None), BaseException):
        error = inner
    return error


def _is_loss(error: BaseException | None) -> bool:
    if isinstance(error, OutOfMemoryError) or getattr(error, "actor_init_failed", False):
        return False
    return error is None or isinstance(error, WorkerLostError) or is_loss(error)


def _line(error: BaseException | None) -> str:
    if error is None:
        return "its process was lost"
    return str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {last_line(error)}"
