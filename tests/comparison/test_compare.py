"""What a sweep's comparison says, against values worked out by hand, and who may win."""

import json
import math
from dataclasses import replace
from functools import cache

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

from brain_ray.comparison import wording
from brain_ray.comparison.compare import compare
from brain_ray.comparison.cost import Cost
from brain_ray.comparison.report import format_table
from brain_ray.comparison.results import Comparison
from brain_ray.config import DataConfig
from brain_ray.errors import RunError
from brain_ray.records import to_json
from brain_ray.scoring.calibration import log_loss
from brain_ray.scoring.metrics import score
from brain_ray.tuning.trials import Status, SweepRecord, TrialRecord

LABELS = labels_of(400)
GOOD, BETTER, BAD = (predictions(LABELS, sharpness, seed) for seed, sharpness in enumerate((4.0, 5.0, 2.0)))


def two_models(first: np.ndarray, second: np.ndarray, **sweep) -> SweepRecord:
    """EfficientNetV2S with the first predictions, and EfficientNetB0, nine times as fast, with the second."""
    trials = [make_trial(0, 0, backbone="EfficientNetV2S"), make_trial(1, 1, backbone="EfficientNetB0")]
    records = [make_record(trials[0], LABELS, first), make_record(trials[1], LABELS, second)]
    return make_sweep(records, LABELS, **sweep)


def repeats(*chances: np.ndarray) -> list[TrialRecord]:
    return [make_record(make_trial(i, 0, i), LABELS, one) for i, one in enumerate(chances)]


def test_scores_of_a_trial_are_those_of_its_probabilities():
    record = make_sweep(repeats(GOOD), LABELS)
    row = compare(record, COSTS).rows[0]
    assert row.cross_entropy == pytest.approx(cross_entropy(LABELS, GOOD))
    assert row.calibrated < row.cross_entropy
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


def test_equal_predictions_are_within_the_margin_and_the_fastest_wins():
    comparison = compare(two_models(GOOD, GOOD), COSTS)
    assert comparison.winner == "001"
    assert comparison.pairs[0].within_noise
    assert comparison.pairs[0].p == 1.0
    assert "14.2 ms" in comparison.sentence
    assert [model.verdict for model in comparison.models] == ["best", "within margin"]


def test_a_clear_difference_outweighs_any_speed():
    comparison = compare(two_models(BETTER, BAD), COSTS)
    assert comparison.winner == "000"
    pair = comparison.pairs[0]
    assert (pair.first, pair.second) == ("EfficientNetV2S 384x384 gap", "EfficientNetB0 224x224 gap")
    assert 0 < pair.loss.low < pair.loss.value < pair.loss.high
    assert pair.accuracy.high < 0
    assert pair.p_holm < 0.001
    assert not pair.within_noise
    assert comparison.models[1].verdict == "worse"
    assert "no faster model is within the margin" in comparison.sentence


def test_what_is_not_shown_to_be_within_the_margin_does_not_win():
    """Not significantly worse is not good enough: with few images, everything would be."""
    labels = labels_of(60)
    chances = predictions(labels, 3.2, 1), predictions(labels, 3.0, 9)
    trials = [make_trial(0, 0, backbone="EfficientNetV2S"), make_trial(1, 1, backbone="EfficientNetB0")]
    records = [make_record(trial, labels, one) for trial, one in zip(trials, chances, strict=True)]
    comparison = compare(make_sweep(records, labels), COSTS)
    assert comparison.winner == "000"
    assert comparison.models[1].verdict == "unclear"
    assert any("could not show that it is within the margin" in caveat for caveat in comparison.caveats)


@pytest.mark.parametrize("name", ["cheapest within margin", "cheapest within noise"])
def test_the_margin_is_a_share_of_the_best_ones_cross_entropy(name: str):
    slightly = predictions(LABELS, 4.2, 0)
    comparison = compare(two_models(slightly, GOOD, choice=name, margin=0.01), COSTS)
    best, other = comparison.models
    assert comparison.margin == pytest.approx(0.01 * best.calibrated.mean)
    needed = other.deficit.high / best.calibrated.mean
    assert 0.01 < needed < 0.99
    assert comparison.winner == "000"
    assert compare(two_models(slightly, GOOD, choice=name, margin=needed + 0.01), COSTS).winner == "001"
    assert compare(two_models(slightly, GOOD, choice="best", margin=1.0), COSTS).winner == "000"


def test_equally_fast_models_are_told_apart_by_their_size():
    slow, fast = COSTS["EfficientNetV2S 384x384 gap"], COSTS["EfficientNetB0 224x224 gap"]
    costs = COSTS | {"EfficientNetV2S 384x384 gap": replace(slow, latency_ms=14.2, parameters=1000)}
    assert fast.latency_ms == 14.2
    assert compare(two_models(GOOD, GOOD), costs).winner == "000"


@pytest.mark.parametrize("costs", [{}, {"EfficientNetB0 224x224 gap": Cost(1, 1.0, math.nan, 1.0)}])
def test_without_known_costs_the_best_wins(costs):
    slightly = predictions(LABELS, 4.1, 9)
    comparison = compare(two_models(slightly, GOOD, margin=1.0), costs)
    assert comparison.winner == "000"
    assert "is not known" in comparison.sentence
    assert "nan" not in format_table(comparison)
    json.dumps(to_json(comparison), allow_nan=False)


def test_a_model_of_unknown_cost_is_not_the_cheapest():
    costs = {"EfficientNetB0 224x224 gap": COSTS["EfficientNetB0 224x224 gap"]}
    comparison = compare(two_models(predictions(LABELS, 4.2, 0), GOOD, margin=1.0), costs)
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


def test_with_one_repeat_each_the_noise_of_the_seed_is_said_to_be_unknown():
    alone, two = compare(make_sweep(repeats(GOOD), LABELS), COSTS), compare(two_models(BETTER, GOOD), COSTS)
    assert alone.models[0].cross_entropy.sd is None
    assert alone.pairs == ()
    assert two.seeds is None
    assert two.sentence.endswith("how much another seed would change is not known.")
    assert any("nothing about the noise of the seed" in caveat for caveat in two.caveats)
    assert "noise of the seed is not known" in wording.noise(two)


def test_trials_are_matched_at_the_last_epoch_that_all_reached():
    histories = ([0.9, 0.5, 0.6, 0.2], [0.8, 0.7], [0.9, 0.95, 0.1])
    status = ("finished", "stopped", "finished")
    records = [
        TrialRecord(make_trial(i, 0, i), status[i], make_history(values), GOOD)
        for i, values in enumerate(histories)
    ]
    records.append(TrialRecord(make_trial(3, 0, 3), "failed", make_history([0.1]), None, "lost"))
    records.append(make_record(make_trial(4, 1, backbone="tiny"), LABELS, BAD))
    comparison = compare(make_sweep(records, LABELS), COSTS)
    assert comparison.matched_epoch == 2
    model = comparison.model("EfficientNetB0 224x224 gap")
    assert model.matched.mean == pytest.approx((0.5 + 0.7 + 0.9) / 3)
    assert (model.repeats, model.finished, model.stopped, model.failed) == (4, 2, 1, 1)
    assert model.cross_entropy is None, "the mean of two of four would be one of survivors"


def two_seeds(second: str, fate: Status) -> SweepRecord:
    """V2-S with two repeats; B0 with a better first one, and a second one that ends so."""
    first, better = predictions(LABELS, 4.6, 1), predictions(LABELS, 5.5, 2)
    slow = [make_trial(i, 0, i, backbone="EfficientNetV2S") for i in range(2)]
    fast = [make_trial(2 + i, 1, i, backbone="EfficientNetB0") for i in range(2)]
    records = [make_record(trial, LABELS, first) for trial in slow]
    records.append(make_record(fast[0], LABELS, better))
    if second:
        records.append(make_record(fast[1], LABELS, BAD, fate, epochs=3, reason="weaker"))
    return make_sweep(records, LABELS, seeds=2, margin=1.0)


@pytest.mark.parametrize(
    ("second", "fate"), [("made", "stopped"), ("made", "failed"), ("made", "running"), ("", "finished")]
)
def test_a_model_is_never_compared_by_its_survivor(second: str, fate: Status):
    comparison = compare(two_seeds(second, fate), COSTS)
    assert comparison.chosen.model == "EfficientNetV2S 384x384 gap"
    lost = comparison.model("EfficientNetB0 224x224 gap")
    assert (lost.contender, lost.verdict, lost.finished, lost.repeats) == (False, None, 1, 2)
    row = comparison.row("002")
    assert (row.complete, row.candidate) == (True, False)
    assert any("the mean of those that are left would be one of survivors" in c for c in comparison.caveats)
    assert "not compared: of 2 repeats, 1 finished" in format_table(comparison)


def test_with_all_its_repeats_the_same_model_wins():
    record = two_seeds("", "finished")
    better = record.trials[-1].probabilities
    whole = [*record.trials, make_record(make_trial(3, 1, 1), LABELS, better)]
    comparison = compare(replace(record, trials=tuple(whole)), COSTS)
    assert comparison.chosen.model == "EfficientNetB0 224x224 gap"


def other_models(number: int) -> tuple[list[TrialRecord], dict[str, Cost]]:
    """Models that are far worse; some of them as fast as any, some between, with noisy seeds of their own."""
    records, costs = [], {}
    for k in range(number):
        for repeat in range(2):
            trial = make_trial(100 + 2 * k + repeat, 100 + k, repeat)
            size = trial.config.model.model_copy(update={"height": 240 + 16 * k, "width": 240})
            trial = replace(trial, config=trial.config.model_copy(update={"model": size}))
            costs[trial.model] = Cost(1, 1.0, 0.1 if k % 3 == 0 else 50.0 + k, 1.0)
            chances = predictions(LABELS, 2.0 + 0.5 * repeat, 200 + 2 * k + repeat)
            records.append(make_record(trial, LABELS, chances))
    return records, costs


def test_models_that_are_far_worse_change_nothing():
    sharpness = {"EfficientNetV2S": 4.6, "EfficientNetB3": 4.55, "EfficientNetB0": 4.5}
    pair = [
        make_record(
            make_trial(2 * v + r, v, r, backbone=name), LABELS, predictions(LABELS, value, 10 * r + 3)
        )
        for v, (name, value) in enumerate(sharpness.items())
        for r in range(2)
    ]
    found = []
    for number in (0, 12):
        more, costs = other_models(number)
        record = make_sweep([*pair, *more], LABELS, seeds=2, margin=0.6, bootstrap=100)
        comparison = compare(record, COSTS | costs)
        models = [comparison.model(one.trial.model) for one in pair[::2]]
        assert all(model.verdict == "worse" for model in comparison.models if model.model in costs)
        found.append((comparison.winner, [(one.deficit, one.verdict) for one in models], comparison.seeds))
    assert found[0] == found[1]


def test_copies_of_an_image_count_once():
    """Each image four times, in groups of four, gives the intervals of each image once."""
    labels, groups = np.repeat(LABELS, 4), np.repeat(np.arange(400), 4)
    trials = [make_trial(0, 0, backbone="EfficientNetV2S"), make_trial(1, 1, backbone="EfficientNetB0")]
    once = two_models(BETTER, GOOD)
    again = [
        make_record(trial, labels, np.repeat(chances, 4, axis=0))
        for trial, chances in zip(trials, (BETTER, GOOD), strict=True)
    ]
    single = compare(once, COSTS)
    grouped = compare(make_sweep(again, labels, groups=groups), COSTS)
    ignored = compare(make_sweep(again, labels), COSTS)
    width = [one.pairs[0].loss.high - one.pairs[0].loss.low for one in (single, grouped, ignored)]
    assert width[1] == pytest.approx(width[0], rel=0.2)
    assert width[2] == pytest.approx(width[0] / 2, rel=0.2)
    assert (grouped.groups, ignored.groups) == (400, 1600)
    assert single.pairs[0].p == pytest.approx(grouped.pairs[0].p)
    rows = [one.rows[0].accuracy_high - one.rows[0].accuracy_low for one in (single, grouped)]
    assert rows[1] == pytest.approx(rows[0], rel=0.25)


def test_a_scalar_that_the_export_removes_decides_nothing():
    """Of the same network, once with probabilities that are too soft."""
    sharp, between = predictions(LABELS, 2.6, 1), predictions(LABELS, 2.4, 1)
    soft = sharp.astype(np.float64) ** 0.3
    soft = (soft / soft.sum(axis=1, keepdims=True)).astype(np.float32)
    assert cross_entropy(LABELS, sharp) < cross_entropy(LABELS, between) < cross_entropy(LABELS, soft)
    calibrated = compare(two_models(soft, between, choice="best"), COSTS)
    raw = compare(two_models(soft, between, choice="best", criterion="raw"), COSTS)
    assert (calibrated.winner, raw.winner) == ("000", "001")
    unscaled = compare(two_models(sharp, between), COSTS)
    assert calibrated.rows[0].calibrated == pytest.approx(unscaled.rows[0].calibrated, rel=1e-3)
    assert "raw validation cross-entropy" in raw.rule
    assert raw.chosen.loss == raw.chosen.cross_entropy
    assert calibrated.chosen.loss == calibrated.chosen.calibrated


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


@cache
def compared_forty() -> Comparison:
    return compare(sweep_of_forty(), COSTS)


def test_noise_of_the_seed_is_pooled_over_the_variants_near_the_best():
    comparison = compared_forty()
    near = [row for row in comparison.rows if row.candidate]
    assert 1 < comparison.seeds.freedom <= len(near) / 2
    assert any(f"{comparison.seeds.freedom} degrees of freedom" in caveat for caveat in comparison.caveats)
    assert any("12 variants are not compared" in caveat for caveat in comparison.caveats)


def test_too_few_resamples_are_warned_of():
    assert any("sweep.bootstrap" in caveat for caveat in compare(sweep_of_four(bootstrap=100), COSTS).caveats)
    assert not any("bootstrap" in caveat for caveat in compare(sweep_of_four(bootstrap=2000), COSTS).caveats)


def test_the_same_record_gives_the_same_numbers():
    first, second = (to_json(compare(sweep_of_four(), COSTS)) for _ in range(2))
    assert first == second


def test_forty_trials_are_all_told_of():
    comparison = compared_forty()
    assert len(comparison.rows) == 40
    assert comparison.row(comparison.winner).candidate
    assert sum(model.chosen for model in comparison.models) == 1
    assert comparison.chosen.trial == comparison.winner
