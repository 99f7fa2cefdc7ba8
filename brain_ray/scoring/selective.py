"""Answers that may be withheld: risk against coverage, candidates, and scores of subgroups of the images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.intervals import Floats, GroupBootstrap
from brain_ray.scoring.scores import CandidateScores, Sensitivity, Subgroup

MAX_VALUES = 20
"""Largest number of values of a column that makes subgroups."""


@dataclass(frozen=True)
class RiskCoverage:
    """Share of wrong answers among the most confident ones, by how many are given (Geifman et al. 2019,
    arxiv.org/abs/1805.08206).

    coverage (n,): shares of the images, rising to 1; risk (n,): 0..1; area: mean of the risk, 0..1.
    """

    coverage: Floats
    risk: Floats
    area: float


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """Returns the curve of (n,) confidences and of whether each answer is right, (n,) bool."""
    chance, right = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    order = np.argsort(-chance, kind="stable")
    count = np.arange(1, len(chance) + 1)
    risk = np.cumsum(~right[order]) / count
    # Equal confidences are answered together: each of them has the risk of the last.
    last = np.searchsorted(-chance[order], -chance[order], side="right") - 1
    return RiskCoverage(count / len(chance), risk[last], float(risk[last].mean()))


def score_candidates(
    labels: ArrayLike,
    chosen: ArrayLike,
    classes: Sequence[str],
    asked: Sequence[float],
    bootstrap: GroupBootstrap,
) -> CandidateScores:
    """Returns how often the true class is among the candidates, by class.

    Args:
        labels: (n,) integers, true classes.
        chosen: (n, k) bool, which classes are candidates.
        classes: k names.
        asked: k shares that were asked for at export.
        bootstrap: resamples of the n images.
    """
    truth, sets = np.asarray(labels), np.asarray(chosen, bool)
    inside = sets[np.arange(len(truth)), truth]
    found = {}
    for k, name in enumerate(classes):
        if not (truth == k).any():
            continue
        share = bootstrap.share(inside & (truth == k), truth == k)
        found[name] = Sensitivity(
            asked=asked[k], found=share.value, low=share.low, high=share.high, missed=share.high < asked[k]
        )
    sizes = sets.sum(axis=1)
    return CandidateScores(
        per_class=found, mean_number=float(sizes.mean()), single=float((sizes == 1).mean())
    )


def score_subgroups(
    columns: Mapping[str, ArrayLike],
    right: NDArray[np.bool_],
    decisions: ArrayLike,
    inside: NDArray[np.bool_] | None,
    groups: ArrayLike,
) -> list[Subgroup]:
    """Returns accuracy and decisions for each value of columns that have 2 to `MAX_VALUES` values.

    Args:
        columns: (n,) values of each column, such as source or scanner; empty ones are a value of their own.
        right: (n,), whether the most probable class is the true one.
        decisions: (n,) of "answer", "abstain" and "not_mr".
        inside: (n,), whether the true class is a candidate; None: there are no candidates.
        groups: (n,) group of each image.
    """
    kinds, whose = np.asarray(decisions), np.asarray(groups)
    found = []
    for column, value, mine in _values(columns):
        bootstrap = GroupBootstrap(whose[mine])
        accuracy = bootstrap.share(right[mine])
        answered = kinds[mine] == "answer"
        found.append(
            Subgroup(
                column=column,
                value=value,
                images=int(mine.sum()),
                groups=bootstrap.num_groups,
                accuracy=accuracy.value,
                accuracy_low=accuracy.low,
                accuracy_high=accuracy.high,
                answered=float(answered.mean()),
                error=float((~right[mine])[answered].mean()) if answered.any() else None,
                candidate=None if inside is None else float(inside[mine].mean()),
            )
        )
    return found


def _values(columns: Mapping[str, ArrayLike]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    for name, values in columns.items():
        texts = np.asarray(values).astype(str)
        known = np.unique(texts)
        if 2 <= len(known) <= MAX_VALUES:
            for value in known:
                yield name, str(value), texts == value
