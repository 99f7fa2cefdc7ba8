"""One answer for a patient: units, rules, and the choice among them."""

import numpy as np
import pytest

from brain_ray.bundle.thresholds import fit_patient_rule
from brain_ray.config import ExportConfig
from brain_ray.scoring.aggregation import RULES, Units, choose_rule
from brain_ray.scoring.risk import NEVER


def test_a_unit_is_the_images_of_one_group_and_class() -> None:
    units = Units.of([0, 0, 1, 0, 1], ["a", "b", "a", "a", "b"])
    assert units.labels.tolist() == [0, 1, 0, 1]
    assert units.groups.tolist() == [0, 0, 1, 1]
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]])
    np.testing.assert_allclose(units.aggregate("mean", chances)[:, 0], [0.7, 0.2, 0.6, 0.3])


def test_each_rule_leaves_a_single_slice_as_it_is_and_sums_to_one() -> None:
    chances = np.random.default_rng(1).dirichlet(np.ones(4), 9)
    for combine in RULES.values():
        np.testing.assert_allclose(combine(chances[:1]), chances[0], atol=1e-12)
        assert combine(chances).sum() == pytest.approx(1)


def test_rules_differ_as_they_say() -> None:
    chances = np.array([[0.98, 0.02], [0.4, 0.6], [0.4, 0.6]])
    assert RULES["mean"](chances)[0] == pytest.approx((0.98 + 0.8) / 3)
    odds = 49 * (2 / 3) ** 2  # a product of odds, of which the third root is taken
    assert RULES["log_mean"](chances)[0] == pytest.approx(odds ** (1 / 3) / (1 + odds ** (1 / 3)))
    assert RULES["confident_third"](chances)[0] == pytest.approx(0.98)
    assert RULES["log_mean"](np.array([[1.0, 0.0], [0.0, 1.0]])).tolist() == [0.5, 0.5]


def draw(kind: str, patients: int = 300, slices: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the probabilities of two classes for the slices of patients, their labels and patients."""
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(patients) % 2, slices)
    signal = rng.normal(0.5, 1.0, len(labels))  # logits for the true class, independent between slices
    if kind == "few speak":  # the tumour is in a third of the slices; the others only add noise
        signal = np.where(np.arange(len(labels)) % 3 == 0, rng.normal(3, 2, len(labels)), signal - 1)
    chance = 1 / (1 + np.exp(-signal))
    of_first = np.where(labels == 0, chance, 1 - chance)
    return np.stack([of_first, 1 - of_first], axis=1), labels, np.repeat(np.arange(patients), slices)


@pytest.mark.parametrize(("kind", "best"), [("all speak", "log_mean"), ("few speak", "confident_third")])
def test_the_rule_that_suits_the_slices_is_chosen(kind: str, best: str) -> None:
    chances, labels, groups = draw(kind)
    found = choose_rule(Units.of(labels, groups), chances)
    assert found.losses.keys() == RULES.keys()
    assert found.rule == min(found.losses, key=found.losses.__getitem__) == best
    # Evidence of nine slices is worth more than the mean of it says, and the temperature tells so.
    assert found.temperature < 0.8


def test_the_answer_to_a_patient_is_withheld_until_patients_show_what_is_asked() -> None:
    chances, labels, groups = draw("all speak")
    few = np.isin(groups, np.arange(20))
    asked = ExportConfig(max_error=0.05)
    enough = fit_patient_rule(chances.astype(np.float32), labels, groups, asked, (0.9, 0.9), models=4)
    assert (enough.units, enough.images, enough.models) == (300, 2700, 12)
    assert enough.abstain_below < 1
    assert enough.error <= enough.error_bound <= 0.05
    assert enough.answered > 0.8
    scarce = fit_patient_rule(
        chances[few].astype(np.float32), labels[few], groups[few], asked, (0.9, 0.9), models=4
    )
    assert scarce.abstain_below == NEVER  # 180 slices, but 20 patients
    assert scarce.answers_needed > 20


def test_candidates_hold_for_patients() -> None:
    chances, labels, groups = draw("all speak", patients=2000)
    half = groups < 1000
    rule = fit_patient_rule(
        chances[half].astype(np.float32), labels[half], groups[half], ExportConfig(), (0.95, 0.8), models=1
    )
    from brain_ray.scoring.calibration import calibrate

    rest = Units.of(labels[~half], groups[~half])
    found = calibrate(rest.aggregate(rule.rule, chances[~half]), rule.temperature)
    inside = found[np.arange(len(found)), rest.labels] >= np.array(rule.candidate_floors)[rest.labels]
    for k, asked in enumerate((0.95, 0.8)):
        share = inside[rest.labels == k].mean()
        assert abs(share - asked) < 0.04  # three standard errors of 500 calibration and 500 new patients
