"""Ray Tune searcher: interrupted trials first, then repeats of what has finished, then new variants."""

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
from brain_ray.tuning.trial_store import best_value, read_trial, trial_run, write_trial
from brain_ray.tuning.trials import Trial, TrialRecord


class TrialSearcher(Searcher):  # type: ignore[misc]
    """Suggests trials to Ray Tune: interrupted ones first, then new ones.

    Of each new variant the first trial comes alone. If it trains to its end, the variant's other trials
    (seeds and folds) come next; if it is stopped or fails, they are never made, since a mean of some of a
    variant's repeats could not be compared with others' means. The trials of a single variant, which
    competes with no other, come together.
    """

    def __init__(self, run: Run, space: SearchSpace, records: Sequence[TrialRecord]) -> None:
        super().__init__(metric=VALUE, mode="min")
        self._run = run
        self._space = space
        self._groups: list[list[Trial]] = []
        """The trials of each variant that were made."""
        self._queue: list[Trial] = []
        self._handed_out: dict[str, Trial] = {}
        """Suggested trials, by Tune's own id."""
        self._ended = {record.trial.id for record in records if record.status != "running"}
        self._failed = {record.trial.id for record in records if record.status == "failed"}
        self._finished = {record.trial.id for record in records if record.status == "finished"}
        for record in records:
            if record.trial.repeat == 0:
                self._groups.append([])
            self._groups[-1].append(record.trial)
        for group in self._groups:
            self._settle(group)
        self._queue = [trial for trial in self.trials if self._may_run(trial)]
        self.left = self.total - len(self._ended)
        self._proposer: OptunaProposer | None = None
        self._variants: Iterator[dict[str, Any]]
        if space.config.sweep.sampler == "optuna":
            self._proposer = OptunaProposer(space, [(group[0].changes, None) for group in self._groups])
            proposals = iter(self._proposer.propose, None)
            self._variants = islice(proposals, max(0, space.config.sweep.num_samples - len(self._groups)))
            for group in self._groups:
                self._tell(group)
        else:
            self._variants = islice(space.variants(), len(self._groups), None)

    @property
    def trials(self) -> list[Trial]:
        """All trials so far, in the order of their ids."""
        return [trial for group in self._groups for trial in group]

    @property
    def total(self) -> int:
        """Number of trials of the sweep, less those that will not be made."""
        lost = [group for group in self._groups if self._is_lost(group)]
        return self._space.size - sum(self._space.repeats - len(group) for group in lost)

    @property
    def may_end_early(self) -> bool:
        """Whether some trials are only made if a variant's first one has finished."""
        return self._space.competes and self._space.repeats > 1

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Suggests the next trial, as {"trial": id, "repeat": number}; None: later; Tune's FINISHED after the
        last one."""
        if not self._queue:
            changes = next(self._variants, None)
            if changes is not None:
                made = self._make(len(self._groups), changes)
                self._groups.append(self._write(made[:1] if self._space.competes else made))
                self._queue += self._groups[-1]
            elif len(self._ended) < self.total:
                return None  # trials that run decide whether more are to come
            else:
                return str(Searcher.FINISHED)
        trial = self._queue.pop(0)
        self._handed_out[trial_id] = trial
        return {"trial": trial.id, "repeat": trial.repeat}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Makes the other trials of a variant whose first one has finished; gives the proposer a variant's
        value when the last of its trials has ended."""
        trial = self._handed_out[trial_id]
        self._ended.add(trial.id)
        status = read_trial(self._run, trial.id, val_probabilities=False).status
        if error or status == "failed":
            self._failed.add(trial.id)
        elif status == "finished":  # else the scheduler has stopped it
            self._finished.add(trial.id)
        group = self._groups[trial.variant]
        if trial.repeat == 0 and self._space.competes:
            self._settle(group)
            self._queue += [one for one in group[1:] if self._may_run(one)]
        self._tell(group)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the trials' folders hold the whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: the trials' folders hold the whole state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores its searcher's state, which nobody reads

    def _make(self, variant: int, changes: Mapping[str, Any]) -> list[Trial]:
        made = self._space.make_trials(variant, changes)
        return [replace(trial, config=with_absolute_paths(trial.config)) for trial in made]

    def _is_lost(self, group: Sequence[Trial]) -> bool:
        """Returns whether a variant's first trial was stopped or failed, so that the others are not made."""
        return self._space.competes and group[0].id in self._ended - self._finished

    def _may_run(self, trial: Trial) -> bool:
        first = self._groups[trial.variant][0]
        alone = trial.repeat == 0 or not self._space.competes
        return trial.id not in self._ended and (alone or first.id in self._finished)

    def _settle(self, group: list[Trial]) -> None:
        """Makes the other trials of a variant whose first one has finished; ends those that an earlier
        version made of a variant whose first one was stopped or failed."""
        if group[0].id in self._finished or not self._space.competes:
            made = self._make(group[0].variant, group[0].changes)
            group += self._write(made[len(group) :])
        elif self._is_lost(group):
            for trial in group[1:]:
                if trial.id not in self._ended:
                    reason = f"trial {group[0].id}, the variant's first, did not finish"
                    write_trial(self._run, trial, "stopped", reason)
                    self._ended.add(trial.id)

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
