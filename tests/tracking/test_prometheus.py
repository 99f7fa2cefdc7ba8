"""What a run says to Prometheus: each value under its name, none that is not finite, and never a word."""

import math
import subprocess
import sys
from collections.abc import Iterator

import pytest

from brain_ray.tracking import prometheus


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """Values by their name and labels, as `loss run=first split=train`; Ray is given none."""
    values: dict[str, float] = {}

    def give(series: prometheus.Series, value: float) -> None:
        labels = [f"{label}={text}" for label, text in sorted(series[1]) if text]
        values[" ".join([series[0], *labels])] = value

    monkeypatch.setattr(prometheus, "give_to_ray", give)
    monkeypatch.setattr(prometheus, "VALUES", prometheus.Values())
    return values


RECORD = {
    "epoch": 3.0,
    "seconds": 20.0,
    "loss": 0.5,
    "val_loss": 0.6,
    "accuracy": 0.75,
    "val_accuracy": math.nan,
    "learning_rate": 0.001,
    "images_per_second": 40.0,
    "input_wait": 5.0,
    "best": 1.0,
}


def test_an_epoch_is_told_by_its_numbers(said: dict[str, float]) -> None:
    prometheus.epoch("first", RECORD)
    assert said.pop("epoch_timestamp_seconds run=first") > 1.7e9
    assert said == {
        "epoch run=first": 3,
        "epoch_seconds run=first": 20,
        "loss run=first split=train": 0.5,
        "loss run=first split=validation": 0.6,
        "accuracy run=first split=train": 0.75,
        "learning_rate run=first": 0.001,
        "images_per_second run=first": 40,
        "input_wait run=first": 0.25,
    }


def test_a_stage_is_1_while_it_runs_and_0_when_it_has_failed(said: dict[str, float]) -> None:
    def fail() -> None:
        with prometheus.stage("first", "train"):
            assert said == {"stage run=first stage=train": 1}
            raise ValueError("disk")

    with pytest.raises(ValueError, match="disk"):
        fail()
    assert said["stage run=first stage=train"] == 0
    assert said["stage_seconds run=first stage=train"] > 0


def test_trials_are_counted_by_status_also_where_there_is_none(said: dict[str, float]) -> None:
    prometheus.trials("first", {"running": 2, "failed": 1})
    assert said == {
        f"trials run=first status={status}": {"running": 2, "failed": 1}.get(status, 0)
        for status in prometheus.STATUSES
    }


def test_images_are_counted_by_split(said: dict[str, float]) -> None:
    prometheus.prepared("first", {"train": 40, "dropped": 2})
    assert said == {
        "prepared_images run=first split=train": 40,
        "prepared_images run=first split=dropped": 2,
    }


def test_values_are_given_again_until_their_trial_ends(said: dict[str, float]) -> None:
    """Ray forgets a gauge that it has sent."""
    prometheus.epoch("first", RECORD, "001")
    prometheus.epoch("first", RECORD, "002")
    prometheus.end_trial("first", "001")
    said.clear()
    prometheus.VALUES.give()
    assert said["loss run=first split=train trial=002"] == 0.5
    assert not any("trial=001" in name for name in said)


def test_all_that_is_told_of_an_epoch_has_a_gauge_with_its_labels(said: dict[str, float]) -> None:
    for gauge in prometheus.FIELDS.values():
        text, labels = prometheus.GAUGES[gauge.name]
        assert text == gauge.text
        assert labels == (*prometheus.TRAINING, *(["split"] if gauge.split else []))


def test_without_ray_nothing_is_said_and_nothing_fails() -> None:
    code = (
        "from brain_ray.tracking import prometheus\n"
        "prometheus.epoch('first', {'epoch': 1.0, 'loss': 0.5})\n"
        "with prometheus.stage('first', 'train'): pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
