"""Scores with artefacts: each is a share of the same images, with an interval over their groups."""

import json

import numpy as np
import pytest

from brain_ray.scoring.robustness import Condition, Robustness, format_robustness, score_robustness

CONDITIONS: list[Condition] = [(name, severity) for name in ("blur", "spikes") for severity in (1, 2)]


def scored(
    right: np.ndarray, decisions: np.ndarray | None = None, groups: np.ndarray | None = None
) -> Robustness:
    """Scores of images, (n, 5): right without artefacts, then under the four conditions."""
    kinds = np.full(right.shape, "answer") if decisions is None else decisions
    places = np.arange(len(right)) if groups is None else groups
    return score_robustness(right[:, 1:], kinds[:, 1:], CONDITIONS, right[:, 0], kinds[:, 0], places, 7)


def test_counts_by_condition_artefact_and_in_all():
    right = np.ones((10, 5), bool)
    right[:4, 2] = right[:2, 3] = right[:6, 4] = False  # blur 2, spikes 1 and 2
    kinds = np.full((10, 5), "answer", object)
    kinds[:3, 2], kinds[8:, 4] = "abstain", "not_mr"
    found = scored(right, kinds.astype(str))
    assert (found.images, found.groups, found.seed) == (10, 10, 7)
    assert found.clean.accuracy.value == 1
    first, second = found.artefacts["blur"].severities
    assert (first.accuracy.value, first.answered, first.error.value) == (1, 10, 0)
    assert (second.accuracy.value, second.answered, second.abstained) == (0.6, 7, 3)
    assert second.error.value == pytest.approx(1 / 7), "the other wrong ones were not answered"
    assert found.artefacts["spikes"].severities[1].refused == 2
    assert found.artefacts["blur"].mean.accuracy.value == pytest.approx(0.8)
    assert found.artefacts["spikes"].mean.accuracy.value == pytest.approx(0.6)
    assert found.mean.accuracy.value == pytest.approx(0.7)
    assert found.relative.value == pytest.approx(0.7)
    assert found.mean.images == 40
    assert found.mean.answered + found.mean.abstained + found.mean.refused == 40
    assert Robustness.model_validate(json.loads(json.dumps(found.model_dump(), allow_nan=False))) == found


def test_nothing_answered_has_no_error():
    found = scored(np.ones((6, 5), bool), np.full((6, 5), "abstain"))
    assert found.mean.error.value is found.clean.error.low is None
    assert "answers wrong -, without artefacts -" in format_robustness(found)


def test_nothing_right_without_artefacts_has_no_relative_accuracy():
    assert scored(np.zeros((6, 5), bool)).relative.value is None


def test_images_of_few_groups_have_wider_intervals():
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(12), 10)
    right = np.repeat(rng.random((12, 5)) < 0.7, 10, axis=0)

    def width(groups: np.ndarray | None) -> float:
        share = scored(right, groups=groups).mean.accuracy
        assert share.low is not None
        assert share.value is not None
        assert share.high is not None
        assert share.low < share.value < share.high
        return share.high - share.low

    assert width(group) > 2 * width(None)


def test_the_text_has_every_artefact_and_severity():
    right = np.ones((8, 5), bool)
    right[:3, 2] = False
    lines = format_robustness(scored(right)).splitlines()
    (blur,) = [line.split() for line in lines if line.startswith("blur")]
    assert blur[1:] == ["1.0000", "0.6250", "0.8125", "1.0000", "0.1875"]
    assert lines[0] == "robustness: 8 test images of 8 groups, each with every artefact"
    assert max(map(len, lines)) <= 110
