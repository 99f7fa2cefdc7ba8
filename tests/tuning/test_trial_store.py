"""A trial's folder tells what is known of it, and keeps no more than can still be of use."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.ended_trials import config_of, write
from support.trial_records import make_history, make_record

from brain_ray.records import from_json
from brain_ray.runs import DATASET_MANIFEST, RESULT, RUNGS, VAL_PROBABILITIES, Run
from brain_ray.training import checkpoints
from brain_ray.tuning.trial_store import (
    Clock,
    best_value,
    read_sweep,
    read_trial,
    read_trials,
    trial_run,
    write_rungs,
    write_trial,
)
from brain_ray.tuning.trials import Reached, Rung, Status, Trial

VALID = ("dataset", "valid", "00000.parquet")
BACKBONES = (*(f"EfficientNetB{number}" for number in range(8)), "EfficientNetV2S", "tiny")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path), "run")


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
