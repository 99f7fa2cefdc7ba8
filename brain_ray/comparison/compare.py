"""Comparison of a sweep's models: choice and noise, by statistics over the validation images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from brain_ray.comparison import wording
from brain_ray.comparison.cost import Cost
from brain_ray.comparison.results import (
    Comparison,
    Difference,
    ModelResult,
    Pair,
    Row,
    Spread,
    model_colours,
    short_names,
)
from brain_ray.errors import RunError
from brain_ray.scoring.calibration import log_losses
from brain_ray.scoring.curves import Floats
from brain_ray.scoring.metrics import score
from brain_ray.scoring.paired_tests import bootstrap_means, holm, mcnemar
from brain_ray.tuning.trials import SweepRecord, TrialRecord


def compare(record: SweepRecord, costs: Mapping[str, Cost]) -> Comparison:
    """Compares a sweep's trials and chooses one by `config.sweep.choice`.

    Args:
        record: the trials.
        costs: cost of serving each model, by `Trial.model`; a model that is not in it is never the cheapest.

    Raises:
        RunError: no trial finished with a finite validation cross-entropy.
    """
    sweep = record.config.sweep
    outcomes = {one.trial.id: _outcomes(one, record) for one in record.trials}
    rows = tuple(_row(one, outcomes[one.trial.id], record, costs) for one in record.trials)
    if not any(row.candidate for row in rows):
        raise RunError(wording.nothing_to_choose(rows))
    epoch = _matched_epoch(record)
    matched = {one.trial.id: _best_until(one, epoch) for one in record.trials}
    names = dict.fromkeys(row.model for row in rows)
    models = [_model([row for row in rows if row.model == name], matched) for name in names]
    models.sort(key=lambda model: (not model.contender, *_order(model)))
    contenders = [model for model in models if model.contender]
    num_pairs = math.comb(len(contenders), 2)
    level = 1 - (1 - sweep.confidence) / max(1, num_pairs)
    pairs = _pairs(contenders, rows, outcomes, level, record)
    best = contenders[0]
    noise = [best.model, *(pair.second for pair in pairs if pair.first == best.model and pair.within_noise)]
    near = [model for model in contenders if model.model in noise]
    chosen = min(near, key=_cheapness) if sweep.choice == "cheapest within noise" else best
    assert chosen.trial is not None
    order = [model.model for model in models]
    short, colours = short_names(order), model_colours(order)
    comparison = Comparison(
        record=record,
        costs=costs,
        winner=chosen.trial,
        best=best.model,
        rule="",
        sentence="",
        within_noise=tuple(noise),
        confidence=sweep.confidence,
        level=level,
        matched_epoch=epoch,
        rows=rows,
        models=tuple(
            replace(
                model,
                short_name=short[model.model],
                colour=colours[model.model],
                best=model is best,
                within_noise=model in near,
                chosen=model is chosen,
            )
            for model in models
        ),
        pairs=tuple(pairs),
        caveats=(),
    )
    return replace(
        comparison,
        rule=wording.rule(comparison),
        sentence=wording.choice(comparison),
        caveats=wording.caveats(comparison),
    )


def _outcomes(one: TrialRecord, record: SweepRecord) -> Floats | None:
    """Returns (images, 2), each image's cross-entropy and 1 if it is right, else 0; None without finite
    probabilities."""
    if one.probabilities is None or not np.isfinite(one.probabilities).all() or not len(record.labels):
        return None
    chances = np.asarray(one.probabilities, np.float64)
    return np.stack([log_losses(chances, record.labels), chances.argmax(axis=1) == record.labels], axis=1)


def _row(one: TrialRecord, outcomes: Floats | None, record: SweepRecord, costs: Mapping[str, Cost]) -> Row:
    trial = one.trial
    best = next((epoch for epoch in reversed(one.history) if epoch.best), None)
    scores = None
    if outcomes is not None and one.probabilities is not None:
        scores = score(record.labels, one.probabilities, record.config.data.classes)
    sound = best is not None and math.isfinite(best.val_cross_entropy) and outcomes is not None
    return Row(
        trial=trial.id,
        variant=trial.variant,
        repeat=trial.repeat,
        model=trial.model,
        changes=trial.changes,
        seed=trial.config.seed,
        status=one.status,
        candidate=sound and one.status == "finished",
        epochs=len(one.history),
        best_epoch=best.epoch if best else None,
        cross_entropy=None if outcomes is None else float(outcomes[:, 0].mean()),
        accuracy=scores.accuracy if scores else None,
        accuracy_low=scores.accuracy_low if scores else None,
        accuracy_high=scores.accuracy_high if scores else None,
        macro_f1=scores.macro.f1 if scores else None,
        macro_auc=scores.auc.macro if scores else None,
        cost=costs.get(trial.model),
        training_seconds=float(np.nansum([epoch.seconds for epoch in one.history])),
        device_hours=one.held_seconds * one.devices / 3600,
        device=one.device,
        attempts=one.attempts,
        reason=one.reason,
    )


def _matched_epoch(record: SweepRecord) -> int | None:
    return min(
        (one.history[-1].epoch for one in record.trials if one.status != "failed" and one.history),
        default=None,
    )


def _best_until(one: TrialRecord, epoch: int | None) -> float | None:
    if epoch is None or one.status == "failed":
        return None
    values = [past.val_cross_entropy for past in one.history if past.epoch <= epoch]
    return min(filter(math.isfinite, values), default=None)


def _spread(values: Sequence[float]) -> Spread | None:
    numbers = np.asarray(values, np.float64)
    if not len(numbers):
        return None
    sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else None
    return Spread(float(numbers.mean()), sd, len(numbers))


def _model(rows: Sequence[Row], matched: Mapping[str, float | None]) -> ModelResult:
    """Returns the result of a model, from the best of its variants."""
    variants = sorted({row.variant for row in rows})

    def result(variant: int) -> ModelResult:
        mine = [row for row in rows if row.variant == variant]
        finished = [row for row in mine if row.candidate]
        return ModelResult(
            model=mine[0].model,
            short_name="",  # depends on the other models, like the colour
            colour="",
            contender=bool(finished),
            variants=len(variants),
            variant=variant,
            changes=mine[0].changes,
            trial=min(finished, key=lambda row: (row.cross_entropy, row.trial)).trial if finished else None,
            repeats=len(mine),
            stopped=sum(row.status == "stopped" for row in mine),
            failed=sum(row.status == "failed" for row in mine),
            cross_entropy=_spread([row.cross_entropy for row in finished if row.cross_entropy is not None]),
            accuracy=_spread([row.accuracy for row in finished if row.accuracy is not None]),
            matched=_spread([value for row in mine if (value := matched[row.trial]) is not None]),
            cost=mine[0].cost,
        )

    return min(map(result, variants), key=_order)


def _order(model: ModelResult) -> tuple[float, float, int]:
    means = [math.inf if spread is None else spread.mean for spread in (model.cross_entropy, model.matched)]
    return means[0], means[1], model.variant


def _cheapness(model: ModelResult) -> tuple[float, float, float]:
    parameters = model.cost.parameters if model.cost and math.isfinite(model.latency_ms) else math.inf
    return model.latency_ms, parameters, _order(model)[0]


def _pairs(
    contenders: Sequence[ModelResult],
    rows: Sequence[Row],
    outcomes: Mapping[str, Floats | None],
    level: float,
    record: SweepRecord,
) -> list[Pair]:
    if len(contenders) < 2:
        return []
    finished = [
        np.stack(
            [_known(outcomes[row.trial]) for row in rows if row.candidate and row.variant == one.variant]
        )
        for one in contenders
    ]
    means = bootstrap_means(finished, record.config.sweep.bootstrap, record.config.seed)
    right = [_known(outcomes[one.trial or ""])[:, 1] > 0 for one in contenders]
    places = list(combinations(range(len(contenders)), 2))
    split = [(int((right[a] & ~right[b]).sum()), int((right[b] & ~right[a]).sum())) for a, b in places]
    p_values = [mcnemar(*numbers) for numbers in split]
    pairs = []
    for (a, b), numbers, p, p_holm in zip(places, split, p_values, holm(p_values), strict=True):
        lows, highs = np.quantile(means[:, b] - means[:, a], [(1 - level) / 2, (1 + level) / 2], axis=0)
        values = finished[b].mean(axis=(0, 1)) - finished[a].mean(axis=(0, 1))
        loss, accuracy = (Difference(*map(float, three)) for three in zip(values, lows, highs, strict=True))
        # Equal predictions differ only by the order in which a sum was computed.
        near = loss.low <= 1e-12 and loss.high >= -1e-12
        pairs.append(
            Pair(contenders[a].model, contenders[b].model, loss, accuracy, *numbers, p, p_holm, near)
        )
    return pairs


def _known(outcomes: Floats | None) -> Floats:
    assert outcomes is not None, "a trial that finished has probabilities"
    return outcomes
