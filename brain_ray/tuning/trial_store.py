"""Storage of trials: each is a run of its own in the sweep's folder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from brain_ray.config import Config
from brain_ray.data.dataset import read_groups, read_labels
from brain_ray.data.folds import read_folds
from brain_ray.earlier import as_stored
from brain_ray.records import from_json, to_json
from brain_ray.runs import BEST, RESULT, RUNGS, TRIALS, Run
from brain_ray.tracking.history import EpochRecord, read_history
from brain_ray.training import checkpoints
from brain_ray.training.features import drop_features
from brain_ray.training.results import read_val_probabilities
from brain_ray.tuning.fold_records import join_folds
from brain_ray.tuning.trials import Rung, Status, SweepRecord, Trial, TrialRecord

TRIAL, CLOCK = "trial.json", "clock.json"

MOST_KEPT = 8
"""Limit on the kept weights of a sweep, in sizes of the largest variant's: as much as two checkpoints of each
of its trials take, which hold the weights four times."""


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
    rungs = tuple(from_json(Rung, rung) for rung in stored)
    trials = tuple(read_trials(run))
    if config.folds is None:
        labels, groups = read_labels(run, "valid"), read_groups(run, "valid")
        return SweepRecord(config, trials, labels, groups, rungs)
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


def delete_unneeded(run: Run, records: Sequence[TrialRecord]) -> None:
    """Deletes checkpoints and features of ended trials, and weights that cannot be chosen.

    A variant of which a trial was stopped or failed cannot be chosen. For each `Trial.model`, the weights of
    the best variant are kept among the variants whose trials have all finished, and those of each of the
    others: of all its seeds and folds, which a bundle may average. If these exceed `MOST_KEPT` variants, the
    worst are deleted.
    """
    ranked = [trial for trial in _worth_keeping(records) if trial_run(run, trial).exists(*BEST)]
    sizes = [run.fs.get_file_info(trial_run(run, trial).path(*BEST)).size for trial in ranked]
    room = MOST_KEPT * _count_trials(records) * max(sizes, default=0)
    kept = {trial for trial, total in zip(ranked, accumulate(sizes), strict=True) if total <= room}
    for record in records:
        home = trial_run(run, record.trial.id)
        if record.status == "running":
            continue
        checkpoints.prune(home, 0)
        drop_features(home)
        if record.trial.id not in kept and home.exists(*BEST):
            home.fs.delete_file(home.path(*BEST))


def _worth_keeping(records: Sequence[TrialRecord]) -> list[str]:
    """Returns the ids of the trials that may be chosen, the best first."""
    values = {record.trial.id: _cross_entropy(record) for record in records}
    by_variant: dict[int, list[TrialRecord]] = {}
    for record in records:
        by_variant.setdefault(record.trial.variant, []).append(record)
    complete: dict[str, list[tuple[float, list[str]]]] = {}
    kept: list[tuple[float, list[str]]] = []
    for group in by_variant.values():
        finished = [record for record in group if record.status == "finished"]
        if not finished or any(record.status in ("stopped", "failed") for record in group):
            continue
        mean = sum(values[record.trial.id] for record in finished) / len(finished)
        mine = sorted((record.trial.id for record in finished), key=values.__getitem__)
        if len(finished) == _count_trials(records):
            complete.setdefault(finished[0].trial.model, []).append((mean, mine))
        else:
            kept.append((mean, mine))
    kept += [min(found) for found in complete.values()]
    return [trial for _, trials in sorted(kept) for trial in trials]


def _count_trials(records: Sequence[TrialRecord]) -> int:
    """Returns the number of trials of a variant that is complete: one for each seed and fold."""
    folds = {record.trial.config.train.fold for record in records}
    return records[0].trial.config.sweep.seeds * len(folds) if records else 0


def _cross_entropy(record: TrialRecord) -> float:
    best = [epoch.val_cross_entropy for epoch in record.history if epoch.best]
    return best[-1] if best else math.inf
