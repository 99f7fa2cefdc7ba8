"""Settings of `sweep`."""

from typing import Annotated, Literal

from pydantic import Field

from brain_ray.config.base import Positive, Settings


class SweepConfig(Settings):
    """Training with many settings, and the choice of the best model."""

    space: tuple[str, ...] = ("model.backbone=grid(EfficientNetB0, EfficientNetV2B0)",)
    """Settings to vary, each as NAME=RANGE. NAME is the dotted name of a setting under model or train; RANGE
    is grid(a, b, ...), choice(a, b, ...), uniform(low, high) or loguniform(low, high). Several names
    separated by spaces take their values together: model.height model.width=grid(96 96, 128 128)."""
    sampler: Literal["grid", "random", "optuna"] = "grid"
    """How trials are chosen. `grid`: every combination of the grids, each with `num_samples` draws of the
    other ranges. `random`: `num_samples` draws of all ranges. `optuna` (needs the extra `optuna`):
    `num_samples` trials proposed by TPE from the results so far."""
    num_samples: Positive = 1
    """Number of draws or proposals (see `sampler`); no effect if the sampler `grid` has nothing to draw."""
    seeds: Positive = 1
    """Number of trials (repeats) of each variant, with the run's seed and the numbers after it as seeds. A
    variant is compared if all of them finish; if its first one is stopped early or fails, the others are not
    trained."""
    native_size: bool = True
    """Whether each backbone gets the input size that it was designed for, unless `space` varies the size. If
    False, all get `model.height` and `model.width`."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """Early stopping of weak variants by their first trial: `asha` (Li et al. 2020,
    arxiv.org/abs/1810.05934), `median` (the median stopping rule) or `none`. Trials are compared by the best
    value that each has reached."""
    grace_epochs: Positive | None = None
    """Number of epochs before a trial may be stopped early, more than `train.warmup_epochs`; None: three more
    than those, or 1 without a warm-up."""
    reduction_factor: Annotated[float, Field(gt=1)] = 3.0
    """ASHA continues one of so many trials at each rung; the epochs of the rungs grow by the same factor."""
    max_concurrent: Positive | None = None
    """Largest number of trials at a time; None: as many as there is room for, on CPUs at most one per
    core."""
    trials_per_gpu: Positive = 1
    """Number of one-worker trials that share a GPU; each takes memory as it needs it."""
    max_failures: Annotated[int, Field(ge=0)] = 1
    """How many times a trial that ended with an error is tried again, from its newest checkpoint, before it
    is marked as failed. Losses of its process or node do not count here: see `train.max_failures`."""
    silence_minutes: Annotated[float, Field(gt=0)] = 120.0
    """Minutes without a report of an epoch after which a trial counts as stuck and fails."""
    choice: Literal["cheapest within margin", "best", "cheapest within noise"] = "cheapest within margin"
    """Which model wins: the one that answers an image fastest among the best and those shown to be worse by
    less than `margin`, or simply the best. `cheapest within noise` is an earlier name of the first rule; runs
    that hold it are chosen by the margin, too."""
    criterion: Literal["calibrated", "raw"] = "calibrated"
    """Validation cross-entropy by which models are compared: `calibrated`, after a temperature as the export
    fits it, here for each half of the validation images on the other half; or `raw`, as trained."""
    margin: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """How much worse than the best a faster model may be and still win, as a share of the best one's
    cross-entropy."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Confidence of each interval of a difference, above 0.5 and below 1."""
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    """Number of resamples of the validation images' groups for these intervals, at least 100."""
