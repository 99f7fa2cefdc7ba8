"""A trial's folder tells what is known of it, and keeps no more than can still be of use."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.trial_records import make_history, make_record, sweep_config

from brain_ray.config import Config
from brain_ray.records import from_json
from brain_ray.runs import BEST, DATASET_MANIFEST, FEATURES, HISTORY, RESULT, RUNGS, VAL_PROBABILITIES, Run
from brain_ray.tracking.history import to_csv
from brain_ray.training import checkpoints
from brain_ray.tuning.trial_store import (
    MOST_KEPT,
    Clock,
    best_value,
    delete_unneeded,
    read_sweep,
    read_trial,
    read_trials,
    trial_run,
    write_rungs,
    write_trial,
)
from brain_ray.tuning.trials import Reached, Rung, Status, Trial, TrialRecord

VALID = ("dataset", "valid", "00000.parquet")
BACKBONES = (*(f"EfficientNetB{number}" for number in range(8)), "EfficientNetV2S", "tiny")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path), "run")


def config_of(backbone: str = "tiny", seeds: int = 1, **sweep: Any) -> Config:
    config = sweep_config(seeds=seeds, **sweep)
    return config.model_copy(update={"model": config.model.model_copy(update={"backbone": backbone})})


def write(run: Run, record: TrialRecord) -> TrialRecord:
    """Write all that a trial may have left behind."""
    home = trial_run(run, record.trial.id)
    write_trial(run, record.trial, record.status, record.reason)
    home.write_bytes(to_csv(record.history), *HISTORY)
    for name in ("checkpoint_20260101-000000.000000", "checkpoint_20260101-000001.000000"):
        home.write_bytes(b"x", "train", name, "state.npz")
    home.write_bytes(b"x", *FEATURES, "train", "rows-000000000000.parquet")
    if record.status == "finished":
        home.write_bytes(b"x", *BEST)
    return record


def kept(run: Run, name: tuple[str, str] = BEST) -> list[int]:
    """Trials that still have a file."""
    records = read_trials(run, val_probabilities=False)
    return [int(one.trial.id) for one in records if trial_run(run, one.trial.id).exists(*name)]


def sweep_of(run: Run, *trials: tuple[int, str, float, Status], seeds: int = 1) -> list[TrialRecord]:
    """Write trials of a variant, a backbone, a validation cross-entropy and a status each."""
    records, repeats = [], dict.fromkeys((variant for variant, *_ in trials), 0)
    for number, (variant, backbone, value, status) in enumerate(trials):
        config = config_of(backbone, seeds)
        made = make_record(number, [value], status, variant=variant, repeat=repeats[variant], config=config)
        repeats[variant] += 1
        records.append(write(run, made))
    return records


# --- what is known of a trial


@pytest.mark.parametrize("status", ["running", "finished", "stopped", "failed"])
def test_a_trial_is_read_as_it_was_written(run: Run, status: Status) -> None:
    config = config_of("EfficientNetB3").model_copy(update={"seed": 9})
    changes = {"model.backbone": "EfficientNetB3", "model.bn_momentum": None, "train.learning_rate": 1e-3}
    trial = Trial("004", 2, 1, changes, config)
    write_trial(run, trial, status, "a reason")
    record = read_trial(run, "004")
    assert (record.trial, record.status, record.reason) == (trial, status, "a reason")
    assert (record.history, record.probabilities, record.attempts, record.held_seconds) == ((), None, 0, 0.0)


def test_a_trial_has_its_epochs_answers_and_times(run: Run) -> None:
    history = make_history([0.5, math.nan, 0.4])
    write(run, make_record(0, [0.5, math.nan, 0.4]))
    home = trial_run(run, "000")
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    home.write_bytes(checkpoints.pack({"probabilities": probabilities}), *VAL_PROBABILITIES)
    Clock(attempts=2, held_seconds=12.5).write(home)
    record = read_trial(run, "000")
    assert repr(record.history) == repr(history)  # NaN is not equal to itself
    assert record.probabilities is not None
    assert record.probabilities.tolist() == probabilities.tolist()
    assert (record.attempts, record.held_seconds) == (2, 12.5)
    assert read_trial(run, "000", val_probabilities=False).probabilities is None


def test_a_trial_that_has_ended_by_itself_is_finished_before_the_sweep_notes_it(run: Run) -> None:
    for status, expected in (("running", "finished"), ("stopped", "stopped"), ("failed", "failed")):
        write(run, make_record(0, [0.5], status))  # type: ignore[arg-type]
        trial_run(run, "000").write_json({}, *RESULT)
        assert read_trial(run, "000").status == expected


@pytest.mark.parametrize(
    ("train", "sweep", "devices", "device"),
    [
        ({"cpus_per_worker": 0.5}, {}, 0.5, "CPU"),
        ({"cpus_per_worker": 2.0, "num_workers": (1, 3)}, {}, 6.0, "CPU"),
        ({"use_gpu": True}, {}, 1.0, "GPU"),
        ({"use_gpu": True}, {"trials_per_gpu": 4}, 0.25, "GPU"),
        ({"use_gpu": True, "num_workers": 3}, {"trials_per_gpu": 4}, 3.0, "GPU"),
    ],
)
def test_a_trial_holds_the_devices_of_its_workers(
    run: Run, train: dict[str, Any], sweep: dict[str, Any], devices: float, device: str
) -> None:
    config = config_of(**sweep)
    config = config.model_copy(update={"train": config.train.model_copy(update=train)})
    write(run, make_record(0, [0.5], config=config))
    record = read_trial(run, "000")
    assert (record.devices, record.device) == (devices, device)


def test_trials_are_read_in_the_order_of_their_ids(run: Run) -> None:
    assert read_trials(run) == []
    for number in (2, 10, 0):
        write(run, make_record(number, [0.5]))
    trial_run(run, "probe").write_bytes(b"x", "file")  # no trial
    assert [record.trial.id for record in read_trials(run)] == ["000", "002", "010"]


def test_rungs_are_read_as_they_were_written(run: Run) -> None:
    rungs = [Rung(1, (Reached("001", 0.5, True), Reached("000", 0.25, False))), Rung(3, ())]
    write_rungs(run, rungs)
    assert [from_json(Rung, rung) for rung in run.read_json(*RUNGS)["rungs"]] == rungs


def test_a_rung_keeps_a_trial_that_never_had_a_finite_value(run: Run) -> None:
    write_rungs(run, [Rung(1, (Reached("000", math.inf, True),))])
    (stored,) = run.read_json(*RUNGS)["rungs"]
    assert stored["reached"] == [{"trial": "000", "value": None, "stopped": True}]
    assert math.isnan(from_json(Rung, stored).reached[0].value)


def test_a_clock_goes_on_from_what_was_written(run: Run) -> None:
    home = trial_run(run, "000")
    assert Clock.read(home) == Clock(0, 0.0, ())
    for attempt in (1, 2, 3):
        before = Clock.read(home)
        assert before.attempts == attempt - 1
        seconds = (*before.first_step_seconds, 1.5 * attempt)
        Clock(before.attempts + 1, before.held_seconds + 10.0, seconds).write(home)
    assert Clock.read(home) == Clock(3, 30.0, (1.5, 3.0, 4.5))


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([0.5, 0.3, 0.4], 0.3),
        ([math.nan, 0.4], 0.4),
        ([-math.inf, 0.4], 0.4),
        ([math.nan], math.inf),
        ([], math.inf),
    ],
)
def test_the_best_value_is_the_lowest_finite_one(values: list[float], best: float) -> None:
    history = make_history(values)
    assert best_value(history, "val_cross_entropy") == best
    assert best_value(history, "val_loss") == best + 1


def with_manifest(run: Run, manifest: dict[str, list[int]]) -> None:
    for name, columns in ((DATASET_MANIFEST, manifest), (VALID, {"image_id": [4, 2, 9], "label": [0, 1, 0]})):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        run.write_bytes(sink.getvalue().to_pybytes(), *name)


def test_a_sweep_has_the_groups_of_its_validation_images(run: Run) -> None:
    write(run, make_record(0, [0.5]))
    write_rungs(run, [])
    with_manifest(run, {"image_id": [2, 4, 9, 1], "cluster": [20, 40, 90, 1], "group": [7, 8, 7, 8]})
    assert read_sweep(run, config_of()).groups.tolist() == [8, 7, 7]
    with_manifest(run, {"image_id": [2, 4, 9, 1], "cluster": [20, 40, 90, 1]})  # of an earlier version
    assert read_sweep(run, config_of()).groups.tolist() == [40, 20, 90]


# --- what is kept


def test_of_ended_trials_checkpoints_and_features_go_and_what_is_told_of_them_stays(run: Run) -> None:
    ends: tuple[Status, ...] = ("finished", "stopped", "failed", "running")
    records = sweep_of(run, *((number, "tiny", 0.5, status) for number, status in enumerate(ends)))
    delete_unneeded(run, records)
    homes = [trial_run(run, record.trial.id) for record in records]
    assert [len(checkpoints.checkpoint_folders(home)) for home in homes] == [0, 0, 0, 2]
    assert [home.exists(*FEATURES) for home in homes] == [False, False, False, True]
    assert kept(run, HISTORY) == [0, 1, 2, 3]
    delete_unneeded(run, records)  # nothing is left to delete
    assert kept(run) == [0]


def test_of_each_model_the_best_variant_keeps_its_weights(run: Run) -> None:
    records = sweep_of(
        run,
        (0, "tiny", 0.5, "finished"),
        (1, "tiny", 0.4, "finished"),
        (2, "EfficientNetB0", 0.9, "finished"),
        (3, "EfficientNetB0", 0.8, "stopped"),
        (4, "tiny", 0.3, "failed"),
    )
    delete_unneeded(run, records)
    assert kept(run) == [1, 2]


def test_a_model_is_told_apart_by_its_size_and_head_too(run: Run) -> None:
    config = config_of()
    other = config.model_copy(update={"model": config.model.model_copy(update={"height": 96})})
    records = [
        write(run, make_record(0, [0.5], config=config)),
        write(run, make_record(1, [0.4], config=other)),
    ]
    delete_unneeded(run, records)
    assert kept(run) == [0, 1]


def test_a_variant_is_as_good_as_the_mean_of_its_trials_and_keeps_them_all(run: Run) -> None:
    records = sweep_of(
        run,
        (0, "tiny", 0.2, "finished"),
        (0, "tiny", 0.9, "finished"),
        (1, "tiny", 0.5, "finished"),
        (1, "tiny", 0.4, "finished"),
        seeds=2,
    )
    delete_unneeded(run, records)
    assert kept(run) == [2, 3]


def test_a_trial_is_as_good_as_the_cross_entropy_of_its_best_epoch(run: Run) -> None:
    records = [write(run, make_record(0, [0.5, 0.3, 0.9])), write(run, make_record(1, [0.6, 0.4, 0.35]))]
    delete_unneeded(run, records)
    assert kept(run) == [0]


def test_a_variant_of_which_a_trial_was_stopped_or_failed_keeps_nothing(run: Run) -> None:
    records = sweep_of(
        run,
        (0, "tiny", 0.1, "finished"),
        (0, "tiny", 0.1, "stopped"),
        (1, "tiny", 0.1, "finished"),
        (1, "tiny", 0.1, "failed"),
        (2, "tiny", 0.6, "finished"),
        (2, "tiny", 0.7, "finished"),
        seeds=2,
    )
    delete_unneeded(run, records)
    assert kept(run) == [4, 5]


def test_variants_that_still_lack_a_trial_keep_what_they_have(run: Run) -> None:
    records = sweep_of(
        run,
        (0, "tiny", 0.5, "finished"),
        (0, "tiny", 0.5, "finished"),
        (0, "tiny", 0.4, "finished"),
        (1, "tiny", 0.9, "finished"),
        (1, "tiny", 0.8, "finished"),
        (1, "tiny", 0.7, "running"),
        (2, "tiny", 0.95, "finished"),
        (2, "tiny", 0.96, "finished"),
        seeds=3,
    )
    delete_unneeded(run, records)
    assert kept(run) == [0, 1, 2, 3, 4, 6, 7]
    running = trial_run(run, "005")
    assert len(checkpoints.checkpoint_folders(running)) == 2


def test_no_more_weights_are_kept_than_have_room(run: Run) -> None:
    values = [0.9, 0.1, 0.3, 0.2, 0.5, 0.4, 0.7, 0.6, 0.8, 0.95]
    trials = [(i, backbone, values[i], "finished") for i, backbone in enumerate(BACKBONES)]
    records = sweep_of(run, *trials)  # type: ignore[arg-type]
    delete_unneeded(run, records)
    assert len(kept(run)) == MOST_KEPT
    assert kept(run) == [1, 2, 3, 4, 5, 6, 7, 8]
