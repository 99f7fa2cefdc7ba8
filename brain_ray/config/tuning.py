"""Settings of a sweep."""

from typing import Annotated, Literal

from pydantic import Field

from brain_ray.config.base import Positive, Settings


class SweepConfig(Settings):
    """Training under many settings, and the choice among what comes of it."""

    space: tuple[str, ...] = ("model.backbone=grid(EfficientNetB0, EfficientNetV2B0)",)
    """What is varied, each as NAME=RANGE: the dotted name of a setting under model or train, and
    grid(a, b, ...), choice(a, b, ...), uniform(low, high) or loguniform(low, high). Several names with spaces
    between them take values in step: model.height model.width=grid(96 96, 128 128)."""
    sampler: Literal["grid", "random", "optuna"] = "grid"
    """`grid`: every combination of what is a grid, with `num_samples` draws of the rest for each; `random`:
    `num_samples` draws of everything; `optuna` (the extra of that name): as many proposed by TPE, which
    learns from those before."""
    num_samples: Positive = 1
    """Draws, or proposals, as `sampler` says; a grid without anything to draw needs one."""
    seeds: Positive = 1
    """Trials of each variant, with the run's seed and those that follow it."""
    native_size: bool = True
    """Each backbone gets the input size that it was designed for, unless `space` says another; if not,
    `model.height` and `model.width` hold for all."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """What ends weak trials early: `asha` (Li et al. 2020, arxiv.org/abs/1810.05934), the rule of the median
    of those before, or nothing. A trial is judged by the best value that it has reached."""
    grace_epochs: Positive = 1
    """Epochs that every trial gets."""
    reduction_factor: Annotated[float, Field(gt=1)] = 3.0
    """ASHA keeps one trial of so many at each rung; the rungs' epochs grow by the same factor."""
    max_concurrent: Positive | None = None
    """Trials at a time, at most; None: as many as have room, and on CPUs not more than there are cores."""
    trials_per_gpu: Positive = 1
    """One-worker trials that share a GPU, whose memory they take as they need it."""
    max_failures: Annotated[int, Field(ge=0)] = 1
    """How often a trial that failed is tried again, from its newest checkpoint; then it is given up."""
    silence_minutes: Annotated[float, Field(gt=0)] = 120.0
    """A trial that has no epoch to report for so long is taken for stuck, and fails."""
    choice: Literal["cheapest within noise", "best"] = "cheapest within noise"
    """Which model wins: of the models whose validation cross-entropy is within noise of the best one's, the
    one that answers an image fastest; or simply the best one."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Of all intervals of a comparison together: what lies outside is more than noise."""
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    """Resamples of the validation images for these intervals."""
