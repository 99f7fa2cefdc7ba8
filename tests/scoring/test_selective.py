"""Risk against coverage, sensitivity of candidates, and subgroups."""

import numpy as np
import pytest

from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.selective import risk_coverage, score_candidates, score_subgroups

CLASSES = ("glioma", "meningioma", "notumor")


def test_the_risk_grows_from_the_surest_answer_on():
    found = risk_coverage([0.9, 0.8, 0.7, 0.6], [True, True, False, True])
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.risk == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert found.area == pytest.approx((1 / 3 + 1 / 4) / 4)


def test_equal_confidences_have_one_risk_in_any_order():
    first = risk_coverage([0.5, 0.5, 0.5], [True, False, True])
    second = risk_coverage([0.5, 0.5, 0.5], [False, True, True])
    assert first.risk.tolist() == second.risk.tolist() == [pytest.approx(1 / 3)] * 3
    assert first.area == second.area


def test_candidates_are_scored_by_class():
    labels = np.array([0, 0, 1, 1])
    chosen = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]], bool)
    found = score_candidates(labels, chosen, CLASSES, [0.95] * 3, GroupBootstrap(np.arange(4)))
    assert list(found.per_class) == ["glioma", "meningioma"], "no image of the third"
    assert found.per_class["glioma"].found == 0.5
    assert found.per_class["meningioma"].found == 1.0
    assert not found.per_class["glioma"].missed, "two images tell too little"
    assert (found.mean_number, found.single) == (1.5, 0.5)


def test_a_class_that_misses_its_sensitivity_is_told():
    labels = np.zeros(200, int)
    chosen = np.repeat([[True, False, False], [False, True, False]], 100, axis=0)
    found = score_candidates(labels, chosen, CLASSES, [0.95] * 3, GroupBootstrap(np.arange(200)))
    assert found.per_class["glioma"].missed


def test_subgroups_are_the_values_of_a_column():
    scanner = np.array(["A", "A", "B", "B", ""])
    rows = score_subgroups(
        {"scanner": scanner, "id": np.arange(5), "hospital": np.full(5, "x")},
        np.array([True, False, True, True, False]),
        np.array(["answer", "answer", "abstain", "answer", "not_mr"]),
        np.array([True, True, True, True, False]),
        np.arange(5),
    )
    assert [(row.column, row.value) for row in rows] == [
        *(("scanner", value) for value in ("", "A", "B")),
        *(("id", str(k)) for k in range(5)),
    ]
    last = rows[1]
    assert (last.images, last.accuracy, last.answered, last.error, last.candidate) == (2, 0.5, 1.0, 0.5, 1.0)
    assert rows[0].error is None, "nothing of it is answered"
