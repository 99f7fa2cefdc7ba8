"""Served decisions are counted by class, and their error is held against the one that was allowed."""

import json

import numpy as np
import pytest

from brain_ray.scoring.decisions import count_decisions, describe_promise, format_decisions
from brain_ray.scoring.scores import Decisions

CLASSES = ("glioma", "meningioma", "notumor")
EXPORTED = {"max_error": 0.01, "error": 0.0094, "answered": 0.98}


def decided(answered: int, wrong: int, max_error: float = 0.01) -> Decisions:
    """So many answers of one class, of which some are wrong."""
    labels = np.zeros(answered, int)
    answers = np.where(np.arange(answered) < wrong, 1, 0)
    decisions = np.full(answered, "answer")
    return count_decisions(
        labels, answers, decisions, np.arange(answered), CLASSES, EXPORTED | {"max_error": max_error}
    )


def test_counts_by_class_and_in_all():
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    answers = np.array([0, 1, 0, 2, 1, 1, 0])
    decisions = ["answer", "answer", "abstain", "abstain", "not_mr", "answer", "not_mr"]
    found = count_decisions(labels, answers, decisions, [7, 7, 8, 9, 10, 11, 11], CLASSES, EXPORTED)
    glioma, meningioma, notumor = (found.per_class[name] for name in CLASSES)
    assert (glioma.images, glioma.clusters, glioma.answered, glioma.right, glioma.wrong) == (4, 3, 2, 1, 1)
    assert (glioma.abstained, glioma.abstained_right, glioma.refused) == (2, 1, 0)
    assert glioma.error == 0.5
    assert (meningioma.answered, meningioma.wrong, meningioma.refused, meningioma.refused_right) == (
        1,
        0,
        2,
        1,
    )
    assert (notumor.images, notumor.clusters, notumor.answered) == (0, 0, 0)
    assert notumor.error is notumor.error_low is notumor.error_high is None
    total = found.total
    assert (total.images, total.clusters, total.answered, total.wrong) == (7, 5, 3, 1)
    assert total.answered + total.abstained + total.refused == total.images
    assert Decisions.model_validate(json.loads(json.dumps(found.model_dump(), allow_nan=False))) == found


def test_ten_wrong_of_319_answers_exceed_one_per_cent():
    found = decided(319, 10)
    assert (found.total.error_low, found.total.error_high) == pytest.approx(
        (0.0171, 0.0567), abs=2e-3
    )  # Wilson's
    assert found.exceeded
    assert "10 of 319 answers are wrong, 3.13 % (95 % interval 1.56 % to 5.57 %)" in found.sentence
    assert "allowed 1.00 %" in found.sentence
    assert "validation images, which chose the threshold, 0.94 % were" in found.sentence
    assert found.sentence.endswith("more than was allowed, and so is the lower end of the interval.")


def test_copies_make_the_interval_of_the_error_wider():
    labels, kinds = np.zeros(400, int), np.full(400, "answer")
    answers = np.where(np.arange(400) < 20, 1, 0)
    once = count_decisions(labels, answers, kinds, np.arange(400), CLASSES, EXPORTED).total
    alike = count_decisions(labels, answers, kinds, np.arange(400) // 5, CLASSES, EXPORTED).total
    assert (once.groups, alike.groups) == (400, 80)
    assert alike.error_high - alike.error_low > 1.8 * (once.error_high - once.error_low)
    for name in ("answered", "abstained", "refused"):
        low, high = alike.intervals[name]
        assert 0 <= low <= (name == "answered") <= high <= 1


PROMISED = EXPORTED | {"confidence": 0.95, "models": 12, "answers": 410.2, "answers_needed": 107}


def test_what_was_promised_is_told_with_what_shows_it():
    told = describe_promise(PROMISED | {"max_error": 0.05, "error_bound": 0.031})
    assert "At most 5.00 % of the answers shall be wrong, with a confidence of 95 %" in told
    assert "worth 410 independent answers (they chose the epoch, one of 12), 0.94 % of those given" in told
    assert told.endswith("at most 3.10 %.")


def test_a_model_that_answers_nothing_says_what_would_be_needed():
    told = describe_promise(PROMISED | {"answered": 0.0, "answers": 60.0, "models": 1})
    assert "This model answers nothing: it takes 107 independent answers, all of them right" in told
    assert told.endswith("the validation images are worth 60 independent answers.")


def test_few_answers_tell_neither():
    found = decided(100, 0)
    assert not found.exceeded
    assert found.sentence.endswith("these images do not tell whether it holds.")
    assert not decided(100, 2).exceeded


def test_many_answers_may_lie_within_what_was_allowed():
    found = decided(2000, 4)
    assert not found.exceeded
    assert found.sentence.endswith("the whole interval lies within what was allowed.")


def test_a_model_that_never_answers_has_no_error():
    never = EXPORTED | {"error": 0.0, "answered": 0.0}
    found = count_decisions([0, 1], [0, 0], ["abstain", "abstain"], [1, 2], CLASSES, never)
    assert found.total.error is None
    assert not found.exceeded
    assert "no image was answered. No test image is answered." in found.sentence


def test_the_table_has_a_line_for_each_class_and_for_all():
    lines = format_decisions(decided(319, 10)).splitlines()
    assert lines[0].startswith("decisions ")
    assert [line.split()[0] for line in lines[1:5]] == [*CLASSES, "all"]
    assert lines[4].split()[:5] == ["all", "319", "319", "309", "10"]
    assert "0.0313 (0.0156 to 0.0557)" in lines[4]
    assert lines[2].split()[:6] == ["meningioma", "0", "0", "0", "0", "-"]
    assert max(map(len, lines)) <= 110
