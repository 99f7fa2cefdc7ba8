"""Ray Tune callback: logs epochs and records how each trial ended."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ray import tune

from brain_ray.errors import RunError
from brain_ray.logs import log
from brain_ray.runs import Run
from brain_ray.tracking import prometheus
from brain_ray.tracking.history import EpochRecord
from brain_ray.training.failures import naming_storage
from brain_ray.training.tensorflow.devices import NO_GPU
from brain_ray.tuning import search_space
from brain_ray.tuning.failures import Failures, error_of
from brain_ray.tuning.kept_weights import delete_unneeded
from brain_ray.tuning.schedulers import Scheduler
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.searcher import TrialSearcher
from brain_ray.tuning.trainable import LINE, RECORD
from brain_ray.tuning.trial_store import best_value, read_trial, trial_run, write_trial
from brain_ray.tuning.trial_table import Line, TrialStatus, TrialTable
from brain_ray.tuning.trials import Status, Trial, TrialRecord


class Reporter(tune.Callback):  # type: ignore[misc]
    """Logs epochs and ends of trials, shows them as a table on a terminal, and records how each trial
    ended."""

    def __init__(
        self,
        run: Run,
        space: SearchSpace,
        searcher: TrialSearcher,
        records: Sequence[TrialRecord],
        scheduler: Scheduler,
        table: TrialTable | None,
    ) -> None:
        self._run, self._space = run, space
        self._searcher = searcher
        self._records = {record.trial.id: record for record in records}
        self._scheduler = scheduler
        self._failures = Failures(space.config)
        self._table = table
        self._started = self._drawn = time.monotonic()
        self._retried: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """Notes when a trial starts."""
        self._failures.hear(trial.config["trial"])

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Logs a finished epoch and adds it to the trial's history."""
        self._failures.hear(trial.config["trial"])
        if result[LINE]:
            log.info(f"{self._name(trial)}  {result[LINE]}")
        before = self._known(trial)
        record = EpochRecord.from_json(result[RECORD])
        # Epochs that are trained again, after a failed attempt, replace the old ones.
        history = (*(epoch for epoch in before.history if epoch.epoch < record.epoch), record)
        self._records[before.trial.id] = replace(before, history=history)
        prometheus.epoch(self._run.name, record.metrics(), before.trial.id)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """Logs that a trial failed, and is tried again or given up.

        Raises:
            RunError: there is no GPU for it to use.
        """
        name = trial.config["trial"]
        failure = self._failures.count(name, error_of(trial))
        if failure.reason.startswith(NO_GPU):  # other trials would fail in the same way
            raise RunError(failure.reason)
        if failure.final:
            self._give_up(trial, failure.reason)
            self._scheduler.give_up(trial)
        else:
            self._retried.add(name)
            log.info(f"{self._name(trial)}  failed, is tried again: {failure.reason}")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """Records that a trial is given up which Ray Tune does not try again: its process was lost before it
        began."""
        self._give_up(trial, self._failures.count(trial.config["trial"], error_of(trial)).reason)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """Records that a trial finished or was stopped."""
        status = self._read(trial).status
        if status == "failed":  # given up just now
            return
        if status == "finished":
            self._end(trial, "finished", "")
            return
        reason = self._scheduler.reasons[trial.config["trial"]]
        log.info(f"{self._name(trial)}  stopped: {reason}")
        self._end(trial, "stopped", reason)

    def on_step_end(self, iteration: int, trials: Any, **_: Any) -> None:
        """Counts the trials and draws the table, once a second."""
        if time.monotonic() > self._drawn + 1:
            self._show(trials)

    def on_experiment_end(self, trials: Any, **_: Any) -> None:
        """Counts the trials when all have ended."""
        self._show(trials)

    def _show(self, trials: Any) -> None:
        self._drawn = time.monotonic()
        running = {trial.config["trial"] for trial in trials if trial.status == "RUNNING"}
        lines = [self._line(trial, trial.id in running) for trial in self._searcher.trials]
        prometheus.trials(self._run.name, Counter(line.status for line in lines))
        if self._table is not None:
            self._table.show(lines, time.monotonic() - self._started, self._searcher.total)

    def _give_up(self, trial: Any, reason: str) -> None:
        log.info(f"{self._name(trial)}  failed, is given up: {reason}")
        self._end(trial, "failed", reason)

    def _end(self, trial: Any, status: Status, reason: str) -> None:
        name = trial.config["trial"]
        prometheus.end_trial(self._run.name, name)
        with naming_storage(trial_run(self._run, name).uri()):
            write_trial(self._run, self._records[name].trial, status, reason)
            self._read(trial)
            delete_unneeded(self._run, self._space, list(self._records.values()))

    def _known(self, trial: Any) -> TrialRecord:
        return self._records.get(trial.config["trial"]) or self._read(trial)

    def _read(self, trial: Any) -> TrialRecord:
        name = trial.config["trial"]
        self._records[name] = read_trial(self._run, name, val_probabilities=False)
        return self._records[name]

    def _name(self, trial: Any) -> str:
        found = self._known(trial).trial
        return f"{found.id} {label(found)}"

    def _line(self, trial: Trial, running: bool) -> Line:
        record = self._records.get(trial.id)
        history = record.history if record else ()
        status: TrialStatus = record.status if record and record.status != "running" else "waiting"
        if running:
            status = "retried" if trial.id in self._retried else "running"
        best = best_value(history, trial.config.train.monitor)
        epochs, last = trial.config.train.total_epochs, history[-1] if history else None
        left = (epochs - last.epoch) * last.seconds if last and status in ("running", "retried") else None
        model = trial.config.model
        return Line(
            trial=trial.id,
            backbone=model.backbone,
            size=f"{model.height}x{model.width}",
            changes=short(trial),
            seed=trial.config.seed,
            epoch=last.epoch if last else 0,
            epochs=epochs,
            val_loss=last.val_loss if last else None,
            val_accuracy=last.val_accuracy if last else None,
            best=best if math.isfinite(best) else None,
            learning_rate=last.learning_rate if last else None,
            images_per_second=last.images_per_second if last else None,
            status=status,
            seconds_left=left,
        )


def label(trial: Trial) -> str:
    """Returns a trial's name for people: its model, other changes, and its seed."""
    model = trial.config.model
    what = [f"{model.backbone} {model.height}x{model.width}", short(trial), f"seed {trial.config.seed}"]
    return ", ".join(filter(None, what))


def short(trial: Trial) -> str:
    """Returns a trial's changes, without the model's backbone and size, and its fold, as text."""
    shown = {
        name.partition(".")[2]: f"{value:.3g}" if isinstance(value, float) else str(value).rpartition("/")[2]
        for name, value in trial.changes.items()
        if name not in ("model.backbone", *search_space.SIZE)
    }
    if trial.config.train.fold is not None:
        shown["fold"] = str(trial.config.train.fold)
    return ", ".join(f"{name} {value}" for name, value in shown.items())
