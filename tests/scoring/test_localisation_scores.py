"""Localisation is summed up with intervals over groups, by class and by answer, against both baselines."""

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from brain_ray.scoring.localisation_scores import (
    COLUMNS,
    LocalisationScores,
    OutlineCounts,
    format_localisation,
    score_parts,
)

CLASSES = ("glioma", "notumor", "pituitary")
N = 120


def figures(seed: int = 1, **given: NDArray[np.floating]) -> Mapping[str, NDArray[np.floating]]:
    rng = np.random.default_rng(seed)
    made = {name: (rng.random(N) < 0.5).astype(float) for name in COLUMNS}
    return made | {"blank": np.zeros(N), "area": np.full(N, 0.04)} | given


LABELS = np.arange(N) % 2 * 2
ANSWERS = np.where(np.arange(N) < 90, LABELS, 1)


def test_each_class_with_images_and_both_kinds_of_answers_are_parts() -> None:
    parts = score_parts(figures(), LABELS, ANSWERS, np.arange(N) // 3, CLASSES)
    assert [(part.title, part.images) for part in parts] == [
        ("all", 120), ("glioma", 60), ("pituitary", 60), ("right answers", 90), ("wrong answers", 30),
    ]  # fmt: skip
    assert (parts[0].groups, parts[4].groups, parts[0].area) == (40, 10, pytest.approx(0.04))


def test_a_difference_is_of_the_same_images() -> None:
    """Where a map and a baseline go up and down together, their difference is known well."""
    base = np.random.default_rng(3).random(N) * 0.8
    above = base + 0.1 + np.random.default_rng(4).normal(0, 0.01, N)
    given = {"heat_energy": above, "centre_energy": base}
    (found,) = (
        part.measures["energy"]
        for part in score_parts(figures(**given), LABELS, ANSWERS, np.arange(N), CLASSES)[:1]
    )
    assert found.over_centre.value == pytest.approx(found.heat.value - found.centre.value)
    assert 0.09 < found.over_centre.low < 0.1 < found.over_centre.high < 0.11
    assert found.heat.high - found.heat.low > 0.05
    assert found.heat.low < found.heat.value < found.heat.high


def test_images_of_one_group_count_as_little_as_they_tell() -> None:
    hits = np.repeat(np.random.default_rng(5).random(N // 12) < 0.5, 12).astype(float)
    alone, together = (
        score_parts(figures(heat_pointing=hits), LABELS, ANSWERS, groups, CLASSES)[0]
        .measures["pointing"]
        .heat
        for groups in (np.arange(N), np.arange(N) // 12)
    )
    assert together.value == alone.value
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_few_groups_have_wide_intervals_but_none_beyond_what_is_possible() -> None:
    """Where all images agree by chance, the interval of a share is no point."""
    given = {"heat_pointing": np.ones(N), "centre_pointing": np.zeros(N), "brightest_pointing": np.ones(N)}
    part = score_parts(figures(**given), LABELS, ANSWERS, np.arange(N) // 40, CLASSES)[0]
    assert part.groups == 3
    for measure, row in part.measures.items():
        for found, least in ((row.heat, 0), (row.over_centre, -1), (row.over_brightest, -1)):
            assert least <= found.low <= found.value <= found.high <= 1, (measure, found)
    found = part.measures["pointing"]
    assert (found.heat.value, found.over_centre.value, found.over_brightest.value) == (1, 1, 0)
    assert max(found.heat.low, found.over_centre.low) < 0.9
    assert found.over_brightest.low < -0.1 < 0.1 < found.over_brightest.high


def test_one_group_has_no_interval() -> None:
    part = score_parts(figures(), LABELS, ANSWERS, np.zeros(N), CLASSES)[0]
    assert np.isnan(part.measures["iou"].heat.low)
    assert np.isnan(part.measures["pointing"].over_centre.high)


def test_the_terminals_table_says_what_was_left_out() -> None:
    given = {"blank": (np.arange(N) < 7).astype(float)}
    parts = score_parts(figures(**given), LABELS, ANSWERS, np.arange(N) // 3, CLASSES)
    assert parts[0].blank == 7
    counts = OutlineCounts(
        outlines=140, scored=N, other_splits=12, no_tumour=0, ambiguous=5, unknown=3, without=9
    )
    text = format_localisation(LocalisationScores("o.json", counts, parts))
    assert "120 of 129 test images with a tumour have an outline in o.json" in text
    assert "12 of other splits, 5 ambiguous by their names, 3 of no image" in " ".join(text.split())
    assert "without a tumour" not in text
    assert max(map(len, text.splitlines())) <= 110
    rows = [line for line in text.splitlines() if "  heat map " in line]
    assert len(rows) == len(parts)
    assert all(row.count(" to ") == 3 for row in rows)
