"""Records of a sweep: Trial, TrialRecord, Rung, SweepRecord."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.data.folds import Folds
from brain_ray.records import Number
from brain_ray.tracking.history import EpochRecord

Status = Literal["running", "finished", "stopped", "failed"]
"""`finished`: trained to the end of its own settings; `stopped`: ended early by the scheduler."""


@dataclass(frozen=True)
class Trial:
    """A trial: one training of a sweep."""

    id: str
    """Folder of the trial within the sweep: "000", "001", ..."""
    variant: int
    """Number of the variant, from 0; trials of a variant differ only in the seed."""
    repeat: int
    """Number of the trial within its variant, from 0."""
    changes: dict[str, Any]
    """Settings of the search space, by dotted name; without the seed and a backbone's native size."""
    config: Config
    """Config of the trial, complete."""

    @property
    def model(self) -> str:
        """The settings on which the cost of serving depends, as text: "EfficientNetB0 224x224 gap"."""
        model = self.config.model
        return f"{model.backbone} {model.height}x{model.width} {model.head}"


@dataclass(frozen=True)
class TrialRecord:
    """Facts about a trial."""

    trial: Trial
    status: Status
    history: tuple[EpochRecord, ...] = ()
    """Epochs in order; epochs without a finite loss hold NaN."""
    probabilities: NDArray[np.float32] | None = None
    """Float32 (rows, classes): probabilities of the validation rows after the best epoch or, if the trial
    leaves out a fold, of its images; None if there is no best epoch."""
    reason: str = ""
    """Why the trial was stopped, or failed, in a line."""
    attempts: int = 1
    """Number of starts, the first included."""
    held_seconds: float = 0.0
    """Seconds the trial occupied its devices."""
    devices: float = 1.0
    """Number of GPUs that the trial occupied, or of CPUs if it trains on those."""
    device: Literal["GPU", "CPU"] = "CPU"


@dataclass(frozen=True)
class Reached:
    """A trial that reached a rung."""

    trial: str
    """Id of the trial."""
    value: Number
    """Best value of `train.monitor` so far; not finite if the trial had none."""
    stopped: bool
    """Whether the trial was stopped at this rung."""


@dataclass(frozen=True)
class Rung:
    """An epoch at which ASHA compares the trials that have reached it."""

    epoch: int
    reached: tuple[Reached, ...]
    """Trials in the order in which they reached the rung."""


@dataclass(frozen=True)
class SweepRecord:
    """Records of a sweep, from which the comparison is made."""

    config: Config
    """Config of the run; `config.sweep` holds the rule of choice."""
    trials: tuple[TrialRecord, ...]
    """All trials, in the order of their ids."""
    labels: NDArray[np.int64]
    """Int64 (rows,): true classes of the validation rows (over folds: of all images that were dealt to them),
    in the order of the rows of each trial's probabilities."""
    groups: NDArray[np.int64]
    """Int64 (rows,): group of each of them: rows of one patient, or copies of one slice, share one."""
    rungs: tuple[Rung, ...] = ()
    """Rungs by rising epoch; empty without ASHA."""
    members: Mapping[str, tuple[TrialRecord, ...]] = field(default_factory=dict)
    """In a sweep over folds, the trials of the folds by the id of the record in `trials` that they make
    together; else empty."""
    folds: Folds | None = None


def models_of(trials: Sequence[Trial]) -> dict[str, Config]:
    """Returns the config of one trial for each `Trial.model`."""
    return {trial.model: trial.config for trial in reversed(trials)}
