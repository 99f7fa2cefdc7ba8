"""Scores of a cross-validation: of all out-of-fold answers together, and of each fold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.calibration import (
    Floats,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    log_loss,
)
from brain_ray.scoring.cross_fitting import cross_calibrate
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.metrics import format_scores, score, score_units
from brain_ray.scoring.scores import Scores, Strict


class FoldScores(Strict):
    """Scores of one fold's images, by the model that did not see them; calibrated on the other folds."""

    fold: int
    images: int
    groups: int
    right: int
    accuracy: float
    log_loss: float
    ece: float
    calibrated_log_loss: float
    calibrated_ece: float
    source: str = ""
    """Of all its images, where each source is a fold."""


class SeedAverage(Strict):
    """Scores of the mean answers of networks that were trained alike, with a seed of their own each."""

    seeds: int
    pooled: Scores
    """Of all images; of each fold, the mean of the networks that did not see it."""


class CrossValidation(Strict):
    """Scores of a cross-validation."""

    pooled: Scores
    """Of all images; `calibrated`: each fold by the temperature of the others."""
    folds: list[FoldScores]
    accuracy_sd: float | None
    """Standard deviation (n - 1) of the folds' accuracies; None for one fold. It holds what differs between
    folds by chance and between their models, and is no standard error of the pooled accuracy."""
    averaged: SeedAverage | None = None
    """Of the mean over several seeds; all else is of one seed."""
    shortcuts: dict[str, Any] | None = None
    """The result of `evaluation.shortcuts.compare_folds_with_shortcuts`."""


def calibrate_across(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], folds: ArrayLike, groups: ArrayLike
) -> Floats:
    """Returns (n, classes) probabilities, each fold calibrated by the temperature of the other folds.

    Images of groups that lie in several folds do not count for each other. A single fold is calibrated by
    halves of its groups, as `cross_calibrate` does it.

    Args:
        probabilities: (n, classes), raw.
        labels: (n,).
        folds: (n,).
        groups: (n,) of any kind that can be sorted.
    """
    numbers, whose = np.asarray(folds), np.asarray(groups)
    if len(np.unique(numbers)) < 2:
        return cross_calibrate(probabilities, labels, whose)
    crossed = np.empty(probabilities.shape, np.float64)
    for fold in np.unique(numbers):
        mine = numbers == fold
        others = ~np.isin(whose, whose[mine])
        temperature = fit_temperature(probabilities[others], labels[others]) if others.any() else 1.0
        crossed[mine] = calibrate(probabilities[mine], temperature)
    return crossed


def score_folds(
    labels: ArrayLike,
    probabilities: ArrayLike,
    calibrated: Floats,
    folds: ArrayLike,
    groups: ArrayLike,
    classes: Sequence[str],
    clusters: ArrayLike | None = None,
    patients: ArrayLike | None = None,
    bins: int = 15,
) -> CrossValidation:
    """Scores out-of-fold answers.

    Args:
        labels: (n,) integers, true classes.
        probabilities: (n, k), raw.
        calibrated: (n, k), by `calibrate_across`.
        folds: (n,) integers.
        groups: (n,), the independent units.
        classes: k names.
        clusters: (n,), of copies, for one vote for each slice; None: none.
        patients: (n,) names, "" where unknown, for one vote for each patient; None: none.
        bins: of the expected calibration error.
    """
    truth, raw = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    numbers, whose = np.asarray(folds), np.asarray(groups)
    bootstrap = GroupBootstrap(whose)
    units = {}
    if clusters is not None:
        units["slice"] = score_units(truth, calibrated, clusters, bootstrap)
    known = np.zeros(len(truth), bool) if patients is None else np.asarray(patients) != ""
    if known.any():
        units["patient"] = score_units(
            truth[known], calibrated[known], np.asarray(patients)[known], GroupBootstrap(whose[known])
        )
    right = raw.argmax(axis=1) == truth
    found = []
    for fold in np.unique(numbers):
        mine = numbers == fold
        found.append(
            FoldScores(
                fold=int(fold),
                images=int(mine.sum()),
                groups=len(np.unique(whose[mine])),
                right=int(right[mine].sum()),
                accuracy=float(right[mine].mean()),
                log_loss=log_loss(raw[mine], truth[mine]),
                ece=expected_calibration_error(raw[mine], truth[mine], bins),
                calibrated_log_loss=log_loss(calibrated[mine], truth[mine]),
                calibrated_ece=expected_calibration_error(calibrated[mine], truth[mine], bins),
            )
        )
    accuracies = [one.accuracy for one in found]
    return CrossValidation(
        pooled=score(truth, raw, classes, calibrated, bins, bootstrap).model_copy(update={"units": units}),
        folds=found,
        accuracy_sd=float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
    )


def format_cross_validation(found: CrossValidation) -> str:
    """Returns the scores as text for a terminal: the pooled ones, then a line for each fold."""
    pooled = found.pooled
    lines = [
        f"cross-validation, {len(found.folds)} folds: {pooled.images} images of {pooled.groups} groups, each "
        "answered by a model that saw none of its group",
        format_scores(pooled),
        *_format_units(pooled),
    ]
    lines += ["", "fold  images  groups  accuracy  log loss     ECE  calibrated: log loss     ECE"]
    lines += [
        f"{one.fold:4d}  {one.images:6d}  {one.groups:6d}  {one.accuracy:8.4f}  {one.log_loss:8.4f}"
        f"  {one.ece:.4f}  {one.calibrated_log_loss:20.4f}  {one.calibrated_ece:.4f}  {one.source}".rstrip()
        for one in found.folds
    ]
    if found.accuracy_sd is not None:
        lines.append(f"standard deviation of the folds' accuracies: {found.accuracy_sd:.4f}")
    if found.averaged is not None:
        lines += ["", f"mean of the answers of {found.averaged.seeds} seeds to each fold"]
        lines += [format_scores(found.averaged.pooled), *_format_units(found.averaged.pooled)]
    if found.shortcuts and found.shortcuts.get("decided"):
        lines += ["", _format_shortcuts(found.shortcuts)]
    return "\n".join(lines)


def _format_shortcuts(found: Mapping[str, Any]) -> str:
    decided, where = found["decided"], found["accuracy_where_wrong"]
    text = f"of what they got right, {decided['value']:.2f} is told by a linear model that sees no head"
    return text if where is None else f"{text};\nwhere that is wrong, they are right in {where['value']:.2f}"


def _format_units(scores: Scores) -> list[str]:
    return [
        f"per {name:8}{unit.accuracy:.4f}  (95 % interval {unit.accuracy_low:.4f} to "
        f"{unit.accuracy_high:.4f}; {unit.right} of {unit.units} right)"
        for name, unit in scores.units.items()
    ]
