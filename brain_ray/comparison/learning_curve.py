"""Learning curve: what a model's out-of-fold answers gain with the number of groups that it learned from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brain_ray.comparison.results import Row
from brain_ray.comparison.scored_trials import stack
from brain_ray.scoring.curves import Floats
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.tuning.image_scores import ImageScores, score_images
from brain_ray.tuning.trials import SweepRecord

SHARE = "train.group_share"
"""Setting that a sweep varies for a learning curve."""


@dataclass(frozen=True)
class Point:
    """Scores of the models that learned from one share of the groups."""

    share: float
    groups: float
    """Mean number, over the folds, of groups that were learned from; likewise `images`."""
    images: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    """End of the 95 % interval over groups of images."""
    loss: float
    """Calibrated out-of-fold cross-entropy, in nats."""
    loss_low: float
    loss_high: float


@dataclass(frozen=True)
class LearningCurve:
    """Points by rising share, of one model with one set of other settings."""

    model: str
    points: tuple[Point, ...]
    gain: tuple[float, float, float]
    """By how much the loss fell from the last share but one to the last, and the 95 % interval, paired."""
    exponent: float | None
    """b of the power law loss = a * groups^-b, by least squares of logarithms; None below three points."""

    @property
    def sentence(self) -> str:
        """What the curve says, and what it would say if it went on."""
        before, last = self.points[-2:]
        fall, low, high = self.gain
        text = (
            f"From {before.groups:.0f} to {last.groups:.0f} groups a model's calibrated cross-entropy fell "
            f"by {fall:.4f} (95 % interval {low:.4f} to {high:.4f}, over these images, for these trainings)"
        )
        if low <= 0 <= high:
            text += ": whether more groups helped is not told"
        if self.exponent is None or self.exponent <= 0:
            return f"{text}."
        return (
            f"{text}. If it went on as the power law through these points (groups to the power of "
            f"-{self.exponent:.2f}), twice as many groups would bring it from {last.loss:.4f} to "
            f"{last.loss * 2**-self.exponent:.4f}; that is extrapolated, not measured."
        )


def learning_curve(record: SweepRecord, rows: Sequence[Row]) -> LearningCurve | None:
    """Returns the learning curve of the sweep's best other settings; None if it varied no share of groups.

    Args:
        record: the trials, over folds.
        rows: their results, from `scored_trials.make_rows`.
    """
    if record.folds is None or not any(SHARE in row.changes for row in rows):
        return None
    scores = stack(rows, score_images(record))
    curves: dict[tuple[str, str], dict[float, int]] = {}
    for one in record.trials:
        if one.trial.variant in scores and SHARE in one.trial.changes:
            others = {name: value for name, value in one.trial.changes.items() if name != SHARE}
            key = one.trial.model, repr(sorted(others.items()))
            curves.setdefault(key, {})[float(one.trial.changes[SHARE])] = one.trial.variant
    whole = {key: found for key, found in curves.items() if len(found) > 1}
    if not whole:
        return None
    (model, _), found = min(whole.items(), key=lambda item: _loss(scores[item[1][max(item[1])]]).mean())
    bootstrap = GroupBootstrap(record.groups, record.config.sweep.bootstrap, record.config.seed)
    points = tuple(_point(share, scores[found[share]], record, bootstrap) for share in sorted(found))
    last, before = (_loss(scores[found[share]]) for share in sorted(found, reverse=True)[:2])
    gain = bootstrap.mean(before - last)
    exponent = None
    if len(points) > 2:
        numbers, losses = np.log([[point.groups, point.loss] for point in points]).T
        exponent = -float(np.polyfit(numbers, losses, 1)[0])
    return LearningCurve(model, points, (gain.value, gain.low, gain.high), exponent)


def _loss(scores: ImageScores) -> Floats:
    """Returns each image's mean over the repeats."""
    return np.asarray(scores.calibrated.mean(axis=0))


def _point(share: float, scores: ImageScores, record: SweepRecord, bootstrap: GroupBootstrap) -> Point:
    assert record.folds is not None, "a learning curve is one of a cross-validation"
    right, loss = bootstrap.share(scores.right.mean(axis=0)), bootstrap.mean(_loss(scores))
    learned = []
    for number in record.folds.left_out_by(record.config):
        masks = record.folds.split(number, record.config.data.valid_fraction, share)
        mask = masks["train"] & record.folds.original
        learned.append((len(np.unique(record.folds.group[mask])), int(mask.sum())))
    groups, images = np.mean(learned, axis=0)
    return Point(
        share,
        float(groups),
        float(images),
        right.value,
        right.low,
        right.high,
        loss.value,
        loss.low,
        loss.high,
    )


def format_curve(curve: LearningCurve) -> str:
    """Returns a learning curve as text for a terminal."""
    lines = [
        f"learning curve of {curve.model}",
        "share   groups  images  accuracy (95 % interval)    calibrated cross-entropy (95 % interval)",
    ]
    lines += [
        f"{point.share:5g}  {point.groups:7.0f}  {point.images:6.0f}  {point.accuracy:.4f} "
        f"({point.accuracy_low:.4f} to {point.accuracy_high:.4f})  {point.loss:.4f} ({point.loss_low:.4f} to "
        f"{point.loss_high:.4f})"
        for point in curve.points
    ]
    return "\n".join(lines)
