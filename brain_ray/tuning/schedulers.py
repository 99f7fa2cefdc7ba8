"""Ray Tune schedulers (ASHA, median) that judge variants, and also know the trials from before a restart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.trainable import EPOCH, VALUE
from brain_ray.tuning.trial_store import best_value
from brain_ray.tuning.trials import Reached, Rung, TrialRecord

WORST = 1e30
"""Value, for ASHA, of a trial without a finite one: between infinities it cannot compute a cutoff."""


@dataclass(frozen=True, eq=False)  # hashable: the median rule keeps trials as keys
class _Past:
    """A trial that ended before this process started, for Ray Tune's schedulers."""

    trial_id: str
    config: Mapping[str, Any]


class _Remembering:
    """Mixin: shows a scheduler the first trial of each variant alone, and its reports from before a restart.

    The other repeats of a variant are never stopped: stopping the weaker ones would leave a mean of
    survivors. Ray Tune does not store the reports.
    """

    def remember(self, records: Sequence[TrialRecord]) -> None:
        """Takes the records of the sweep's trials; to be called before the sweep starts."""
        self.reasons = {record.trial.id: record.reason for record in records if record.status == "stopped"}
        self.names: dict[str, str] = {}
        first = [record for record in records if record.trial.repeat == 0]
        self._past = {record.trial.id: _reports(record) for record in first}
        for record in first:
            if record.status != "running":
                self.on_trial_add(None, _Past(record.trial.id, {"trial": record.trial.id, "repeat": 0}))

    def give_up(self, trial: Any) -> None:
        """Ends a trial that failed, and that Ray Tune is about to try again."""
        self._controller.stop_trial(trial)

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Adds a trial, with its reports from before a restart."""
        self._controller = controller
        if trial.config["repeat"]:
            return
        name = trial.config["trial"]
        self.names[trial.trial_id] = name
        for report in self._past.pop(name, []):
            super().on_trial_add(controller, trial)  # type: ignore[misc]
            self.on_trial_complete(controller, trial, report)
        super().on_trial_add(controller, trial)  # type: ignore[misc]

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Returns the decision on a trial: Ray Tune's CONTINUE or STOP."""
        if trial.config["repeat"]:
            return str(TrialScheduler.CONTINUE)
        reason = self._reason(trial, result)
        decision: str = super().on_trial_result(controller, trial, result)  # type: ignore[misc]
        if decision == TrialScheduler.STOP:
            self.reasons[trial.config["trial"]] = reason
        return decision

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Takes the last report of a trial."""
        if not trial.config["repeat"]:
            super().on_trial_complete(controller, trial, result)  # type: ignore[misc]

    def on_trial_remove(self, controller: Any, trial: Any) -> None:
        """Forgets a trial that has not started."""
        if not trial.config["repeat"]:
            super().on_trial_remove(controller, trial)  # type: ignore[misc]

    def _reason(self, trial: Any, result: Mapping[str, Any]) -> str:
        return f"epoch {result[EPOCH]}: {result[VALUE]:.4f} is worse than the median of the trials before it"

    def rungs(self) -> list[Rung]:
        """Returns the rungs and the trials that reached them; none without ASHA."""
        return []


class Asha(_Remembering, ASHAScheduler):  # type: ignore[misc]
    """Asynchronous successive halving."""

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Returns the decision on a trial, after replacing a value that is not finite by `WORST`."""
        return super().on_trial_result(controller, trial, _bounded(result))

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Takes the last report of a trial."""
        super().on_trial_complete(controller, trial, _bounded(result))

    def _reason(self, trial: Any, result: Mapping[str, Any]) -> str:
        if result[VALUE] == WORST:
            return f"epoch {result[EPOCH]}: no finite value so far"
        for epoch, recorded in self._brackets[0]._rungs:
            if result[EPOCH] >= epoch and trial.trial_id not in recorded:
                cutoff = self._brackets[0].cutoff(recorded)
                rung = math.ceil(epoch)
                limit = "" if cutoff is None else f" is above {-cutoff:.4f}, the limit of rung {rung}"
                return f"epoch {result[EPOCH]}: {result[VALUE]:.4f}{limit}"
        return ""

    def rungs(self) -> list[Rung]:
        """Returns the rungs, from the lowest up, and the trials that reached each."""
        found = []
        last: dict[str, float] = {}
        for epoch, recorded in self._brackets[0]._rungs:  # from the highest one down
            for trial in recorded:
                last.setdefault(trial, epoch)
            found.append((epoch, dict(recorded)))
        return [
            Rung(
                math.ceil(epoch),
                tuple(
                    Reached(
                        self.names[trial],
                        -value if -value < WORST else math.inf,
                        last[trial] == epoch and self.names[trial] in self.reasons,
                    )
                    for trial, value in recorded.items()
                ),
            )
            for epoch, recorded in reversed(found)
            if recorded
        ]


class Median(_Remembering, MedianStoppingRule):  # type: ignore[misc]
    """Stops a trial whose best value is worse than the median of the others' running means."""


class Fifo(_Remembering, FIFOScheduler):  # type: ignore[misc]
    """Stops no trial."""


Scheduler = Asha | Median | Fifo


def make_scheduler(space: SearchSpace) -> Scheduler:
    """Returns the scheduler that `sweep.scheduler` names."""
    settings, grace = space.config.sweep, space.grace_epochs
    what: dict[str, Any] = {"time_attr": EPOCH, "metric": VALUE, "mode": "min"}
    match settings.scheduler:
        case "asha":
            most = max(space.config.train.total_epochs, grace)
            return Asha(
                **what,
                max_t=most,
                grace_period=grace,
                reduction_factor=settings.reduction_factor,
                stop_last_trials=False,
            )
        case "median":
            # A trial does not wait for others either: its process would have to start anew.
            return Median(**what, grace_period=grace, min_samples_required=2, min_time_slice=math.inf)
        case "none":
            return Fifo()


def _bounded(result: dict[str, Any]) -> dict[str, Any]:
    return {**result, VALUE: min(result[VALUE], WORST)}


def _reports(record: TrialRecord) -> list[dict[str, Any]]:
    monitor = record.trial.config.train.monitor
    bests = accumulate((best_value([epoch], monitor) for epoch in record.history), min)
    return [{EPOCH: each.epoch, VALUE: best} for each, best in zip(record.history, bests, strict=True)]
