"""Sentences on a comparison: its rule, the reason for the choice, and caveats."""

import math
from collections import Counter
from collections.abc import Sequence

from brain_ray.comparison.results import Comparison, Difference, ModelResult, Row


def rule(comparison: Comparison) -> str:
    """Returns how the winner is chosen: the cheapest within noise of the best model, or simply the best."""
    num_pairs = len(comparison.pairs)
    if not _cheapest(comparison):
        return "The model with the lowest mean validation cross-entropy of its finished repeats wins."
    pairs = f" and corrected for {num_pairs} pair{'s' if num_pairs > 1 else ''} of models"
    return (
        "Of the models whose mean validation cross-entropy is within noise of the lowest one, the one that "
        f"answers an image fastest wins. Within noise: the {100 * comparison.confidence:g} % interval of the "
        f"difference, from resampled validation images and repeats"
        f"{pairs if num_pairs else ''}, contains 0."
    )


def choice(comparison: Comparison) -> str:
    """Returns why the model was chosen, compared with those within noise of the best one."""
    chosen, pairs = comparison.chosen, comparison.pairs
    contenders = [model for model in comparison.models if model.contender]
    near = [model for model in contenders if model.within_noise]
    best, others = contenders[0], [model for model in near if model is not contenders[0]]
    text = f"{chosen.model} (trial {chosen.trial}) is chosen: "
    if len(contenders) == 1:
        return f"{text}it is the only model with a finished trial, at a mean cross-entropy of {_mean(best)}."
    lowest = f"its mean validation cross-entropy of {_mean(best)} is the lowest of {len(contenders)} models"
    if not _cheapest(comparison):
        names = ", ".join(f"{one.model} ({_mean(one)})" for one in others)
        return f"{text}{lowest}; within noise of it: {names or 'none'}."
    if not others:
        second = pairs[0]
        return (
            f"{text}{lowest} and no other is within noise of it; the next one, {second.second}, is worse by "
            f"{second.cross_entropy.value:.4f} ({_interval(second.cross_entropy)})."
        )
    if all(math.isinf(one.latency_ms) for one in near):
        return f"{text}{lowest}, and what it costs to serve those within noise of it is not known."
    names = ", ".join(f"{one.model} ({_mean(one)}, {_latency(one)})" for one in others if one is not chosen)
    if chosen is best:
        return (
            f"{text}{lowest}, and with {_latency(best)} for an image it is also the fastest of the "
            f"{len(near)} within noise; the others are {names}."
        )
    pair = next(one for one in pairs if (one.first, one.second) == (best.model, chosen.model))
    return (
        f"{text}with {_latency(chosen)} for an image it is the fastest of the {len(near)} models (of "
        f"{len(contenders)}) within noise of the best one, {best.model}, which takes {_latency(best)}; its "
        f"cross-entropy of {_mean(chosen)} against {_mean(best)} is higher by "
        f"{pair.cross_entropy.value:.4f} ({_interval(pair.cross_entropy)})"
        + (f"; also within noise: {names}." if names else ".")
    )


def _cheapest(comparison: Comparison) -> bool:
    return comparison.record.config.sweep.choice == "cheapest within noise"


def _mean(model: ModelResult) -> str:
    return f"{model.cross_entropy.mean:.4f}" if model.cross_entropy else "–"


def _latency(model: ModelResult) -> str:
    return f"{model.latency_ms:.1f} ms" if math.isfinite(model.latency_ms) else "an unknown time"


def _interval(difference: Difference) -> str:
    return f"interval {difference.low:.4f} to {difference.high:.4f}".replace("-", "−")


def caveats(comparison: Comparison) -> tuple[str, ...]:
    """Returns caveats: sentences on the limits of the numbers."""
    num_pairs, level = len(comparison.pairs), comparison.level
    resamples = comparison.record.config.sweep.bootstrap
    texts = [
        "The validation images chose each trial's epoch, each model's settings and the model, so the scores "
        "of the winner here are optimistic. No test image was read for the choice; the stage that evaluates "
        "scores the winner on them.",
        "Images are resampled as if they were independent; where several show one patient, or are copies of "
        "one slice, the true intervals are wider.",
    ]
    if num_pairs:
        texts.append(
            "Within noise does not mean as good: with fewer validation images, or more models, intervals are "
            "wider, and a model that is worse by more is then within noise."
        )
    contenders = [model for model in comparison.models if model.contender]
    single = [one.model for one in contenders if one.cross_entropy and one.cross_entropy.repeats == 1]
    if single:
        who = "Every model" if len(single) == len(contenders) else ", ".join(single)
        texts.append(
            f"{who} has one finished repeat, which tells nothing about the spread between repeats: intervals "
            "hold that of images alone. Set sweep.seeds to 5 or more to know it."
        )
    if any(one.cross_entropy and 1 < one.cross_entropy.repeats < 5 for one in contenders):
        texts.append(
            "Two to four finished repeats tell little about the spread between repeats: intervals may be too "
            "narrow."
        )
    if any(one.stopped for one in contenders):
        texts.append(
            "Repeats that were stopped early were the weaker ones, so the mean of those that finished, which "
            "chooses the winner, is optimistic; at the matched epoch all of them count."
        )
    if num_pairs and resamples * (1 - level) / 2 < 5:
        need = math.ceil(10 / (1 - level) / 100) * 100
        texts.append(
            f"With {num_pairs} pairs, {resamples:,} resamples leave fewer than five beyond each end of an "
            f"interval, which is then rough: set sweep.bootstrap to {need:,} or more."
        )
    return tuple(texts)


def nothing_to_choose(rows: Sequence[Row]) -> str:
    """Returns how the trials of a sweep without a candidate ended, and what to do."""
    ends = ", ".join(f"{number} {status}" for status, number in Counter(row.status for row in rows).items())
    reasons = "; ".join([f"trial {row.trial}: {row.reason}" for row in rows if row.reason][:3])
    return (
        f"the sweep has no model to choose: of {len(rows)} trials ({ends or 'none was made'}), none finished "
        f"with a finite validation cross-entropy{f' ({reasons})' if reasons else ''}; look into the trials' "
        "logs, set right what failed or lower the learning rates in sweep.space, and sweep under a new name, "
        "since under this one they stay as they have ended"
    )
