"""Records of trials on the folds of one variant and seed, joined into one."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.folds import Folds
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.tracking.history import EpochRecord
from brain_ray.tuning.trials import Status, TrialRecord

Members = dict[str, tuple[TrialRecord, ...]]


def join_folds(
    trials: Sequence[TrialRecord], folds: Folds, count: int
) -> tuple[tuple[TrialRecord, ...], Members]:
    """Joins the trials of each variant and seed, in the order of their ids.

    Args:
        trials: of a sweep over folds.
        folds: the folds.
        count: number of folds that each variant and seed is trained on.

    Returns:
        A record for each variant and seed, with the id of its first trial; and its trials, by that id.
    """
    joined: list[TrialRecord] = []
    members: Members = {}
    by_seed: dict[tuple[int, int], list[TrialRecord]] = {}
    for one in trials:
        by_seed.setdefault((one.trial.variant, one.trial.config.seed), []).append(one)
    for mine in by_seed.values():
        first = mine[0]
        answers = answers_of(mine)
        pooled = OutOfFold.pool(folds, answers).probabilities if len(answers) == count else None
        members[first.trial.id] = tuple(mine)
        joined.append(
            replace(
                first,
                trial=replace(first.trial, repeat=first.trial.repeat // count),
                status=_status(mine, count),
                history=mean_history([one.history for one in mine]),
                probabilities=pooled,
                reason=next((one.reason for one in mine if one.reason), ""),
                attempts=max(one.attempts for one in mine),
                held_seconds=sum(one.held_seconds for one in mine),
            )
        )
    return tuple(joined), members


def answers_of(trials: Sequence[TrialRecord]) -> dict[int, NDArray[np.float32]]:
    """Returns the probabilities, (images of the fold, classes), of the trials that have some, by fold."""
    return {
        one.trial.config.train.fold: one.probabilities
        for one in trials
        if one.probabilities is not None and one.trial.config.train.fold is not None
    }


def _status(trials: Sequence[TrialRecord], folds: int) -> Status:
    found = {one.status for one in trials}
    for status in ("failed", "stopped", "running"):
        if status in found:
            return status
    return "finished" if len(trials) == folds else "stopped"


def mean_history(histories: Sequence[Sequence[EpochRecord]]) -> tuple[EpochRecord, ...]:
    """Returns the means of the epochs that all have reached, with the seconds added up.

    Marked as best is each epoch with the lowest mean validation cross-entropy so far, and each whose weights
    all folds kept; each fold's own best epoch, whose weights answered its images, may be another.
    """
    means: list[EpochRecord] = []
    lowest = math.inf
    for epochs in zip(*histories, strict=False):
        names = [
            each.name for each in fields(EpochRecord) if isinstance(getattr(epochs[0], each.name), float)
        ]
        values = {name: float(np.mean([getattr(one, name) for one in epochs])) for name in names}
        values["seconds"] = sum(one.seconds for one in epochs)
        value = values["val_cross_entropy"]
        best = value < lowest or all(one.best for one in epochs)
        lowest = min(lowest, value) if math.isfinite(value) else lowest
        means.append(replace(epochs[0], best=best, rolled_back=False, operator="", **values))
    return tuple(means)
