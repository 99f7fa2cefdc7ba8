"""A learning curve of made-up answers that get better with the number of groups, and of equal ones."""

import numpy as np
import pytest
from support.sweep_records import labels_of, make_record, make_sweep, make_trial, predictions

from brain_ray.comparison.learning_curve import SHARE, LearningCurve, format_curve, learning_curve
from brain_ray.comparison.scored_trials import make_rows
from brain_ray.data.folds import Folds
from brain_ray.tuning.image_scores import score_images
from brain_ray.tuning.trials import SweepRecord


def sweep(sharpness: dict[float, float], images: int = 400) -> SweepRecord:
    """A sweep over shares of groups of two images, in two folds."""
    labels, rows = labels_of(images), np.arange(images)
    records = [
        make_record(make_trial(k, k, changes={SHARE: share}), labels, predictions(labels, value, k))
        for k, (share, value) in enumerate(sharpness.items())
    ]
    groups = rows // 2
    folds = Folds(rows, labels, groups, groups // 2 % 2, np.ones(images, bool))
    made = make_sweep(records, labels, groups=groups)
    return SweepRecord(made.config, made.trials, labels, groups, folds=folds)


def curve_of(record: SweepRecord) -> LearningCurve | None:
    return learning_curve(record, make_rows(record, score_images(record), {}))


def test_a_curve_that_falls_is_told_with_its_interval_and_what_it_would_become() -> None:
    found = curve_of(sweep({0.25: 2.0, 1.0: 4.5, 0.5: 3.2}))
    assert found is not None
    assert [point.share for point in found.points] == [0.25, 0.5, 1.0]
    whole = found.points[-1]
    assert whole.groups == pytest.approx(80, abs=1), "of 200 groups, 100 are left out and a fifth chooses"
    assert [point.groups for point in found.points[:2]] == pytest.approx([20, 40], abs=2)
    losses = [point.loss for point in found.points]
    assert losses == sorted(losses, reverse=True)
    assert all(point.loss_low < point.loss < point.loss_high for point in found.points)
    assert found.gain[0] == pytest.approx(losses[1] - losses[2])
    assert found.gain[1] > 0
    assert found.exponent is not None
    assert found.exponent > 0
    assert "extrapolated, not measured" in found.sentence
    assert f"to {whole.loss * 2**-found.exponent:.4f}" in found.sentence
    assert "  0.5       40" in format_curve(found)


def test_where_more_groups_change_nothing_that_is_said() -> None:
    record = sweep({0.5: 3.0, 1.0: 3.0})
    found = curve_of(record)
    assert found is not None
    assert found.exponent is None
    assert "whether more groups helped is not told." in found.sentence


def test_a_sweep_of_other_settings_has_no_learning_curve() -> None:
    assert curve_of(sweep({1.0: 3.0})) is None
