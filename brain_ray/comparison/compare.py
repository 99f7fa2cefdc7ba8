"""Comparison of a sweep's models: choice and noise, by statistics over groups of validation images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from brain_ray.comparison import wording
from brain_ray.comparison.cost import Cost
from brain_ray.comparison.margin import last_within_margin
from brain_ray.comparison.noise import Noise, make_pairs
from brain_ray.comparison.results import (
    Comparison,
    ModelResult,
    Row,
    Spread,
    Verdict,
    model_colours,
    short_names,
)
from brain_ray.comparison.scored_trials import make_rows, stack
from brain_ray.errors import RunError
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.paired_tests import Difference
from brain_ray.tuning.image_scores import score_images
from brain_ray.tuning.trials import SweepRecord, TrialRecord


def compare(record: SweepRecord, costs: Mapping[str, Cost]) -> Comparison:
    """Compares a sweep's models and chooses a trial by `config.sweep.choice`.

    Only variants of which all repeats finished are compared. Models that are far worse than the best one
    change nothing: neither an interval of the others nor the choice.

    Args:
        record: the trials.
        costs: cost of serving each model, by `Trial.model`; a model that is not in it is never the fastest.

    Raises:
        RunError: no variant's repeats all finished with a finite validation cross-entropy.
    """
    sweep = record.config.sweep
    scores = score_images(record)
    rows = make_rows(record, scores, costs)
    if not any(row.candidate for row in rows):
        raise RunError(wording.nothing_to_choose(rows, sweep.seeds))
    variants = stack(rows, scores)
    epoch = _matched_epoch(record)
    matched = {one.trial.id: _best_until(one, epoch) for one in record.trials}
    names = dict.fromkeys(row.model for row in rows)
    models = [_model([row for row in rows if row.model == name], matched, record) for name in names]
    models.sort(key=lambda model: (not model.contender, *_order(model)))
    contenders = [model for model in models if model.contender]
    bootstrap = GroupBootstrap(record.groups, sweep.bootstrap, record.config.seed, sweep.confidence)
    noise = Noise(variants, contenders[0].variant, bootstrap, sweep.confidence)
    pairs = make_pairs(contenders, noise)
    best = contenders[0]
    assert best.loss is not None
    margin = sweep.margin * best.loss.mean
    deficits = {pair.second: pair.loss for pair in pairs if pair.first == best.model}
    chosen = best if sweep.choice == "best" else _fastest_within(best, contenders, deficits, margin)
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
        margin=margin,
        groups=bootstrap.num_groups,
        seeds=noise.near_best("loss"),
        confidence=sweep.confidence,
        matched_epoch=epoch,
        rows=rows,
        models=tuple(
            replace(
                model,
                short_name=short[model.model],
                colour=colours[model.model],
                deficit=deficits.get(model.model),
                verdict=_verdict(model, best, deficits.get(model.model), margin),
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


def _spread(values: Sequence[float | None]) -> Spread | None:
    numbers = np.asarray([value for value in values if value is not None], np.float64)
    if not len(numbers):
        return None
    sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else None
    return Spread(float(numbers.mean()), sd, len(numbers))


def _model(rows: Sequence[Row], matched: Mapping[str, float | None], record: SweepRecord) -> ModelResult:
    """Returns the result of a model, from the best of its variants."""
    variants = sorted({row.variant for row in rows})
    calibrated_decides = record.config.sweep.criterion == "calibrated"

    def loss(row: Row) -> float:
        value = row.calibrated if calibrated_decides else row.cross_entropy
        return math.inf if value is None else value

    def result(variant: int) -> ModelResult:
        mine = [row for row in rows if row.variant == variant]
        compared = [row for row in mine if row.candidate]
        raw, calibrated = (
            _spread([getattr(row, name) for row in compared]) for name in ("cross_entropy", "calibrated")
        )
        return ModelResult(
            model=mine[0].model,
            short_name="",  # depends on the other models, like the colour
            colour="",
            contender=bool(compared),
            variants=len(variants),
            variant=variant,
            changes=mine[0].changes,
            trial=min(compared, key=lambda row: (loss(row), row.trial)).trial if compared else None,
            repeats=max(len(mine), record.config.sweep.seeds),
            finished=sum(row.complete for row in mine),
            stopped=sum(row.status == "stopped" for row in mine),
            failed=sum(row.status == "failed" for row in mine),
            loss=calibrated if calibrated_decides else raw,
            cross_entropy=raw,
            calibrated=calibrated,
            accuracy=_spread([row.accuracy for row in compared]),
            matched=_spread([matched[row.trial] for row in mine]),
            cost=mine[0].cost,
        )

    return min(map(result, variants), key=_order)


def _order(model: ModelResult) -> tuple[float, float, int]:
    means = [math.inf if spread is None else spread.mean for spread in (model.loss, model.matched)]
    return means[0], means[1], model.variant


def _cheapness(model: ModelResult) -> tuple[float, float]:
    parameters = model.cost.parameters if model.cost and math.isfinite(model.latency_ms) else math.inf
    return model.latency_ms, parameters


def _fastest_within(
    best: ModelResult, contenders: Sequence[ModelResult], deficits: Mapping[str, Difference], margin: float
) -> ModelResult:
    faster = [model for model in contenders if _cheapness(model) < _cheapness(best)]
    faster.sort(key=lambda model: (_cheapness(model), model.model), reverse=True)
    last = last_within_margin([deficits[model.model] for model in faster], margin)
    return best if last is None else faster[last]


def _verdict(
    model: ModelResult, best: ModelResult, deficit: Difference | None, margin: float
) -> Verdict | None:
    if model is best:
        return "best"
    if deficit is None:
        return None
    if deficit.high < margin:
        return "within margin"
    return "worse" if deficit.low > 0 else "unclear"
