"""The state of a training, and a finished epoch."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brain_ray.records import Number
from brain_ray.tracking.history import EpochRecord
from brain_ray.training.commands import ControlState
from brain_ray.training.dwell import DwellState
from brain_ray.training.framework import Arrays


@dataclass(frozen=True)
class Begun:
    """What has been done of an epoch that is not finished."""

    steps: int
    """Finished steps."""
    sums: tuple[Number, Number, Number, Number]
    """Of these steps, over all workers: loss, cross-entropy, correct rows, rows."""
    seconds: float
    input_wait: float
    """Of the seconds, those that the first worker waited for its batches."""


@dataclass(frozen=True)
class TrainState:
    """State of a run after an epoch or within one, from which it goes on as if it had never stopped."""

    learner: dict[str, Arrays]
    """Groups of arrays of the learner: weights, optimizer, moving average."""
    best: Arrays
    """Weights of the best epoch, in the order of `model.weights`; before the first: those at the start."""
    dwell: DwellState
    history: tuple[EpochRecord, ...]
    control: ControlState = field(default_factory=ControlState)
    """What the operator's commands have changed."""
    val_probabilities: NDArray[np.float32] | None = None
    """(rows, classes), the best epoch's probabilities of all validation rows or, if a fold is held out, of
    its rows; in their order, where they are kept; None before the first best epoch."""
    begun: Begun | None = None
    """None: the next epoch has not begun."""

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.dwell.epochs


class FinishedEpoch(NamedTuple):
    """A finished epoch."""

    record: EpochRecord
    line: str
    """For people."""
    state: TrainState
    last: bool
    """No epoch follows."""
