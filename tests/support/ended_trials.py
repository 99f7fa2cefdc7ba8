"""Trials of a sweep that have ended, with all files that one may have left behind."""

from typing import Any

from support.trial_records import sweep_config

from brain_ray.config import Config
from brain_ray.runs import BEST, FEATURES, HISTORY, Run
from brain_ray.tracking.history import to_csv
from brain_ray.tuning.trial_store import trial_run, write_trial
from brain_ray.tuning.trials import TrialRecord


def config_of(backbone: str = "tiny", seeds: int = 1, **sweep: Any) -> Config:
    """Settings of a sweep of a backbone."""
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
