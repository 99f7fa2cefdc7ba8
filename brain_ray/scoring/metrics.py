"""Scores of class probabilities against true labels, with intervals over groups of images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from brain_ray.scoring.calibration import expected_calibration_error, log_loss
from brain_ray.scoring.curves import (
    Curve,
    Floats,
    Ints,
    check_predictions,
    roc,
)
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.score_intervals import probability_intervals, score_intervals
from brain_ray.scoring.scores import Auc, ClassScores, ProbabilityScores, Scores, UnitScores, digits


def score(
    labels: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    calibrated: ArrayLike | None = None,
    bins: int = 15,
    groups: ArrayLike | GroupBootstrap | None = None,
) -> Scores:
    """Computes all scores of predictions, with intervals over groups.

    Args:
        labels: (n,) integers, indices into `classes`.
        probabilities: (n, k); rows sum to 1. The class with the largest probability is the prediction.
        classes: k names.
        calibrated: (n, k), the same after temperature scaling, or None.
        bins: number of equal-width bins of the expected calibration error.
        groups: (n,) group of each image, or resamples of these; None: each image is a group of its own.

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
    bootstrap = _bootstrap(groups, len(truth))
    intervals = score_intervals(truth, chances, classes, bins, bootstrap)
    if calibrated is not None:
        calibrated = check_predictions(labels, calibrated, classes)[1]
        found = probability_intervals(truth, calibrated, bins, bootstrap)
        intervals |= {f"calibrated.{name}": (max(0.0, one.low), one.high) for name, one in found.items()}
    curves = roc(truth, chances, classes)
    return Scores(
        images=len(truth),
        groups=bootstrap.num_groups,
        correct=correct,
        accuracy=correct / len(truth),
        accuracy_low=intervals["accuracy"][0],
        accuracy_high=intervals["accuracy"][1],
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
        calibrated=None if calibrated is None else _probability_scores(truth, np.asarray(calibrated), bins),
        intervals=intervals,
    )


def macro_scores(
    labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]
) -> tuple[float, float | None]:
    """Returns the macro F1 and the macro AUC that `score` computes, without intervals.

    Takes and raises what `score` does.
    """
    from sklearn.metrics import f1_score

    truth, chances = check_predictions(labels, probabilities, classes)
    predicted = chances.argmax(axis=1)
    f1 = f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    return float(f1), _area(roc(truth, chances, classes).macro)


def score_units(
    labels: ArrayLike, calibrated: ArrayLike, units: ArrayLike, bootstrap: GroupBootstrap
) -> UnitScores:
    """Returns the accuracy with one vote for each unit, by the mean of its images' probabilities.

    A patient with images of several classes is a unit in each of them.

    Args:
        labels: (n,) integers, true classes.
        calibrated: (n, k) calibrated probabilities.
        units: (n,) of any kind that can be sorted: clusters of copies, or patients.
        bootstrap: resamples of the n images, in whose groups the units lie.
    """
    truth, chances = np.asarray(labels), np.asarray(calibrated, np.float64)
    _, whose = np.unique(np.asarray(units), return_inverse=True)
    _, first, place = np.unique(whose * (truth.max() + 1) + truth, return_index=True, return_inverse=True)
    sums = np.stack([np.bincount(place, column) for column in chances.T], axis=1)
    right = sums.argmax(axis=1) == truth[first]
    counted = np.zeros(len(truth))
    counted[first] = 1
    found = bootstrap.share(counted * right[place], counted)
    return UnitScores(
        units=len(first),
        right=int(right.sum()),
        accuracy=found.value,
        accuracy_low=found.low,
        accuracy_high=found.high,
    )


def _bootstrap(groups: ArrayLike | GroupBootstrap | None, images: int) -> GroupBootstrap:
    if isinstance(groups, GroupBootstrap):
        return groups
    return GroupBootstrap(np.arange(images) if groups is None else groups)


def format_scores(scores: Scores) -> str:
    """Returns scores as a text table with four digits, for a terminal."""
    rows = {**scores.per_class, "macro": scores.macro, "weighted": scores.weighted}
    width = max(map(len, rows))
    lines = [f"{'':{width}}  precision  recall      F1  images"]
    for name, row in rows.items():
        if name == "macro":
            lines.append("")
        cells = f"{digits(row.precision):>9}  {digits(row.recall)}  {digits(row.f1)}  {row.support:6d}"
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
