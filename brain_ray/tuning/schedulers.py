"""Ray Tune's schedulers (ASHA, median) with a memory of trials before a restart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from brain_ray.config import Config
from brain_ray.tuning.trainable import EPOCH, VALUE
from brain_ray.tuning.trial_store import best_value
from brain_ray.tuning.trials import Reached, Rung, TrialRecord

WORST = 1e30
"""What ASHA takes a trial without a finite value for: between infinities no limit can be worked out."""


@dataclass(frozen=True, eq=False)  # the rule of the median keeps trials as keys
class _Past:
    """Stands in for a trial that has ended before this process began."""

    trial_id: str
    config: Mapping[str, str]


class _Remembering:
    """Gives a scheduler the reports of trials from before a restart, which Ray Tune does not store."""

    def remember(self, records: Sequence[TrialRecord]) -> None:
        """Take what is known of the sweep's trials; to be called before the sweep starts."""
        self.reasons = {record.trial.id: record.reason for record in records if record.status == "stopped"}
        self.names: dict[str, str] = {}
        self._past = {record.trial.id: _reports(record) for record in records}
        for record in records:
            if record.status != "running":
                self.on_trial_add(None, _Past(record.trial.id, {"trial": record.trial.id}))

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Take a trial, and what it has reported before."""
        name = trial.config["trial"]
        self.names[trial.trial_id] = name
        for report in self._past.pop(name, []):
            super().on_trial_add(controller, trial)  # type: ignore[misc]
            self.on_trial_complete(controller, trial, report)  # type: ignore[attr-defined]
        super().on_trial_add(controller, trial)  # type: ignore[misc]

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide on a trial."""
        reason = self._reason(trial, result)
        decision: str = super().on_trial_result(controller, trial, result)  # type: ignore[misc]
        if decision == TrialScheduler.STOP:
            self.reasons[trial.config["trial"]] = reason
        return decision

    def _reason(self, trial: Any, result: Mapping[str, Any]) -> str:
        return f"epoch {result[EPOCH]}: {result[VALUE]:.4f} is worse than the median of the trials before it"

    def rungs(self) -> list[Rung]:
        """Return which trials came to which rung."""
        return []


class Asha(_Remembering, ASHAScheduler):  # type: ignore[misc]
    """Asynchronous successive halving."""

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide on a trial."""
        return super().on_trial_result(controller, trial, _bounded(result))

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Take the last report of a trial."""
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
        """Return which trials came to which rung, from the lowest rung up."""
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
    """Stops nothing."""


Scheduler = Asha | Median | Fifo


def make_scheduler(config: Config) -> Scheduler:
    """Return the scheduler that the settings name."""
    settings = config.sweep
    what: dict[str, Any] = {"time_attr": EPOCH, "metric": VALUE, "mode": "min"}
    match settings.scheduler:
        case "asha":
            most = max(config.train.total_epochs, settings.grace_epochs)
            return Asha(
                **what,
                max_t=most,
                grace_period=settings.grace_epochs,
                reduction_factor=settings.reduction_factor,
                stop_last_trials=False,
            )
        case "median":
            # Nor does it make a trial wait for others: its process would have to start anew.
            return Median(
                **what, grace_period=settings.grace_epochs, min_samples_required=2, min_time_slice=math.inf
            )
        case "none":
            return Fifo()


def _bounded(result: dict[str, Any]) -> dict[str, Any]:
    return {**result, VALUE: min(result[VALUE], WORST)}


def _reports(record: TrialRecord) -> list[dict[str, Any]]:
    monitor = record.trial.config.train.monitor
    bests = accumulate((best_value([epoch], monitor) for epoch in record.history), min)
    return [{EPOCH: each.epoch, VALUE: best} for each, best in zip(record.history, bests, strict=True)]
