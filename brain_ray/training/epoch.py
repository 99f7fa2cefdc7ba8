"""The steps of one epoch, its validation, and its state within it. It knows no Ray, and the learner alone."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.loading.loader import Batch
from brain_ray.training.framework import Learner
from brain_ray.training.state import Begun, TrainState

LOOK_STEPS = 20
"""Steps after which the workers agree whether a state within an epoch is due."""

ASK_S = 5.0
"""Seconds after which it is asked whether a machine is about to go."""

NOTICE_S = 30.0
"""Seconds after which the state is kept again, while a machine is about to go."""


@dataclass(frozen=True)
class Keeping:
    """How states within epochs are kept; every worker calls both at the same steps."""

    keep: Callable[[TrainState], None] = lambda _: None
    noticed: Callable[[], bool] = lambda: False
    """Tells whether a worker's machine is about to be taken away."""


class Clock:
    """Measures the seconds that a worker waits for its batches."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def waited(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yields the batches, and add up the time until each came."""
        start = time.perf_counter()
        for batch in batches:
            self.seconds += time.perf_counter() - start
            yield batch
            start = time.perf_counter()
        self.seconds += time.perf_counter() - start


@dataclass
class Keeper:
    """Keeps the state of an epoch that takes long, from time to time, and before a machine goes."""

    minutes: float | None
    learner: Learner
    keeping: Keeping
    reached: TrainState
    """The state before the epoch, without the learner's."""
    clock: Clock
    start: float
    """When the epoch began, by `time.perf_counter`, less the time in which it was interrupted."""

    def __post_init__(self) -> None:
        self._kept = self._asked = time.perf_counter()
        self._kept_at_notice = -math.inf

    def look(self, steps: int, total: Any) -> Any:
        """Keeps the state after some steps, if that is due; returns the sums to go on with.

        The first worker's clock decides for all. Kept sums are those of all workers, and go on as the first
        one's: as they would if the training were resumed here.
        """
        now = time.perf_counter()
        late = self.minutes is not None and now - self._kept >= 60 * self.minutes
        own = np.array([late, now - self._asked >= ASK_S], np.float64)
        due, asks = self.learner.sum(own if self.learner.rank == 0 else np.zeros(2)) > 0
        if asks:
            self._asked = now
            if self.keeping.noticed() and now - self._kept_at_notice >= NOTICE_S:
                self._kept_at_notice, due = now, True
        if not due:
            return total
        self.learner.finish_epoch()
        sums = np.asarray(self.learner.sum(total), np.float64)
        seconds = time.perf_counter() - self.start
        begun = Begun(steps, tuple(sums.tolist()), seconds, self.clock.seconds)
        self.keeping.keep(replace(self.reached, learner=self.learner.state(), begun=begun))
        self._kept = time.perf_counter()
        return sums if self.learner.rank == 0 else np.zeros(4)


def train_epoch(
    learner: Learner,
    batches: Iterable[Batch],
    rates: NDArray[np.float64],
    begun: Begun,
    on_step: Callable[[int], None],
    look: Callable[[int, Any], Any],
) -> dict[str, float]:
    """Takes the steps of an epoch that are left; returns its means over the rows, and the number of these.

    Args:
        learner: after `start_epoch`.
        batches: of the steps that are left.
        rates: of all steps.
        begun: what has been done of the epoch.
        on_step: called after each step with the number of finished ones.
        look: called now and then with it and the sums so far; returns those to go on with.
    """
    total: Any = np.array(begun.sums if learner.rank == 0 else np.zeros(4))
    for step, (batch, rate) in enumerate(zip(batches, rates[begun.steps :], strict=True), begun.steps + 1):
        total = learner.train(batch, float(rate)) + total
        on_step(step)
        if step % LOOK_STEPS == 0 and step < len(rates):
            total = look(step, total)
    return _means(learner.sum(total))


def validate(
    learner: Learner, batches: Iterable[Batch], keep_probabilities: bool
) -> tuple[dict[str, float], NDArray[np.float32] | None]:
    """Scores batches; returns the means over all rows, and if they are kept (rows, classes) the rows'
    probabilities."""
    total: Any = np.zeros(4)
    own: list[tuple[NDArray[np.int64], Any]] = []
    rows = 0
    for batch in batches:
        sums, probabilities = learner.validate(batch)
        total = sums + total
        if keep_probabilities and batch.sample_weight.all():
            parts = np.array_split(np.arange(rows, rows + batch.total), learner.num_workers)
            own.append((parts[learner.rank], probabilities))
        rows += batch.total
    gathered = None
    if keep_probabilities:
        gathered = np.zeros((rows, learner.num_classes), np.float32)
        for places, probabilities in own:
            gathered[places] = probabilities
        if learner.num_workers > 1:
            gathered = learner.sum(gathered)
    return _means(learner.sum(total)), gathered


def _means(sums: Any) -> dict[str, float]:
    loss, cross_entropy, correct, rows = (float(value) for value in sums)
    return {
        "loss": loss / rows,
        "cross_entropy": cross_entropy / rows,
        "accuracy": correct / rows,
        "rows": rows,
    }
