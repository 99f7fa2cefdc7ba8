"""Confidence from which on a model answers, with a stated risk that it is wrong more often than allowed."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.intervals import effective_number

NEVER = 2.0
"""Threshold that no probability reaches."""

STEPS = 400
"""Largest number of thresholds that are tried."""

MOST_BEGINNINGS = 4
"""Largest number of thresholds to begin with."""

LAST_BEGINNING = 0.75
"""Share of the independent answers that the last beginning has."""


@dataclass(frozen=True)
class RiskThreshold:
    """A threshold, and what is known of the error of the answers that it lets through."""

    threshold: float
    """Lowest confidence of an answer; 0: all images are answered; `NEVER`: none."""
    bound: float
    """Upper bound of the share of wrong answers; 1 where none is given."""
    answers: float
    """Effective number of independent answers that were looked at: of all images, where none is given."""
    needed: int
    """Smallest number of independent answers, all of them right, that would show what is asked."""


def answers_needed(max_error: float, confidence: float, models: int = 1) -> int:
    """Returns how many independent answers, all right, show at `confidence` that the error is at most
    `max_error`: the smallest n with (1 - max_error)^n <= (1 - confidence) / models."""
    if max_error <= 0:
        return 2**31
    if max_error >= 1:
        return 1
    return math.ceil(math.log((1 - confidence) / models) / math.log1p(-max_error))


def risk_threshold(
    chance: ArrayLike,
    correct: ArrayLike,
    groups: ArrayLike,
    max_error: float,
    confidence: float,
    models: int = 1,
) -> RiskThreshold:
    """Returns the lowest threshold whose answers are wrong in at most `max_error`, shown at `confidence`.

    Learn then Test (Angelopoulos et al. 2021, arxiv.org/abs/2110.01052): thresholds are tried one after the
    other, each answering some more images, until the first whose error may be larger, by the upper end of an
    exact one-sided interval (Clopper and Pearson 1934). As the order depends on no answer's being right, no
    threshold before that one is worse than allowed, but with the probability that was allowed. The first
    threshold answers as few images as could show it at all; where there are many more, an unlucky answer
    among these would decide all, and more beginnings are made, the last with `LAST_BEGINNING` of the
    independent answers; the probability is shared out among them.

    Images of one group are no independent answers. The interval is that of as many as they are worth if all
    answers of a group are right or wrong together, their worst case: Kish's effective number, as Korn and
    Graubard (1998, Survey Methodology 24, 193-201) put one into exact intervals.

    The same images chose one of several `models` (the epochs of a training). Each of them could have been
    chosen, so that the probability is shared out among them too (Bonferroni).

    Args:
        chance: (n,) confidence of each answer, 0..1.
        correct: (n,) bool, whether it is right.
        groups: (n,) of any kind that can be sorted.
        max_error: allowed share of wrong answers, 0..1.
        confidence: probability, 0..1, with which they are no more than that.
        models: number of models that these images chose from.
    """
    chances, right = np.asarray(chance, np.float64), np.asarray(correct, bool)
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(-chances, kind="stable")
    ranked, wrong, place = chances[order], np.cumsum(~right[order]), place[order]
    ends = _steps(ranked)
    units = np.array([effective_number(np.bincount(place[:end])) for end in ends])
    needed = answers_needed(max_error, confidence, models)
    most = float(units.max(initial=0.0))
    beginnings = min(MOST_BEGINNINGS, 1 + int(math.log2(max(1.0, most / needed))))
    allowed = (1 - confidence) / (models * beginnings)
    fewest = answers_needed(max_error, 1 - allowed)
    best = RiskThreshold(NEVER, 1.0, most, needed)
    for begin in np.geomspace(fewest, max(fewest, LAST_BEGINNING * most), beginnings):
        for end, worth in zip(ends[units >= begin], units[units >= begin], strict=True):
            bound = _upper(wrong[end - 1] / end * worth, worth, allowed)
            if bound > max_error:
                break
            if ranked[end - 1] < best.threshold:
                threshold = 0.0 if end == len(ranked) else float(ranked[end - 1])
                best = RiskThreshold(threshold, bound, float(worth), needed)
    return best


def _steps(ranked: NDArray[np.float64]) -> NDArray[np.intp]:
    """Returns how many of the (n,) confidences, the largest first, each threshold that is tried answers."""
    # Equal confidences are answered together.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1 if len(ranked) else np.empty(0, int)
    if len(ends) <= STEPS:
        return np.asarray(ends, np.intp)
    return np.unique(ends[np.linspace(0, len(ends) - 1, STEPS).round().astype(int)])


def _upper(wrong: float, units: float, allowed: float) -> float:
    from scipy.stats import beta

    return 1.0 if wrong >= units else float(beta.ppf(1 - allowed, wrong + 1, units - wrong))
