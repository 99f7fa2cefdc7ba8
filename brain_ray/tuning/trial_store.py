"""Storage of trials: each is a run of its own in the sweep's folder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from brain_ray.config import Config
from brain_ray.data.dataset import read_groups, read_labels
from brain_ray.data.folds import read_folds
from brain_ray.earlier import as_stored
from brain_ray.records import from_json, to_json
from brain_ray.runs import RESULT, RUNGS, TRIALS, Run
from brain_ray.tracking.history import EpochRecord, read_history
from brain_ray.training.results import read_val_probabilities
from brain_ray.tuning.fold_records import join_folds
from brain_ray.tuning.trials import Rung, Status, SweepRecord, Trial, TrialRecord

TRIAL, CLOCK = "trial.json", "clock.json"


@dataclass(frozen=True)
class Clock:
    """Time that a trial has taken, over all its attempts; stored in clock.json."""

    attempts: int = 0
    held_seconds: float = 0.0
    """Seconds the trial occupied its devices, up to its last report."""
    first_step_seconds: tuple[float, ...] = ()
    """Seconds of each attempt from its start to the end of its first training step."""

    def write(self, home: Run) -> None:
        """Writes clock.json into the trial's run."""
        home.write_json(to_json(self), CLOCK)

    @classmethod
    def read(cls, home: Run) -> "Clock":
        """Reads clock.json of a trial's run; zeros if there is none."""
        return from_json(cls, home.read_json(CLOCK)) if home.exists(CLOCK) else cls()


def trial_run(run: Run, trial: str) -> Run:
    """Returns the run of a trial, by the trial's id; it is of the sweep's kind."""
    return replace(run, storage=run.uri(*TRIALS), name=trial)


def write_trial(run: Run, trial: Trial, status: Status, reason: str = "") -> None:
    """Writes trial.json into the trial's run."""
    value = {
        "variant": trial.variant,
        "repeat": trial.repeat,
        "changes": trial.changes,
        "status": status,
        "reason": reason,
        "config": trial.config.model_dump(mode="json"),
    }
    trial_run(run, trial.id).write_json(value, TRIAL)


def read_trials(run: Run, *, val_probabilities: bool = True) -> list[TrialRecord]:
    """Reads the records of a sweep's trials in the order of their ids, if wanted with `val_probabilities`."""
    ids = run.list_folders(*TRIALS)
    return [
        read_trial(run, each, val_probabilities=val_probabilities)
        for each in ids
        if trial_run(run, each).exists(TRIAL)
    ]


def read_trial(run: Run, trial: str, *, val_probabilities: bool = True) -> TrialRecord:
    """Reads the record of a trial, by its id; `val_probabilities`: with those of the validation rows."""
    home = trial_run(run, trial)
    value = home.read_json(TRIAL)
    config = as_stored(value["config"])  # a trial of an earlier version goes on as it began
    clock, settings = Clock.read(home), config.train
    # A trial that has ended writes a result itself, before the sweep records its status.
    ended = value["status"] == "running" and home.exists(*RESULT)
    cpus = settings.max_workers * settings.cpus_per_worker
    gpus = settings.max_workers / (config.sweep.trials_per_gpu if settings.max_workers == 1 else 1)
    return TrialRecord(
        trial=Trial(trial, value["variant"], value["repeat"], value["changes"], config),
        status="finished" if ended else value["status"],
        history=tuple(read_history(home)),
        probabilities=read_val_probabilities(home) if val_probabilities else None,
        reason=value["reason"],
        attempts=clock.attempts,
        held_seconds=clock.held_seconds,
        devices=gpus if settings.use_gpu else cpus,
        device="GPU" if settings.use_gpu else "CPU",
    )


def read_sweep(run: Run, config: Config) -> SweepRecord:
    """Reads the record of a sweep, for the comparison of its trials; reads no rows of the test split. Of one
    that is not finished, it has the trials so far and no rungs.

    Trials on the folds of one variant and seed become one record, whose probabilities are those of all folds.
    """
    stored = run.read_json(*RUNGS)["rungs"] if run.exists(*RUNGS) else ()
    return make_record(run, config, read_trials(run), tuple(from_json(Rung, rung) for rung in stored))


def make_record(
    run: Run, config: Config, trials: Sequence[TrialRecord], rungs: tuple[Rung, ...] = ()
) -> SweepRecord:
    """Returns the record of some of a sweep's trials, with the labels and groups of what they answered."""
    if config.folds is None:
        labels, groups = read_labels(run, "valid"), read_groups(run, "valid")
        return SweepRecord(config, tuple(trials), labels, groups, rungs)
    folds = read_folds(run, config)
    numbers = folds.left_out_by(config)
    records, members = join_folds(trials, folds, len(numbers))
    answered = np.isin(folds.fold, numbers) & folds.original
    labels, groups = folds.label[answered], folds.group[answered]
    return SweepRecord(config, records, labels, groups, rungs, members, folds)


def write_rungs(run: Run, rungs: Sequence[Rung]) -> None:
    """Writes rungs.json."""
    run.write_json(to_json({"rungs": rungs}), *RUNGS)


def best_value(history: Sequence[EpochRecord], monitor: str) -> float:
    """Returns the lowest finite value of the monitored quantity; infinity if there is none."""
    values = [float(getattr(record, monitor)) for record in history]
    return min((value for value in values if math.isfinite(value)), default=math.inf)
