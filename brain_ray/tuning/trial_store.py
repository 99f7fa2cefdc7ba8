"""Trials on storage: a run for each within the sweep's folder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from brain_ray.config import Config
from brain_ray.data.dataset import read_labels
from brain_ray.records import from_json, to_json
from brain_ray.runs import BEST, RESULT, RUNGS, TRIALS, Run
from brain_ray.tracking.history import EpochRecord, read_history
from brain_ray.training import checkpoints
from brain_ray.training.features import drop_features
from brain_ray.training.results import read_val_probabilities
from brain_ray.tuning.trials import Rung, Status, SweepRecord, Trial, TrialRecord

TRIAL, CLOCK = "trial.json", "clock.json"

MOST_KEPT = 8
"""Times the largest network's weights that are kept of all trials together: as much as its two checkpoints
take, each of which holds the weights four times."""


@dataclass(frozen=True)
class Clock:
    """How long a trial has taken, over all its attempts; kept in clock.json."""

    attempts: int = 0
    held_seconds: float = 0.0
    """For which it held its devices, up to its last report."""
    first_step_seconds: tuple[float, ...] = ()
    """Of each attempt: from the start up to the end of its first training step."""

    def write(self, home: Run) -> None:
        """Write clock.json."""
        home.write_json(to_json(self), CLOCK)

    @classmethod
    def read(cls, home: Run) -> "Clock":
        """Read clock.json; all 0 where there is none."""
        return from_json(cls, home.read_json(CLOCK)) if home.exists(CLOCK) else cls()


def trial_run(run: Run, trial: str) -> Run:
    """Return a trial's own run, by the trial's id."""
    return Run(run.uri(*TRIALS), trial)


def write_trial(run: Run, trial: Trial, status: Status, reason: str = "") -> None:
    """Write trial.json."""
    value = {
        "variant": trial.variant,
        "repeat": trial.repeat,
        "changes": trial.changes,
        "status": status,
        "reason": reason,
        "config": trial.config.model_dump(mode="json"),
    }
    trial_run(run, trial.id).write_json(value, TRIAL)


def read_trials(run: Run, *, answers: bool = True) -> list[TrialRecord]:
    """Return what is known of a sweep's trials, in the order of their ids; `answers` as in `read_trial`."""
    ids = run.list_folders(*TRIALS)
    return [read_trial(run, each, answers=answers) for each in ids if trial_run(run, each).exists(TRIAL)]


def read_trial(run: Run, trial: str, *, answers: bool = True) -> TrialRecord:
    """Return what is known of a trial, by its id; without its probabilities, if no `answers` are wanted."""
    home = trial_run(run, trial)
    value = home.read_json(TRIAL)
    config = Config.model_validate(value["config"])
    clock, settings = Clock.read(home), config.train
    # A trial that has come to its own end says so itself, before the sweep takes note of it.
    ended = value["status"] == "running" and home.exists(*RESULT)
    cpus = settings.max_workers * settings.cpus_per_worker
    gpus = settings.max_workers / (config.sweep.trials_per_gpu if settings.max_workers == 1 else 1)
    return TrialRecord(
        trial=Trial(trial, value["variant"], value["repeat"], value["changes"], config),
        status="finished" if ended else value["status"],
        history=tuple(read_history(home)),
        probabilities=read_val_probabilities(home) if answers else None,
        reason=value["reason"],
        attempts=clock.attempts,
        held_seconds=clock.held_seconds,
        devices=gpus if settings.use_gpu else cpus,
        device="GPU" if settings.use_gpu else "CPU",
    )


def read_sweep(run: Run, config: Config) -> SweepRecord:
    """Return all that a comparison of a sweep's trials is made of; of the test split, nothing is read."""
    rungs = [from_json(Rung, rung) for rung in run.read_json(*RUNGS)["rungs"]]
    return SweepRecord(config, tuple(read_trials(run)), read_labels(run, "valid"), tuple(rungs))


def write_rungs(run: Run, rungs: Sequence[Rung]) -> None:
    """Write rungs.json."""
    run.write_json(to_json({"rungs": rungs}), *RUNGS)


def best_value(history: Sequence[EpochRecord], monitor: str) -> float:
    """Return the lowest finite value of what is monitored; infinity if there is none."""
    values = [float(getattr(record, monitor)) for record in history]
    return min((value for value in values if math.isfinite(value)), default=math.inf)


def delete_unneeded(run: Run, records: Sequence[TrialRecord]) -> None:
    """Delete what ended trials have no more use for: checkpoints, features, and weights that cannot win.

    For each `Trial.model`, the weights stay of the best variant whose trials have all ended, and of those
    that still lack one: of the best trial of each. If that is more than `MOST_KEPT` says, the worst go.
    """
    ranked = [trial for trial in _worth_keeping(records) if trial_run(run, trial).exists(*BEST)]
    sizes = [run.fs.get_file_info(trial_run(run, trial).path(*BEST)).size for trial in ranked]
    room = MOST_KEPT * max(sizes, default=0)
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
    """Return the ids of the trials that may win, the best one first."""
    values = {record.trial.id: _cross_entropy(record) for record in records}
    by_variant: dict[int, list[TrialRecord]] = {}
    for record in records:
        by_variant.setdefault(record.trial.variant, []).append(record)
    complete: dict[str, list[tuple[float, str]]] = {}
    kept: list[tuple[float, str]] = []
    for group in by_variant.values():
        finished = [record for record in group if record.status == "finished"]
        if not finished:
            continue
        best = min(finished, key=lambda record: values[record.trial.id]).trial
        mean = sum(values[record.trial.id] for record in finished) / len(finished)
        if len(group) == best.config.sweep.seeds and all(record.status != "running" for record in group):
            complete.setdefault(best.model, []).append((mean, best.id))
        else:
            kept.append((mean, best.id))
    kept += [min(found) for found in complete.values()]
    return [trial for _, trial in sorted(kept)]


def _cross_entropy(record: TrialRecord) -> float:
    best = [epoch.val_cross_entropy for epoch in record.history if epoch.best]
    return best[-1] if best else math.inf
