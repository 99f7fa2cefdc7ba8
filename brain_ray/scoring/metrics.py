"""Scores of class probabilities against true labels, and how terminal, report and model card show them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from brain_ray.scoring.calibration import expected_calibration_error, log_loss
from brain_ray.scoring.curves import (
    Curve,
    Floats,
    Ints,
    check_predictions,
    roc,
)


class _Strict(BaseModel):
    # NaN is refused here, so that no score can reach a JSON file as something that is not JSON.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassScores(_Strict):
    """Precision, recall and F1 (0..1) of a class with `support` images; None if the class has no image."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class Auc(_Strict):
    """Areas under ROC curves, one class against the rest (0..1); None if undefined."""

    per_class: dict[str, float | None]
    micro: float | None
    macro: float | None


class ProbabilityScores(_Strict):
    """Scores of the probabilities; lower is better.

    log_loss: mean of -ln(probability of the true class), in nats.
    brier: mean over images of the squared errors summed over all classes, 0..2 (Brier 1950).
    ece: expected calibration error, 0..1 (Guo et al. 2017).
    """

    log_loss: float
    brier: float
    ece: float


class DecisionCounts(_Strict):
    """Decisions for a set of test images. Shares are 0..1; intervals are Wilson's, 95 %, over images."""

    images: int
    clusters: int
    """Number of images when each cluster of copies found by the audit counts once."""
    answered: int
    right: int
    """Images answered with the true class; likewise `wrong`."""
    wrong: int
    error: float | None
    """Share `wrong` of `answered`; None if nothing is answered."""
    error_low: float | None
    error_high: float | None
    abstained: int
    abstained_right: int
    """Images abstained from although the most probable class was the true one; likewise `refused_right`."""
    refused: int
    """Images refused because they are unlike the training images (`not_mr`)."""
    refused_right: int


class Decisions(_Strict):
    """Decisions of a bundle for a set of test images, exactly as it serves them."""

    per_class: dict[str, DecisionCounts]
    """Counts by true class."""
    total: DecisionCounts
    max_error: float
    """Share of wrong answers that the export allowed."""
    validation_error: float
    """Share of wrong answers on the validation images, which chose the threshold."""
    exceeded: bool
    """Whether the lower end of the interval of the total error is above `max_error`."""
    sentence: str
    """The same comparison as a sentence."""


class Scores(_Strict):
    """All scores of one set of images; `model_dump()` is strict JSON.

    The interval of the accuracy is Wilson's, 95 %. Rows of `confusion` are true classes, columns predicted
    ones. `macro` averages the classes that have images, `weighted` weighs them by their number of images.
    """

    images: int
    correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    per_class: dict[str, ClassScores]
    macro: ClassScores
    weighted: ClassScores
    confusion: list[list[int]]
    auc: Auc
    log_loss: float
    brier: float
    ece: float
    calibrated: ProbabilityScores | None
    decisions: Decisions | None = None
    """Decisions of the evaluated bundle; None for scores of other probabilities."""

    def rows(self) -> list[tuple[str, str]]:
        """Returns label and text of the scores beside the accuracy, for terminal, report and card."""
        return score_rows(self.model_dump())


def score_rows(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns `Scores.rows()` of what `Scores.model_dump()` gave, now or in a version that lacked some."""
    rows = []
    if "auc" in scores:
        rows.append(
            ("AUC", f"{_digits(scores['auc']['macro'])} macro, {_digits(scores['auc']['micro'])} micro")
        )
    for title, values in (("raw", scores), ("calibrated", scores.get("calibrated") or {})):
        names = {"log_loss": "log loss", "brier": "Brier", "ece": "ECE"}
        texts = [f"{text} {values[name]:.4f}" for name, text in names.items() if name in values]
        if texts:
            rows.append((title, ", ".join(texts)))
    return rows


def score(
    labels: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    calibrated: ArrayLike | None = None,
    bins: int = 15,
) -> Scores:
    """Computes all scores of predictions.

    Args:
        labels: (n,) integers, indices into `classes`.
        probabilities: (n, k); rows sum to 1. The class with the largest probability is the prediction.
        classes: k names.
        calibrated: (n, k), the same after temperature scaling, or None.
        bins: number of equal-width bins of the expected calibration error.

    Raises:
        ValueError: no images, shapes that do not match, labels out of range, rows that are not probabilities.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truth, chances = check_predictions(labels, probabilities, classes)
    predicted = chances.argmax(axis=1)
    numbers = np.arange(len(classes))
    per_class = precision_recall_fscore_support(truth, predicted, labels=numbers, zero_division=0)
    present = numbers[per_class[3] > 0]
    averages = {
        kind: precision_recall_fscore_support(
            truth, predicted, labels=present, average=kind, zero_division=0
        )[:3]
        for kind in ("macro", "weighted")
    }
    correct = int((predicted == truth).sum())
    low, high = wilson(correct, len(truth))
    curves = roc(truth, chances, classes)
    return Scores(
        images=len(truth),
        correct=correct,
        accuracy=correct / len(truth),
        accuracy_low=low,
        accuracy_high=high,
        per_class={
            name: _class_scores(values[:3] if values[3] else (None,) * 3, values[3])
            for name, *values in zip(classes, *per_class, strict=True)
        },
        macro=_class_scores(averages["macro"], len(truth)),
        weighted=_class_scores(averages["weighted"], len(truth)),
        confusion=confusion_matrix(truth, predicted, labels=numbers).tolist(),
        auc=Auc(
            per_class={name: _area(curve) for name, curve in curves.per_class.items()},
            micro=_area(curves.micro),
            macro=_area(curves.macro),
        ),
        **_probability_scores(truth, chances, bins).model_dump(),
        calibrated=None
        if calibrated is None
        else _probability_scores(truth, check_predictions(labels, calibrated, classes)[1], bins),
    )


def wilson(count: int, total: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share (Wilson 1927, doi.org/10.1080/01621459.1927.10502953)."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def format_scores(scores: Scores) -> str:
    """Returns scores as a text table with four digits, for a terminal."""
    rows = {**scores.per_class, "macro": scores.macro, "weighted": scores.weighted}
    width = max(map(len, rows))
    lines = [f"{'':{width}}  precision  recall      F1  images"]
    for name, row in rows.items():
        if name == "macro":
            lines.append("")
        cells = f"{_digits(row.precision):>9}  {_digits(row.recall)}  {_digits(row.f1)}  {row.support:6d}"
        lines.append(f"{name:{width}}  {cells}")
    lines += [
        "",
        f"accuracy    {scores.accuracy:.4f}  (95 % interval {scores.accuracy_low:.4f} to "
        f"{scores.accuracy_high:.4f}; {scores.correct} of {scores.images} images right)",
        *(f"{label:12}{text}" for label, text in scores.rows()),
    ]
    return "\n".join(lines)


def _class_scores(values: Sequence[Any], support: int) -> ClassScores:
    precision, recall, f1 = values
    return ClassScores(precision=precision, recall=recall, f1=f1, support=int(support))


def _probability_scores(truth: Ints, chances: Floats, bins: int) -> ProbabilityScores:
    from sklearn.metrics import brier_score_loss

    numbers = np.arange(chances.shape[1])
    return ProbabilityScores(
        log_loss=log_loss(chances, truth),
        brier=float(brier_score_loss(truth, chances, labels=numbers, scale_by_half=False)),
        ece=expected_calibration_error(chances, truth, bins),
    )


def _area(curve: Curve | None) -> float | None:
    return None if curve is None else curve.auc


def _digits(value: float | None) -> str:
    return "-".rjust(6) if value is None else f"{value:.4f}"
