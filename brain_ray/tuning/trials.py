"""Trial and TrialRecord: what a trial is, and what is known of it."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.records import Number
from brain_ray.tracking.history import EpochRecord

Status = Literal["running", "finished", "stopped", "failed"]
"""`finished`: trained to the end of its own settings; `stopped`: by the scheduler, as one of the weaker."""


@dataclass(frozen=True)
class Trial:
    """One training of a sweep."""

    id: str
    """Its folder within the sweep: "000", "001", ..."""
    variant: int
    """From 0; trials that differ in nothing but the seed share it."""
    repeat: int
    """From 0, among the trials of its variant."""
    changes: dict[str, Any]
    """What the search space sets, by dotted name; the seed and a backbone's native size are not among it."""
    config: Config
    """The whole settings."""

    @property
    def model(self) -> str:
        """What it costs to serve depends on nothing else: "EfficientNetB0 224x224 gap"."""
        model = self.config.model
        return f"{model.backbone} {model.height}x{model.width} {model.head}"


@dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial."""

    trial: Trial
    status: Status
    history: tuple[EpochRecord, ...] = ()
    """Its epochs, in order; those that are not finite hold NaN."""
    probabilities: NDArray[np.float32] | None = None
    """(rows, classes), what its best epoch makes of the validation rows; None if it has no best epoch."""
    reason: str = ""
    """Why it was stopped, or failed, in a line."""
    attempts: int = 1
    """How often it was started, with the first."""
    held_seconds: float = 0.0
    """For which it held its devices."""
    devices: float = 1.0
    """GPUs that it held, or CPUs where it trains on those."""
    device: Literal["GPU", "CPU"] = "CPU"


@dataclass(frozen=True)
class Reached:
    """A trial at a rung."""

    trial: str
    """Its id."""
    value: Number
    """The best value that it had reached, of what `train.monitor` names; not finite, if it had none."""
    stopped: bool
    """Whether it ended there."""


@dataclass(frozen=True)
class Rung:
    """An epoch at which ASHA compared the trials that had come so far."""

    epoch: int
    reached: tuple[Reached, ...]
    """In the order in which they came."""


@dataclass(frozen=True)
class SweepRecord:
    """All that a comparison is made of."""

    config: Config
    """Of the run; `config.sweep` holds the rule of choice."""
    trials: tuple[TrialRecord, ...]
    """All of them, in the order of their ids."""
    labels: NDArray[np.int64]
    """(rows,), the true classes of the validation rows, for all trials the same rows in the same order."""
    rungs: tuple[Rung, ...] = ()
    """Rising epochs; empty without ASHA."""
