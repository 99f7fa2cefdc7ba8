"""What is kept of a sweep's trials that have ended: weights that may be chosen, and else nothing large."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from brain_ray.config import Config
from brain_ray.runs import BEST, Run
from brain_ray.storage_retries import delete_file
from brain_ray.training import checkpoints
from brain_ray.training.features import drop_features
from brain_ray.training.results import read_val_probabilities
from brain_ray.tuning.image_scores import score_images
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.trial_store import make_record, trial_run
from brain_ray.tuning.trials import TrialRecord

MOST_KEPT = 8
"""Limit on the kept weights of a sweep, in sizes of the largest variant's: as much as two checkpoints of each
of its trials take, which hold the weights four times."""

Variant = list[TrialRecord]
"""The trials of a variant: one for each seed and fold."""


def delete_unneeded(run: Run, space: SearchSpace, records: Sequence[TrialRecord]) -> None:
    """Deletes checkpoints and features of ended trials, and weights that cannot be chosen.

    A variant of which a trial was stopped or failed cannot be chosen. For each `Trial.model`, the weights of
    the best variant are kept among the variants whose trials have all finished, and those of each of the
    others: of all its seeds and folds, which a bundle may average. The best is the one that the comparison
    would take. If these exceed `MOST_KEPT` variants, the worst are deleted.
    """
    ranked = [trial for trial in _worth_keeping(run, space, records) if _has_weights(run, trial)]
    sizes = [run.fs.get_file_info(trial_run(run, trial).path(*BEST)).size for trial in ranked]
    room = MOST_KEPT * space.repeats * max(sizes, default=0)
    kept = {trial for trial, total in zip(ranked, accumulate(sizes), strict=True) if total <= room}
    for record in records:
        home = trial_run(run, record.trial.id)
        if record.status == "running":
            continue
        checkpoints.prune(home, 0)
        drop_features(home)
        if record.trial.id not in kept and home.exists(*BEST):
            delete_file(home.fs, home.path(*BEST))


def _worth_keeping(run: Run, space: SearchSpace, records: Sequence[TrialRecord]) -> list[str]:
    """Returns the ids of the trials that may be chosen, the best first."""
    by_variant: dict[int, Variant] = {}
    for record in records:
        by_variant.setdefault(record.trial.variant, []).append(record)
    complete: dict[str, list[Variant]] = {}
    kept: list[Variant] = []
    for group in by_variant.values():
        finished = [record for record in group if record.status == "finished"]
        if not finished or any(record.status in ("stopped", "failed") for record in group):
            continue
        if len(finished) == space.repeats:
            complete.setdefault(finished[0].trial.model, []).append(finished)
        else:
            kept.append(finished)
    kept += [_best(run, space.config, variants) for variants in complete.values()]
    kept.sort(key=_mean_cross_entropy)
    return [one.trial.id for variant in kept for one in sorted(variant, key=_cross_entropy)]


def _best(run: Run, config: Config, variants: list[Variant]) -> Variant:
    """Returns the variant of a model that the comparison would take, of those whose weights are there."""
    there = [one for one in variants if all(_has_weights(run, record.trial.id) for record in one)]
    if len(there) < 2:
        return there[0] if there else min(variants, key=_mean_cross_entropy)
    records = [
        replace(record, probabilities=read_val_probabilities(trial_run(run, record.trial.id)))
        for variant in there
        for record in variant
    ]
    if any(record.probabilities is None for record in records):  # no epoch had a finite loss
        return min(there, key=_mean_cross_entropy)
    sweep = make_record(run, config, records)
    scores = score_images(sweep)
    losses: dict[int, list[float]] = {}
    for one in sweep.trials:
        loss = float(scores[one.trial.id].loss.mean()) if one.trial.id in scores else math.inf
        losses.setdefault(one.trial.variant, []).append(loss)
    return min(there, key=lambda variant: float(np.mean(losses[variant[0].trial.variant])))


def _has_weights(run: Run, trial: str) -> bool:
    return trial_run(run, trial).exists(*BEST)


def _mean_cross_entropy(variant: Variant) -> float:
    return float(np.mean([_cross_entropy(record) for record in variant]))


def _cross_entropy(record: TrialRecord) -> float:
    best = [epoch.val_cross_entropy for epoch in record.history if epoch.best]
    return best[-1] if best else math.inf
