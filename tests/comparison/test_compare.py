"""What a sweep's comparison says, against values worked out by hand, and who may win."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from support.sweep_records import (
    COSTS,
    cross_entropy,
    labels_of,
    make_history,
    make_record,
    make_sweep,
    make_trial,
    predictions,
    sweep_of_forty,
    sweep_of_four,
)

from brain_ray.comparison.compare import compare
from brain_ray.comparison.cost import Cost
from brain_ray.comparison.report import format_table
from brain_ray.config import DataConfig
from brain_ray.errors import RunError
from brain_ray.records import to_json
from brain_ray.scoring.calibration import log_loss
from brain_ray.scoring.metrics import score
from brain_ray.scoring.paired_tests import bootstrap_means, holm, mcnemar
from brain_ray.tuning.trials import SweepRecord, TrialRecord

LABELS = labels_of(400)
GOOD, BETTER, BAD = (predictions(LABELS, sharpness, seed) for seed, sharpness in enumerate((4.0, 5.0, 2.0)))


def two_models(first: np.ndarray, second: np.ndarray, **sweep) -> SweepRecord:
    """EfficientNetV2S with the first predictions, and EfficientNetB0, nine times as fast, with the second."""
    trials = [make_trial(0, 0, backbone="EfficientNetV2S"), make_trial(1, 1, backbone="EfficientNetB0")]
    records = [make_record(trials[0], LABELS, first), make_record(trials[1], LABELS, second)]
    return make_sweep(records, LABELS, **sweep)


def repeats(*chances: np.ndarray) -> list[TrialRecord]:
    return [make_record(make_trial(i, 0, i), LABELS, one) for i, one in enumerate(chances)]


def test_mcnemar_is_the_binomial_tail_of_the_discordant_images():
    # 2 (C(10, 0) + C(10, 1)) / 2^10
    assert mcnemar(1, 9) == mcnemar(9, 1) == pytest.approx(22 / 1024)
    assert mcnemar(5, 5) == mcnemar(0, 0) == 1.0


def test_holm_multiplies_by_the_tests_that_are_left_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_bootstrap_of_many_images_has_the_spread_of_the_normal_theory():
    rng = np.random.default_rng(3)
    first, second = rng.exponential(1.0, (1, 4000, 1)), rng.exponential(1.1, (1, 4000, 1))
    means = bootstrap_means([first, second], 3000, seed=1)
    low, high = np.quantile(means[:, 1, 0] - means[:, 0, 0], [0.025, 0.975])
    values = (second - first)[0, :, 0]
    half = 1.959964 * values.std(ddof=1) / math.sqrt(4000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_bootstrap_draws_the_same_images_for_all_models():
    one = np.random.default_rng(0).exponential(1.0, (1, 300, 2))
    means = bootstrap_means([one, one + 0.5], 200, seed=1)
    assert means[:, 1] - means[:, 0] == pytest.approx(0.5)


def test_bootstrap_draws_repeats_as_well():
    flat = np.stack([np.full((50, 1), value) for value in (0.0, 1.0)])
    means = bootstrap_means([flat], 4000, seed=1)[:, 0, 0]
    assert len(set(means.round(9))) == 3  # one of them twice, the other twice, or each once
    assert means.mean() == pytest.approx(0.5, abs=0.03)
    # The variance of a mean of two is half of what the two show.
    assert means.var() == pytest.approx(np.var([0.0, 1.0], ddof=1) / 2, rel=0.05)


def test_bootstrap_in_chunks_is_bounded_and_complete():
    means = bootstrap_means([np.ones((2, 300, 2))], 107, seed=1, chunk=1000)
    assert means.shape == (107, 1, 2)
    assert means == pytest.approx(1.0)


def test_scores_of_a_trial_are_those_of_its_probabilities():
    record = make_sweep(repeats(GOOD), LABELS)
    row = compare(record, COSTS).rows[0]
    assert row.cross_entropy == pytest.approx(cross_entropy(LABELS, GOOD))
    assert row.accuracy == pytest.approx((GOOD.argmax(axis=1) == LABELS).mean())
    assert row.accuracy_low < row.accuracy < row.accuracy_high
    assert (row.best_epoch, row.epochs, row.seed) == (8, 9, 123)
    assert row.training_seconds == pytest.approx(9 * 30.0)
    assert row.device_hours == pytest.approx(400 * 0.5 / 3600)


@pytest.mark.parametrize("least", [0.0, 1e-14, 1e-9])
def test_a_certain_mistake_costs_a_sweep_what_it_costs_the_report_and_the_export(least: float):
    chances = np.tile(np.array([least, 1 - 2 * least, least, 0.0], np.float32), (400, 1))
    row = compare(make_sweep(repeats(chances), LABELS), COSTS).rows[0]
    reported = score(LABELS, chances, DataConfig().classes).log_loss
    assert row.cross_entropy == pytest.approx(reported, rel=1e-9)
    assert row.cross_entropy == pytest.approx(log_loss(chances, LABELS), rel=1e-9)
    assert row.cross_entropy > 0.75 * 20  # three of four classes are certain mistakes


def test_equal_predictions_are_within_noise_and_the_fastest_wins():
    comparison = compare(two_models(GOOD, GOOD), COSTS)
    assert comparison.winner == "001"
    assert comparison.pairs[0].within_noise
    assert comparison.pairs[0].p == 1.0
    assert "14.2 ms" in comparison.sentence
    assert {model.model for model in comparison.models if model.within_noise} == set(comparison.within_noise)
    assert len(comparison.within_noise) == 2


def test_a_clear_difference_outweighs_any_speed():
    comparison = compare(two_models(BETTER, BAD), COSTS)
    assert comparison.winner == "000"
    pair = comparison.pairs[0]
    assert (pair.first, pair.second) == ("EfficientNetV2S 384x384 gap", "EfficientNetB0 224x224 gap")
    assert 0 < pair.cross_entropy.low < pair.cross_entropy.value < pair.cross_entropy.high
    assert pair.accuracy.high < 0
    assert pair.p_holm < 0.001
    assert not pair.within_noise
    assert "no other is within noise" in comparison.sentence


def test_the_rule_best_takes_the_lowest_mean_whatever_it_costs():
    slightly = predictions(LABELS, 4.1, 9)
    assert compare(two_models(slightly, GOOD), COSTS).winner == "001"
    assert compare(two_models(slightly, GOOD, choice="best"), COSTS).winner == "000"


def test_equally_fast_models_are_told_apart_by_their_size():
    slow, fast = COSTS["EfficientNetV2S 384x384 gap"], COSTS["EfficientNetB0 224x224 gap"]
    costs = COSTS | {"EfficientNetV2S 384x384 gap": replace(slow, latency_ms=14.2, parameters=1000)}
    assert fast.latency_ms == 14.2
    assert compare(two_models(GOOD, GOOD), costs).winner == "000"


@pytest.mark.parametrize("costs", [{}, {"EfficientNetB0 224x224 gap": Cost(1, 1.0, math.nan, 1.0)}])
def test_without_known_costs_the_best_wins(costs):
    slightly = predictions(LABELS, 4.1, 9)
    comparison = compare(two_models(slightly, GOOD), costs)
    assert comparison.winner == "000"
    assert "is not known" in comparison.sentence
    assert "nan" not in format_table(comparison)
    json.dumps(to_json(comparison), allow_nan=False)


def test_a_model_of_unknown_cost_is_not_the_cheapest():
    slightly = predictions(LABELS, 4.1, 9)
    costs = {"EfficientNetB0 224x224 gap": COSTS["EfficientNetB0 224x224 gap"]}
    comparison = compare(two_models(slightly, GOOD), costs)
    assert comparison.winner == "001"
    assert "which takes an unknown time" in comparison.sentence


def test_repeats_are_told_with_mean_and_standard_deviation():
    chances = [predictions(LABELS, sharpness, 5) for sharpness in (3.0, 3.5, 4.5)]
    model = compare(make_sweep(repeats(*chances), LABELS), COSTS).models[0]
    values = [cross_entropy(LABELS, one) for one in chances]
    mean = sum(values) / 3
    assert model.cross_entropy.mean == pytest.approx(mean)
    assert model.cross_entropy.sd == pytest.approx(
        math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    )
    assert (model.cross_entropy.repeats, model.trial) == (3, "002")


def test_one_repeat_has_no_spread_and_is_warned_of():
    comparison = compare(make_sweep(repeats(GOOD), LABELS), COSTS)
    assert comparison.models[0].cross_entropy.sd is None
    assert comparison.pairs == ()
    assert any("nothing about the spread" in caveat for caveat in comparison.caveats)


def test_repeats_are_matched_at_the_last_epoch_that_all_reached():
    histories = ([0.9, 0.5, 0.6, 0.2], [0.8, 0.7], [0.9, 0.95, 0.1])
    status = ("finished", "stopped", "finished")
    records = [
        TrialRecord(make_trial(i, 0, i), status[i], make_history(values), GOOD)
        for i, values in enumerate(histories)
    ]
    records.append(TrialRecord(make_trial(3, 0, 3), "failed", make_history([0.1]), None, "lost"))
    comparison = compare(make_sweep(records, LABELS), COSTS)
    assert comparison.matched_epoch == 2
    model = comparison.models[0]
    assert model.matched.mean == pytest.approx((0.5 + 0.7 + 0.9) / 3)
    assert (model.repeats, model.stopped, model.failed, model.cross_entropy.repeats) == (4, 1, 1, 2)


def test_a_model_is_judged_by_its_best_variant():
    records = [
        make_record(make_trial(0, 0), LABELS, BAD),
        make_record(make_trial(1, 1), LABELS, BETTER),
        make_record(make_trial(2, 2), LABELS, GOOD),
    ]
    comparison = compare(make_sweep(records, LABELS), COSTS)
    assert [(model.variant, model.variants) for model in comparison.models] == [(1, 3)]
    assert comparison.winner == "001"


@pytest.mark.parametrize("status", ["failed", "stopped", "running"])
def test_a_trial_that_did_not_finish_never_wins(status):
    records = [
        make_record(make_trial(0, 0, backbone="tiny"), LABELS, BETTER, status=status),
        make_record(make_trial(1, 1), LABELS, BAD),
    ]
    comparison = compare(make_sweep(records, LABELS), COSTS)
    assert comparison.winner == "001"
    assert [row.candidate for row in comparison.rows] == [False, True]
    assert not comparison.models[1].contender


def test_a_trial_without_a_finite_value_never_wins():
    empty = np.full_like(GOOD, np.nan)
    records = [
        TrialRecord(make_trial(0, 0, backbone="tiny"), "finished", make_history([math.nan] * 3), empty),
        TrialRecord(make_trial(1, 1, backbone="tiny"), "finished", make_history([math.nan] * 3), None),
        make_record(make_trial(2, 2), LABELS, BAD),
    ]
    comparison = compare(make_sweep(records, LABELS), COSTS)
    assert comparison.winner == "002"
    assert [row.best_epoch for row in comparison.rows] == [None, None, 8]


def test_a_sweep_without_a_candidate_says_how_its_trials_ended():
    records = [
        TrialRecord(make_trial(0, 0), "failed", reason="out of memory"),
        TrialRecord(make_trial(1, 1), "failed", reason="no such file"),
        make_record(make_trial(2, 2), LABELS, GOOD, status="stopped", reason="one of the weaker"),
    ]
    with pytest.raises(RunError) as error:
        compare(make_sweep(records, LABELS), COSTS)
    for part in (
        "of 3 trials",
        "2 failed",
        "1 stopped",
        "trial 000: out of memory",
        "trial 001: no such file",
    ):
        assert part in str(error.value)
    assert "lower the learning rates in sweep.space, and sweep under a new name" in str(error.value)


def test_intervals_are_corrected_for_the_number_of_pairs():
    four, two = compare(sweep_of_four(), COSTS), compare(two_models(GOOD, GOOD), COSTS)
    assert len(four.pairs) == 6
    assert four.level == pytest.approx(1 - 0.05 / 6)
    assert two.level == pytest.approx(0.95)


def test_caveats_claim_no_more_of_noise_than_was_drawn():
    few, alone = compare(sweep_of_forty(), COSTS), compare(make_sweep(repeats(GOOD), LABELS), COSTS)
    assert any("Two to four finished repeats tell little" in caveat for caveat in few.caveats)
    assert any("does not mean as good" in caveat for caveat in few.caveats)
    assert not any("Two to four" in caveat or "as good" in caveat for caveat in alone.caveats)
    for caveat in (*few.caveats, *alone.caveats):
        assert "opened" not in caveat


def test_too_few_resamples_for_the_pairs_are_warned_of():
    assert any("sweep.bootstrap" in caveat for caveat in compare(sweep_of_four(bootstrap=100), COSTS).caveats)
    assert not any("bootstrap" in caveat for caveat in compare(sweep_of_four(bootstrap=2000), COSTS).caveats)


def test_the_same_record_gives_the_same_numbers():
    first, second = (to_json(compare(sweep_of_forty(), COSTS)) for _ in range(2))
    assert first == second


def test_forty_trials_are_all_told_of():
    comparison = compare(sweep_of_forty(), COSTS)
    assert len(comparison.rows) == 40
    assert comparison.row(comparison.winner).candidate
    assert sum(model.chosen for model in comparison.models) == 1
    assert comparison.chosen.trial == comparison.winner
