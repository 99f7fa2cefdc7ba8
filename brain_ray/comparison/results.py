"""Comparison and its parts: results for a sweep's models, and their JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import matplotlib as mpl
import numpy as np

from brain_ray.comparison.cost import Cost
from brain_ray.evaluation.plots import class_colour
from brain_ray.records import NOT_IN_JSON
from brain_ray.scoring.paired_tests import Difference, SeedNoise
from brain_ray.tuning.trials import SweepRecord

Verdict = Literal["best", "within margin", "unclear", "worse"]
"""A model against the best one. `within margin`: worse by less than the margin, by the upper end of the
interval of its deficit. Of the others, `worse`: the interval is above 0; `unclear`: it holds 0."""


@dataclass(frozen=True)
class Row:
    """Results of a trial; None: not available. Scores are those of its best epoch, on the validation
    images."""

    trial: str
    variant: int
    repeat: int
    model: str
    changes: dict[str, Any]
    seed: int
    status: str
    complete: bool
    """Whether the trial finished with finite probabilities."""
    candidate: bool
    """Whether all repeats of its variant are complete, so that it can be chosen."""
    epochs: int
    """Number of trained epochs."""
    best_epoch: int | None
    cross_entropy: float | None
    """Mean of -ln(probability of the true class), in nats, from `calibration.log_loss`."""
    calibrated: float | None
    """The same after cross-fitted temperature scaling."""
    accuracy: float | None
    accuracy_low: float | None
    """Lower end of the 95 % interval, over groups of images."""
    accuracy_high: float | None
    macro_f1: float | None
    macro_auc: float | None
    """Mean over classes of the area under the ROC curve, each class against the rest."""
    cost: Cost | None
    training_seconds: float
    """Seconds of all epochs."""
    device_hours: float
    """Hours the trial occupied its devices, times their number."""
    device: Literal["GPU", "CPU"]
    attempts: int
    reason: str


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) of repeats; the latter is unknown for a single one."""

    mean: float
    sd: float | None
    repeats: int


@dataclass(frozen=True)
class ModelResult:
    """Results of a model, by the best of its variants whose repeats are all complete.

    A model without such a variant is no contender: scores of the repeats that are left would be those of
    survivors. Its variant is the best one at the matched epoch.
    """

    model: str
    short_name: str = field(metadata=NOT_IN_JSON)
    """Name that distinguishes the model from the others on a chart."""
    colour: str = field(metadata=NOT_IN_JSON)
    """Colour on charts and on the page, as `#rrggbb`."""
    contender: bool
    variants: int
    """Number of the model's variants that were tried."""
    variant: int
    changes: dict[str, Any]
    trial: str | None
    """Id of the best repeat."""
    repeats: int
    """Number of repeats that the variant should have; those after a first one that was stopped are never
    trained."""
    finished: int
    """Number of its repeats that are complete."""
    stopped: int
    failed: int
    loss: Spread | None = field(metadata=NOT_IN_JSON)
    """That of the two cross-entropies by which models are compared."""
    cross_entropy: Spread | None
    """Mean over all repeats, as for `calibrated` and `accuracy`; None if one is missing."""
    calibrated: Spread | None
    accuracy: Spread | None
    matched: Spread | None
    """Best validation cross-entropy up to the matched epoch, over the repeats that did not fail."""
    cost: Cost | None
    verdict: Verdict | None = None
    """None: no contender."""
    deficit: Difference | None = None
    """By how much its cross-entropy (the deciding one) is above the best model's."""
    chosen: bool = False

    @property
    def best(self) -> bool:
        """Whether the model has the lowest mean cross-entropy."""
        return self.verdict == "best"

    @property
    def within_noise(self) -> bool:
        """Whether the model is not told apart from the best one."""
        return self.best or (self.deficit is not None and self.deficit.low <= 0)

    @property
    def latency_ms(self) -> float:
        """Milliseconds for one image; infinity if not known."""
        return self.cost.latency_ms if self.cost and math.isfinite(self.cost.latency_ms) else math.inf


@dataclass(frozen=True)
class Pair:
    """Two contenders, first the one with the lower mean cross-entropy; differences are second minus first, of
    means over all repeats."""

    first: str
    second: str
    loss: Difference
    """Of the deciding cross-entropy."""
    cross_entropy: float
    """Of the raw one, without an interval."""
    calibrated: float
    accuracy: Difference
    first_only: int
    """Number of images that more of the first one's repeats have right; likewise `second_only`."""
    second_only: int
    p: float
    """P value of the sign-flip test of the accuracies, over groups of images; of these trainings, without the
    noise of the seed."""
    p_holm: float
    within_noise: bool
    """Whether the interval of `loss` contains 0."""


@dataclass(frozen=True)
class Comparison:
    """Results of a sweep's comparison, and the records behind them."""

    record: SweepRecord = field(metadata=NOT_IN_JSON)
    """Records of the trials."""
    costs: Mapping[str, Cost] = field(metadata=NOT_IN_JSON)
    """Cost of serving each model, by `Trial.model`."""
    winner: str
    """Id of the trial to export."""
    best: str
    """Name of the model with the lowest mean cross-entropy."""
    rule: str
    sentence: str
    """Reason for the choice of the winner, in a sentence."""
    margin: float
    """By how much a model may be worse than the best one and still win, in nats."""
    groups: int
    """Number of groups of validation images, the independent units of all intervals."""
    seeds: SeedNoise | None
    """Noise of the seed in the deciding cross-entropy, pooled over the variants near the best one; None:
    these have one repeat each."""
    confidence: float
    """Confidence of each interval of a difference."""
    matched_epoch: int | None
    """Last epoch that every trial reached, except those that failed."""
    rows: tuple[Row, ...]
    models: tuple[ModelResult, ...]
    """Contenders, best first, then the others."""
    pairs: tuple[Pair, ...]
    caveats: tuple[str, ...]

    @property
    def chosen(self) -> ModelResult:
        """Results of the winner's model."""
        return next(model for model in self.models if model.chosen)

    def model(self, name: str) -> ModelResult:
        """Returns the results of a model, by its name."""
        return next(model for model in self.models if model.model == name)

    def row(self, trial: str) -> Row:
        """Returns the results of a trial, by its id."""
        return next(row for row in self.rows if row.trial == trial)


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Returns a short name for each model on a chart: the backbone, and the size and head if they differ."""
    parts = {model: model.split(" ") for model in models}
    names = {}
    for model, (backbone, size, *head) in parts.items():
        height, width = size.split("x")
        shown = [backbone]
        if len({other[1] for other in parts.values()}) > 1:
            shown.append(height if height == width else f"{height}×{width}")
        if len({tuple(other[2:]) for other in parts.values()}) > 1:
            shown += head
        names[model] = " ".join(shown)
    return names


def model_colours(models: Sequence[str]) -> dict[str, str]:
    """Returns a colour for each model, as `#rrggbb`; for nine or more, steps of a rainbow."""
    if len(models) <= 8:
        return {model: class_colour(index) for index, model in enumerate(models)}
    steps = mpl.colormaps["turbo"](np.linspace(0.04, 0.96, len(models)))
    return {model: mpl.colors.to_hex(step) for model, step in zip(models, steps, strict=True)}
