"""Scores against values worked out by hand."""

import json
import math

import numpy as np
import pytest

from brain_ray.scoring.calibration import expected_calibration_error
from brain_ray.scoring.curves import reliability, roc
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.metrics import format_scores, macro_scores, score, score_units
from brain_ray.scoring.scores import Scores, score_rows

CLASSES = ("glioma", "meningioma", "notumor")
LABELS = np.array([0, 0, 1, 2])
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])


def random_predictions(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, n), rng.dirichlet(np.ones(3), n)


def test_counts_and_class_scores_of_four_images():
    scores = score(LABELS, PROBABILITIES, CLASSES)
    assert (scores.images, scores.correct, scores.accuracy) == (4, 3, 0.75)
    assert scores.confusion == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    glioma, meningioma = scores.per_class["glioma"], scores.per_class["meningioma"]
    assert (glioma.precision, glioma.recall, glioma.support) == (1.0, 0.5, 2)
    assert (meningioma.precision, meningioma.recall, meningioma.support) == (0.5, 1.0, 1)
    assert glioma.f1 == meningioma.f1 == pytest.approx(2 / 3)
    assert scores.macro.recall == pytest.approx((0.5 + 1 + 1) / 3)
    assert scores.weighted.recall == pytest.approx(scores.accuracy)


def test_probability_scores_of_four_images():
    scores = score(LABELS, PROBABILITIES, CLASSES)
    assert scores.log_loss == pytest.approx(
        -(math.log(0.7) + math.log(0.3) + math.log(0.8) + math.log(0.6)) / 4
    )
    # Summed over the classes and not halved: 0.14 + 0.86 + 0.06 + 0.24, over four images.
    assert scores.brier == pytest.approx((0.14 + 0.86 + 0.06 + 0.24) / 4)


def test_a_sure_wrong_answer_has_the_largest_brier_score():
    assert score([0], [[0.0, 1.0]], CLASSES[:2]).brier == pytest.approx(2.0)


def test_calibration_error_weighs_the_gap_of_each_bin_by_its_images():
    # Bins of 0.2: (0.4, 0.6] holds 0.55 wrong and 0.6 right, (0.8, 1] holds 0.9 right twice.
    chances = np.array([[0.55, 0.45], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]])
    labels = np.array([1, 0, 0, 0])
    expected = 0.5 * abs(0.5 - 0.575) + 0.5 * abs(1 - 0.9)
    assert expected_calibration_error(chances, labels, bins=5) == pytest.approx(expected)
    assert reliability(labels, chances, bins=5).counts.tolist() == [0, 0, 2, 0, 2]


def test_calibration_error_is_nought_where_confidence_is_the_share_of_right_answers():
    chances = np.tile([0.75, 0.25], (4, 1))
    assert expected_calibration_error(chances, np.array([0, 0, 0, 1]), bins=15) == pytest.approx(0.0)


def test_the_interval_of_single_images_is_near_wilsons():
    # The seed's result. Wilson's formula, worked out by hand: centre (p + z²/2n) / (1 + z²/n).
    n, right, z = 1311, 1301, 1.959964
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    labels = np.zeros(n, int)
    chances = np.tile([0.9, 0.1], (n, 1))
    chances[:10] = [0.1, 0.9]
    scores = score(labels, chances, CLASSES[:2])
    assert (scores.accuracy_low, scores.accuracy_high) == pytest.approx(
        (centre - half, centre + half), abs=1e-3
    )


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of three classes and probabilities that know them a little."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    logits = rng.normal(0, 1, (count, 3))
    logits[np.arange(count), labels] += 2
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_every_score_has_an_interval_that_holds_it():
    labels, chances = drawn(300)
    scores = score(labels, chances, CLASSES, calibrated=chances, groups=np.arange(300) // 3)
    assert (scores.images, scores.groups) == (300, 100)
    dumped = scores.model_dump()
    names = {"accuracy", "log_loss", "brier", "ece", "macro.f1", "auc.macro", "auc.micro"}
    names |= {f"per_class.{name}.{kind}" for name in CLASSES for kind in ("precision", "recall", "f1")}
    names |= {f"auc.per_class.{name}" for name in CLASSES}
    names |= {f"calibrated.{name}" for name in ("log_loss", "brier", "ece")}
    assert names <= set(scores.intervals)
    for name, (low, high) in scores.intervals.items():
        value = dumped
        for part in name.split("."):
            value = value[part]
        assert 0 <= low < high, name
        assert name.endswith("ece") or low <= value <= high, name


@pytest.mark.parametrize("name", ["accuracy", "macro.f1", "auc.macro", "log_loss", "brier"])
def test_copies_of_images_leave_an_interval_as_it_was(name: str):
    labels, chances = drawn(200)
    once = score(labels, chances, CLASSES).intervals[name]
    place = np.repeat(np.arange(200), 4)
    often = score(labels[place], chances[place], CLASSES, groups=place).intervals[name]
    assert often == pytest.approx(once, abs=0.02)


def test_areas_have_the_interval_of_a_bootstrap_over_groups():
    labels, chances = drawn(240, seed=3)
    groups = np.arange(240) // 4
    low, high = score(labels, chances, CLASSES, groups=groups).intervals["auc.macro"]
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(200):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(60, size=60)])
        macro = roc(labels[rows], chances[rows], CLASSES).macro
        assert macro is not None
        areas.append(macro.auc)
    assert (low, high) == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.01)


def test_each_patient_has_one_vote():
    labels = np.array([0, 0, 0, 1, 1, 1])
    chances = np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.4, 0.6], [0.4, 0.6], [0.9, 0.1]])
    patients = np.array(["p", "p", "p", "q", "q", "p"])  # p has an image of the second class, too
    found = score_units(labels, chances, patients, GroupBootstrap(patients))
    assert (found.units, found.right) == (3, 2)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.accuracy_low < 2 / 3 < found.accuracy_high


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 2), (1,)])
def test_macro_scores_alone_are_those_of_all_scores(present: tuple[int, ...]):
    labels, chances = random_predictions(60)
    labels = np.array(present)[labels % len(present)]
    whole = score(labels, chances, CLASSES)
    assert macro_scores(labels, chances, CLASSES) == (whole.macro.f1, whole.auc.macro)


def test_areas_under_curves():
    scores = score(LABELS, PROBABILITIES, CLASSES)
    # In each column the images of the class stand above the others, such as 0.7 and 0.3 above 0.1 and 0.2.
    assert scores.auc.per_class == {"glioma": 1.0, "meningioma": 1.0, "notumor": 1.0}
    assert scores.auc.macro == 1.0
    # Pooled: of 4 x 8 pairs of a right and a wrong probability, only 0.3 < 0.6 is the wrong way round,
    # and 0.6 (notumor) ties with 0.6 (meningioma for the second image).
    assert scores.auc.micro == pytest.approx((32 - 1 - 0.5) / 32)


def test_area_counts_pairs_in_the_right_order():
    # Positives 0.9 and 0.4 against negatives 0.6 and 0.1: three of the four pairs are in order.
    chances = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.1, 0.9]])
    assert score([0, 0, 1, 1], chances, CLASSES[:2]).auc.per_class["glioma"] == pytest.approx(0.75)


def test_curves_rise_from_nought_to_one_and_macro_is_the_mean():
    curves = roc(*random_predictions(60), CLASSES)
    known = [*curves.per_class.values(), curves.micro, curves.macro]
    for curve in known:
        assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
        assert (np.diff(curve.fpr) >= 0).all()
        assert (np.diff(curve.tpr) >= 0).all()
    assert curves.macro.auc == pytest.approx(np.mean([c.auc for c in curves.per_class.values()]))
    assert np.trapezoid(curves.macro.tpr, curves.macro.fpr) == pytest.approx(curves.macro.auc, abs=0.02)


def test_perfect_predictions():
    labels = np.array([0, 1, 2, 0])
    scores = score(labels, np.eye(3)[labels], CLASSES)
    assert scores.accuracy == scores.accuracy_high == scores.macro.f1 == scores.auc.micro == 1.0
    assert scores.accuracy_low < 0.6  # four images prove little
    assert (scores.brier, scores.ece) == (0.0, 0.0)
    assert scores.log_loss == pytest.approx(0.0)


def test_a_class_without_images_is_null_in_strict_json():
    scores = score([0, 0, 1], [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.2, 0.7, 0.1]], CLASSES)
    found = json.loads(json.dumps(scores.model_dump(mode="json"), allow_nan=False))
    assert found["per_class"]["notumor"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert found["auc"]["per_class"]["notumor"] is None
    assert found["auc"]["macro"] is not None
    assert found["macro"]["recall"] == pytest.approx((0.5 + 1) / 2)  # over the classes that have images
    assert Scores.model_validate(found) == scores


def test_images_of_one_class_only_have_no_areas():
    scores = score([1, 1], PROBABILITIES[:2], CLASSES)
    assert set(scores.auc.per_class.values()) == {None}
    assert scores.auc.micro is None
    assert scores.auc.macro is None
    json.dumps(scores.model_dump(), allow_nan=False)


def test_calibrated_probabilities_are_scored_beside_the_raw_ones():
    flat = (PROBABILITIES + 1 / 3) / 2
    scores = score(LABELS, PROBABILITIES, CLASSES, calibrated=flat)
    assert scores.calibrated.model_dump() == {
        name: getattr(score(LABELS, flat, CLASSES), name) for name in ("log_loss", "brier", "ece")
    }
    assert score(LABELS, PROBABILITIES, CLASSES).calibrated is None


def test_float32_rows_score_like_float64_ones():
    labels, chances = random_predictions(50)
    single = score(labels, chances.astype(np.float32), CLASSES)
    assert single.log_loss == pytest.approx(score(labels, chances, CLASSES).log_loss, rel=1e-6)


def test_order_of_images_does_not_matter():
    labels, chances = random_predictions(50)
    order = np.random.default_rng(1).permutation(50)
    first, second = score(labels, chances, CLASSES), score(labels[order], chances[order], CLASSES)
    assert first.confusion == second.confusion
    assert first.auc.micro == pytest.approx(second.auc.micro)
    assert first.ece == pytest.approx(second.ece)


@pytest.mark.parametrize(
    ("labels", "chances", "message"),
    [
        ([], np.empty((0, 3)), "no images to score"),
        ([0, 1], [[0.5, 0.5, 0.0]], "shape"),
        ([0], [[0.5, 0.5]], r"\(n, 3\)"),
        ([3], [[0.2, 0.3, 0.5]], "from 3 to 3"),
        ([-1], [[0.2, 0.3, 0.5]], "from -1"),
        ([0.5], [[0.2, 0.3, 0.5]], "float64"),
        ([0], [[2.0, 3.0, 5.0]], "sum to 1"),
        ([0], [[-0.5, 1.0, 0.5]], "sum to 1"),
        ([0], [[math.nan, 0.5, 0.5]], "row 0"),
    ],
)
def test_unusable_predictions_are_refused(labels, chances, message):
    with pytest.raises(ValueError, match=message):
        score(labels, chances, CLASSES)


def test_text_table_is_aligned_and_has_four_digits():
    text = format_scores(score(LABELS, PROBABILITIES, CLASSES, calibrated=PROBABILITIES))
    table, rest = text.split("\n\naccuracy")
    rows = [line for line in table.splitlines() if line]
    assert len({len(row) for row in rows}) == 1
    assert rows[1].split() == ["glioma", "1.0000", "0.5000", "0.6667", "2"]
    assert [row.split()[0] for row in rows[-2:]] == ["macro", "weighted"]
    assert "0.7500" in rest
    assert "3 of 4" in rest
    assert rest.count("ECE") == 2


def test_text_table_shows_a_dash_for_a_class_without_images():
    text = format_scores(score([0, 1], PROBABILITIES[[0, 2]], CLASSES))
    assert next(line for line in text.splitlines() if "notumor" in line).split()[1:] == ["-", "-", "-", "0"]


def test_rows_are_what_the_terminal_shows_beneath_the_accuracy():
    scores = score(LABELS, PROBABILITIES, CLASSES, calibrated=PROBABILITIES)
    assert [label for label, _ in scores.rows()] == ["AUC", "raw", "calibrated"]
    shown = [f"{label:12}{text}" for label, text in scores.rows()]
    assert format_scores(scores).splitlines()[-3:] == shown


def test_rows_of_stored_scores_leave_out_what_is_not_among_them():
    stored = {"images": 4, "accuracy": 0.75, "log_loss": 0.4321, "calibrated": None}
    assert score_rows(stored) == [("raw", "log loss 0.4321")]
    assert score_rows({"images": 4, "accuracy": 0.75}) == []
