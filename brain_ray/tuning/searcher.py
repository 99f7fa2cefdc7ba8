"""Ray Tune searcher: resumes interrupted trials first, then proposes new ones."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from ray.tune.search import Searcher

from brain_ray.runs import Run
from brain_ray.tracking.history import read_history
from brain_ray.training.sources import with_absolute_paths
from brain_ray.tuning.optuna_search import OptunaProposer
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.trainable import VALUE
from brain_ray.tuning.trial_store import best_value, trial_run, write_trial
from brain_ray.tuning.trials import Trial, TrialRecord


class TrialSearcher(Searcher):  # type: ignore[misc]
    """Suggests trials to Ray Tune: interrupted ones first, then new ones, in the order of their ids."""

    def __init__(self, run: Run, space: SearchSpace, records: Sequence[TrialRecord]) -> None:
        super().__init__(metric=VALUE, mode="min")
        self._run = run
        self._space = space
        self._groups: list[list[Trial]] = []
        """The trials of each variant."""
        self._queue: list[Trial] = []
        self._handed_out: dict[str, Trial] = {}
        """Suggested trials, by Tune's own id."""
        self._ended = {record.trial.id for record in records if record.status != "running"}
        self._failed = {record.trial.id for record in records if record.status == "failed"}
        for record in records:
            if record.trial.repeat == 0:
                self._groups.append([])
            self._groups[-1].append(record.trial)
        if records:  # the last variant may lack some of its trials
            made = self._make(len(self._groups) - 1, records[-1].trial.changes)
            self._groups[-1] += self._write(made[len(self._groups[-1]) :])
        self._queue += [trial for trial in self.trials if trial.id not in self._ended]
        self.left = space.size - len(self._ended)
        self._proposer: OptunaProposer | None = None
        self._variants: Iterator[dict[str, Any]]
        if space.config.sweep.sampler == "optuna":
            self._proposer = OptunaProposer(space, [(group[0].changes, None) for group in self._groups])
            self._variants = iter(self._proposer.propose, None)
            for group in self._groups:
                self._tell(group)
        else:
            self._variants = islice(space.variants(), len(self._groups), None)

    @property
    def trials(self) -> list[Trial]:
        """All trials so far, in the order of their ids."""
        return [trial for group in self._groups for trial in group]

    def suggest(self, trial_id: str) -> dict[str, str] | str:
        """Suggests the next trial, as {"trial": id}; Tune's FINISHED after the last one."""
        if not self._queue:
            changes = next(self._variants, None)
            if changes is None:
                return str(Searcher.FINISHED)
            self._groups.append(self._write(self._make(len(self._groups), changes)))
            self._queue += self._groups[-1]
        trial = self._queue.pop(0)
        self._handed_out[trial_id] = trial
        return {"trial": trial.id}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Gives the proposer a variant's value when the last of its trials has ended."""
        trial = self._handed_out[trial_id]
        self._ended.add(trial.id)
        if error:
            self._failed.add(trial.id)
        self._tell(self._groups[trial.variant])

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the trials' folders hold the whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: the trials' folders hold the whole state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores its searcher's state, which nobody reads

    def _make(self, variant: int, changes: Mapping[str, Any]) -> list[Trial]:
        made = self._space.make_trials(variant, changes)
        return [replace(trial, config=with_absolute_paths(trial.config)) for trial in made]

    def _write(self, trials: list[Trial]) -> list[Trial]:
        for trial in trials:
            write_trial(self._run, trial, "running")
        return trials

    def _tell(self, group: Sequence[Trial]) -> None:
        """Gives the proposer the mean of a variant's trials that did not fail, if all of them have ended."""
        if self._proposer is None or any(trial.id not in self._ended for trial in group):
            return
        monitor = self._space.config.train.monitor
        sound = [trial_run(self._run, trial.id) for trial in group if trial.id not in self._failed]
        values = [best_value(read_history(home), monitor) for home in sound]
        finite = [value for value in values if math.isfinite(value)]
        self._proposer.tell(group[0].variant, sum(finite) / len(finite) if finite else None)
