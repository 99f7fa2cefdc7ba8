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
from brain_ray.tuning.trials import SweepRecord


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
    candidate: bool
    """Whether the trial finished with finite probabilities, so that it can be chosen."""
    epochs: int
    """Number of trained epochs."""
    best_epoch: int | None
    cross_entropy: float | None
    """Mean of -ln(probability of the true class), in nats, from `calibration.log_loss`."""
    accuracy: float | None
    accuracy_low: float | None
    """Lower end of Wilson's 95 % interval."""
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
    """Results of a model, by its best variant: the lowest mean cross-entropy of finished repeats.

    A model without finished repeats is no contender; its variant is the best one at the matched epoch.
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
    """Id of the best finished repeat."""
    repeats: int
    """Number of the variant's repeats, including those that were stopped or failed."""
    stopped: int
    failed: int
    cross_entropy: Spread | None
    """Mean over finished repeats, as for `accuracy`."""
    accuracy: Spread | None
    matched: Spread | None
    """Best validation cross-entropy up to the matched epoch, over the repeats that did not fail."""
    cost: Cost | None
    best: bool = False
    within_noise: bool = False
    """Whether the model is within noise of the best one."""
    chosen: bool = False

    @property
    def latency_ms(self) -> float:
        """Milliseconds for one image; infinity if not known."""
        return self.cost.latency_ms if self.cost and math.isfinite(self.cost.latency_ms) else math.inf


@dataclass(frozen=True)
class Difference:
    """A difference of two scores with its corrected interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Two contenders, first the one with the lower mean cross-entropy; differences are second minus first."""

    first: str
    second: str
    cross_entropy: Difference
    accuracy: Difference
    first_only: int
    """Number of images that only the first one's best repeat classifies correctly."""
    second_only: int
    p: float
    """P value of McNemar's exact test on these two numbers."""
    p_holm: float
    within_noise: bool
    """Whether the interval of the cross-entropy's difference contains 0."""


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
    within_noise: tuple[str, ...]
    """Names of the models within noise of the best one, itself included."""
    confidence: float
    """Joint confidence of all intervals of one score."""
    level: float
    """Confidence of each interval (Bonferroni)."""
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
