"""Comparison and its parts: the result of comparing a sweep's models, and its JSON."""

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
    """A trial; None where it has no such value. Scores are of its best epoch, on the validation images."""

    trial: str
    variant: int
    repeat: int
    model: str
    changes: dict[str, Any]
    seed: int
    status: str
    candidate: bool
    """Whether it finished with finite probabilities, so that it can be chosen."""
    epochs: int
    """That it trained."""
    best_epoch: int | None
    cross_entropy: float | None
    """Mean of -ln(probability of the true class), in nats, as `calibration.log_loss` takes it."""
    accuracy: float | None
    accuracy_low: float | None
    """The interval is Wilson's, 95 %."""
    accuracy_high: float | None
    macro_f1: float | None
    macro_auc: float | None
    """One class against the rest."""
    cost: Cost | None
    training_seconds: float
    """Of its epochs."""
    device_hours: float
    """For which it held devices, times their number."""
    device: Literal["GPU", "CPU"]
    attempts: int
    reason: str


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) of repeats; a single one says nothing about the latter."""

    mean: float
    sd: float | None
    repeats: int


@dataclass(frozen=True)
class ModelResult:
    """A model with its best variant: the lowest mean cross-entropy of finished repeats.

    A model without any is no contender; its variant is the best one at the matched epoch.
    """

    model: str
    short_name: str = field(metadata=NOT_IN_JSON)
    """What tells it apart from the others on a chart."""
    colour: str = field(metadata=NOT_IN_JSON)
    """On charts and on the page, as `#rrggbb`."""
    contender: bool
    variants: int
    """That were tried of the model."""
    variant: int
    changes: dict[str, Any]
    trial: str | None
    """The best finished repeat."""
    repeats: int
    """Of the variant, of which some were stopped and some failed."""
    stopped: int
    failed: int
    cross_entropy: Spread | None
    """Over finished repeats, as is `accuracy`."""
    accuracy: Spread | None
    matched: Spread | None
    """Best validation cross-entropy until the matched epoch, over the repeats that did not fail."""
    cost: Cost | None
    best: bool = False
    within_noise: bool = False
    """Of the best one."""
    chosen: bool = False

    @property
    def latency_ms(self) -> float:
        """Of one image; infinity where it is not known."""
        return self.cost.latency_ms if self.cost and math.isfinite(self.cost.latency_ms) else math.inf


@dataclass(frozen=True)
class Difference:
    """A difference with its corrected interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Two contenders, the one with the lower mean cross-entropy first; differences are second minus first."""

    first: str
    second: str
    cross_entropy: Difference
    accuracy: Difference
    first_only: int
    """Images that only the first one's best repeat has right."""
    second_only: int
    p: float
    """McNemar's exact test of these two numbers."""
    p_holm: float
    within_noise: bool
    """Whether the interval of the cross-entropy contains 0."""


@dataclass(frozen=True)
class Comparison:
    """A sweep's result, with all that it was made of."""

    record: SweepRecord = field(metadata=NOT_IN_JSON)
    """The trials."""
    costs: Mapping[str, Cost] = field(metadata=NOT_IN_JSON)
    """Of serving each model, by `Trial.model`."""
    winner: str
    """The trial to export."""
    best: str
    """The model with the lowest mean cross-entropy."""
    rule: str
    sentence: str
    """Why the winner was chosen."""
    within_noise: tuple[str, ...]
    """Models within noise of the best one, which is among them."""
    confidence: float
    """Of all intervals of one score together."""
    level: float
    """Of each (Bonferroni)."""
    matched_epoch: int | None
    """The last one that every trial reached, but for those that failed."""
    rows: tuple[Row, ...]
    models: tuple[ModelResult, ...]
    """Contenders, the best one first, then the others."""
    pairs: tuple[Pair, ...]
    caveats: tuple[str, ...]

    @property
    def chosen(self) -> ModelResult:
        """The winner's model."""
        return next(model for model in self.models if model.chosen)

    def model(self, name: str) -> ModelResult:
        """Return a model by its name."""
        return next(model for model in self.models if model.model == name)

    def row(self, trial: str) -> Row:
        """Return the row of a trial."""
        return next(row for row in self.rows if row.trial == trial)


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Return what tells models apart on a chart: the backbone, and the size and head where they differ."""
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
    """Return a colour for each model; from nine on they are steps of a rainbow."""
    if len(models) <= 8:
        return {model: class_colour(index) for index, model in enumerate(models)}
    steps = mpl.colormaps["turbo"](np.linspace(0.04, 0.96, len(models)))
    return {model: mpl.colors.to_hex(step) for model, step in zip(models, steps, strict=True)}
