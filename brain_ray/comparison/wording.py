"""Sentences on a comparison: its rule, the reason for the choice, and caveats."""

import math
from collections import Counter
from collections.abc import Sequence

from brain_ray.comparison.results import Comparison, ModelResult, Row
from brain_ray.scoring.paired_tests import Difference


def rule(comparison: Comparison) -> str:
    """Returns how the winner is chosen: the fastest within the margin of the best model, or simply the
    best."""
    name, sweep = criterion(comparison), comparison.record.config.sweep
    if not _fastest(comparison):
        return f"The model with the lowest mean {name} wins."
    return (
        f"The model with the lowest mean {name} is the best. From there to ever faster models, the last one "
        f"wins that is shown to be worse by less than the margin of {comparison.margin:.4f} "
        f"({100 * sweep.margin:g} % of the best one's): the upper end of the {100 * sweep.confidence:g} % "
        "interval of its deficit is below the margin. The first model of which that cannot be said ends the "
        "search; models whose deficit itself is above the margin are passed over."
    )


def criterion(comparison: Comparison) -> str:
    """Returns the name of the cross-entropy by which models are compared."""
    raw = comparison.record.config.sweep.criterion == "raw"
    return f"{'raw' if raw else 'calibrated'} {kind(comparison)} cross-entropy"


def kind(comparison: Comparison) -> str:
    """Returns what the images are that the scores are of, in a word."""
    return "validation" if comparison.record.folds is None else "out-of-fold"


def meaning(comparison: Comparison) -> str:
    """Returns what the scores can be taken for."""
    images, groups = len(comparison.record.labels), comparison.groups
    of = f"Scores are of {images:,} {kind(comparison)} images in {groups:,} groups"
    models = len(comparison.rows)
    if comparison.record.folds is None:
        last = all(one.trial.config.train.keep_epoch == "last" for one in comparison.record.trials)
        chosen = "the model" if last else "the epoch and the model"
        return f"{of}, which chose {chosen}: they are optimistic. No test image was read."
    told = f"{of}, each answered by a model that saw none of its group, and chose nothing of that model"
    if models > 1:
        told += f"; they chose among {models} models, and those of the best of them are optimistic"
    return f"{told}. No test image was read."


def choice(comparison: Comparison) -> str:
    """Returns why the model was chosen, and what is known of those within the margin."""
    text = f"{comparison.chosen.model} (trial {comparison.chosen.trial}) is chosen: {_reason(comparison)}."
    contenders = [model for model in comparison.models if model.contender]
    if comparison.seeds is None and len(contenders) > 1:
        text += " Each model was trained with one seed: how much another seed would change is not known."
    return text


def _reason(comparison: Comparison) -> str:
    chosen, margin = comparison.chosen, comparison.margin
    contenders = [model for model in comparison.models if model.contender]
    best, name = contenders[0], criterion(comparison)
    if len(contenders) == 1:
        return f"it is the only model whose repeats all finished, at a mean {name} of {_mean(best)}"
    lowest = f"its mean {name} of {_mean(best)} is the lowest of {len(contenders)} models"
    second = contenders[1]
    assert second.deficit is not None
    following = f"the next one, {second.model}, is worse by {_told(second.deficit)}"
    if not _fastest(comparison):
        return f"{lowest}; {following}"
    if all(math.isinf(one.latency_ms) for one in contenders):
        return f"{lowest}, and what the models cost to serve is not known; {following}"
    if chosen is best:
        near = [one for one in contenders[1:] if one.deficit and one.deficit.value < margin]
        faster = [one for one in near if one.latency_ms < best.latency_ms]
        if not faster:
            why = f"no faster model is within the margin of {margin:.4f}"
        else:
            told = "; ".join(f"{one.model} ({_latency(one)}) by {_told(one.deficit)}" for one in faster)
            why = (
                f"no faster one is shown to be worse by less than the margin of {margin:.4f}, though the "
                f"data do not rule it out: {told}"
            )
        return f"{lowest} (at {_latency(best)} for an image), and {why}"
    return (
        f"with {_latency(chosen)} for an image it is faster than the best model, {best.model}, which takes "
        f"{_latency(best)}; its mean {name} of {_mean(chosen)} against {_mean(best)} is higher by "
        f"{_told(chosen.deficit)}, less than the margin of {margin:.4f}"
    )


def _fastest(comparison: Comparison) -> bool:
    return comparison.record.config.sweep.choice != "best"


def _mean(model: ModelResult) -> str:
    return f"{model.loss.mean:.4f}" if model.loss else "–"


def _latency(model: ModelResult) -> str:
    return f"{model.latency_ms:.1f} ms" if math.isfinite(model.latency_ms) else "an unknown time"


def _told(difference: Difference | None) -> str:
    if difference is None:
        return "–"
    ends = f"interval {difference.low:.4f} to {difference.high:.4f}".replace("-", "−")
    return f"{difference.value:.4f} ({ends})"


def noise(comparison: Comparison) -> str:
    """Returns how noise was judged, in sentences for the bundle and its model card."""
    images = f"{comparison.groups:,} groups of {len(comparison.record.labels):,} {kind(comparison)} images"
    seeds = comparison.seeds
    return (
        f"Noise was judged by {comparison.confidence:.0%} intervals of the difference in "
        f"{criterion(comparison)}, over {images} "
        + (
            "alone: each model was trained with one seed, and the noise of the seed is not known."
            if seeds is None
            else f"and the noise of the seed (standard deviation {seeds.sd:.4f} with {seeds.freedom} degrees "
            "of freedom)."
        )
    )


def caveats(comparison: Comparison) -> tuple[str, ...]:
    """Returns caveats: sentences on the limits of the numbers."""
    record, num_images = comparison.record, len(comparison.record.labels)
    texts = [
        "The validation images chose each trial's epoch, each model's settings and the model, so the scores "
        "of the winner here are optimistic. No test image was read for the choice; the stage that evaluates "
        "scores the winner on them.",
    ]
    if record.folds is not None:
        texts = [
            f"{meaning(comparison)} The models that answered learned from fewer images than there are; what "
            "is called a model here is one for each fold, trained alike."
        ]
    if comparison.groups < num_images:
        texts.append(
            f"Images of one patient, and copies of one slice, are one group; intervals and tests take the "
            f"{comparison.groups:,} groups of the {num_images:,} {kind(comparison)} images as independent."
        )
    else:
        texts.append(
            f"No two {kind(comparison)} images are known to show one patient or to be copies of one slice, "
            "so each counts as independent. Where patients are not known, the true intervals may be wider."
        )
    if comparison.pairs:
        if comparison.seeds is None:
            texts.append(
                "Every model has one repeat, which tells nothing about the noise of the seed: intervals hold "
                "that of images alone, and another seed may order the models otherwise. Set sweep.seeds to 2 "
                "or more to know it."
            )
        else:
            texts.append(
                f"The noise of the seed is pooled over the variants near the best one, with "
                f"{comparison.seeds.freedom} degrees of freedom; it is taken to be the same for all of them."
            )
        widest = min(pair.loss.high - pair.loss.value for pair in comparison.pairs)
        if _fastest(comparison) and widest > comparison.margin:
            texts.append(
                "Even of an equal model these data could not show that it is within the margin: intervals "
                f"reach {widest:.4f} or more above a difference, and the margin is {comparison.margin:.4f}. "
                f"More {kind(comparison)} images, more seeds, or a wider sweep.margin can change that."
            )
        texts.append(
            "Within the margin does not mean equal: such a model may be worse by up to the margin. Unclear "
            "means neither: the data tell it neither from the best model nor from one that is worse by more "
            "than the margin."
        )
    texts += _missing(comparison)
    if record.config.sweep.bootstrap * (1 - comparison.confidence) / 2 < 5:
        need = math.ceil(10 / (1 - comparison.confidence) / 100) * 100
        texts.append(
            f"{record.config.sweep.bootstrap:,} resamples leave fewer than five beyond each end of an "
            f"interval, which is then rough: set sweep.bootstrap to {need:,} or more."
        )
    return tuple(texts)


def _missing(comparison: Comparison) -> list[str]:
    """Returns a caveat on the variants that lack a repeat, if there are any."""
    rows = comparison.rows
    ended = {row.variant for row in rows if row.status != "finished" and row.repeat == 0}
    lost = {row.variant for row in rows if not row.candidate} - ended
    texts = []
    if ended:
        texts.append(
            f"{_variants(len(ended))} not compared, because the first trial was stopped early or failed; the "
            "other repeats were not trained. Early stopping may have ended one that would have become better."
        )
    if lost:
        texts.append(
            f"{_variants(len(lost))} not compared, because some of the repeats did not finish or have no "
            "finite value: the mean of those that are left would be one of survivors."
        )
    return texts


def _variants(number: int) -> str:
    return f"{number} variant{' is' if number == 1 else 's are'}"


def nothing_to_choose(rows: Sequence[Row], seeds: int) -> str:
    """Returns how the trials of a sweep without a candidate ended, and what to do."""
    ends = ", ".join(f"{number} {status}" for status, number in Counter(row.status for row in rows).items())
    reasons = "; ".join([f"trial {row.trial}: {row.reason}" for row in rows if row.reason][:3])
    whole = "none finished" if seeds == 1 else f"no variant's {seeds} repeats all finished"
    return (
        f"the sweep has no model to choose: of {len(rows)} trials ({ends or 'none was made'}), {whole} "
        f"with a finite validation cross-entropy{f' ({reasons})' if reasons else ''}; look into the trials' "
        "logs, set right what failed or lower the learning rates in sweep.space, and sweep under a new name, "
        "since under this one they stay as they have ended"
    )
