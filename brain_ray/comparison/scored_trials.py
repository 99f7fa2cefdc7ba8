"""Rows of a sweep's trials, and the scores of the variants whose repeats are all complete."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from brain_ray.comparison.cost import Cost
from brain_ray.comparison.results import Row
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.metrics import macro_scores
from brain_ray.tuning.image_scores import ImageScores
from brain_ray.tuning.trials import SweepRecord, TrialRecord


def make_rows(
    record: SweepRecord, scores: Mapping[str, ImageScores], costs: Mapping[str, Cost]
) -> tuple[Row, ...]:
    """Returns the results of each trial."""
    sound = {one.trial.id: _is_complete(one, scores) for one in record.trials}
    by_variant: dict[int, list[bool]] = {}
    for one in record.trials:
        by_variant.setdefault(one.trial.variant, []).append(sound[one.trial.id])
    whole = {
        variant
        for variant, ends in by_variant.items()
        if all(ends) and len(ends) >= record.config.sweep.seeds
    }
    bootstrap = GroupBootstrap(record.groups, record.config.sweep.bootstrap, record.config.seed)
    return tuple(
        _row(one, sound[one.trial.id], one.trial.variant in whole, record, scores, costs, bootstrap)
        for one in record.trials
    )


def stack(rows: Sequence[Row], scores: Mapping[str, ImageScores]) -> dict[int, ImageScores]:
    """Returns the scores of each variant whose repeats are all complete, by its number."""
    by_variant: dict[int, list[ImageScores]] = {}
    for row in rows:
        if row.candidate:
            by_variant.setdefault(row.variant, []).append(scores[row.trial])
    return {
        variant: ImageScores(
            cross_entropy=np.stack([one.cross_entropy for one in found]),
            calibrated=np.stack([one.calibrated for one in found]),
            right=np.stack([one.right for one in found]),
            calibrated_decides=found[0].calibrated_decides,
        )
        for variant, found in by_variant.items()
    }


def _is_complete(one: TrialRecord, scores: Mapping[str, ImageScores]) -> bool:
    best = next((epoch for epoch in reversed(one.history) if epoch.best), None)
    finite = best is not None and math.isfinite(best.val_cross_entropy) and one.trial.id in scores
    return finite and one.status == "finished"


def _row(
    one: TrialRecord,
    complete: bool,
    candidate: bool,
    record: SweepRecord,
    scores: Mapping[str, ImageScores],
    costs: Mapping[str, Cost],
    bootstrap: GroupBootstrap,
) -> Row:
    trial, mine = one.trial, scores.get(one.trial.id)
    best = next((epoch for epoch in reversed(one.history) if epoch.best), None)
    f1 = auc = accuracy = None
    if mine is not None and one.probabilities is not None:
        f1, auc = macro_scores(record.labels, one.probabilities, record.config.data.classes)
        accuracy = bootstrap.share(mine.right)
    return Row(
        trial=trial.id,
        variant=trial.variant,
        repeat=trial.repeat,
        model=trial.model,
        changes=trial.changes,
        seed=trial.config.seed,
        status=one.status,
        complete=complete,
        candidate=candidate,
        epochs=len(one.history),
        best_epoch=best.epoch if best else None,
        cross_entropy=None if mine is None else float(mine.cross_entropy.mean()),
        calibrated=None if mine is None else float(mine.calibrated.mean()),
        accuracy=accuracy.value if accuracy else None,
        accuracy_low=accuracy.low if accuracy else None,
        accuracy_high=accuracy.high if accuracy else None,
        macro_f1=f1,
        macro_auc=auc,
        cost=costs.get(trial.model),
        training_seconds=float(np.nansum([epoch.seconds for epoch in one.history])),
        device_hours=one.held_seconds * one.devices / 3600,
        device=one.device,
        attempts=one.attempts,
        reason=one.reason,
    )
