"""Robustness: accuracy and decisions of a bundle on test images with artefacts, beside those without."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.intervals import Floats, GroupBootstrap, Interval, ratio
from brain_ray.scoring.scores import Strict

Condition = tuple[str, int]
"""An artefact and its severity, from 1."""


class Share(Strict):
    """A share, usually 0..1, with its 95 % interval over groups; None where nothing defines it."""

    value: float | None
    low: float | None
    high: float | None


class ConditionScores(Strict):
    """Scores of the images under one condition, or under several counted together."""

    images: int
    """Number of images, each as often as it was scored."""
    accuracy: Share
    """Share whose most probable class is the true one, whatever the decision."""
    answered: int
    """Number of images answered; likewise `abstained`, and `refused` as unlike the training images."""
    abstained: int
    refused: int
    error: Share
    """Share of wrong answers."""


class ArtefactScores(Strict):
    """Scores of one artefact."""

    severities: list[ConditionScores]
    """Scores at each severity, from 1."""
    mean: ConditionScores
    """Scores of all severities counted together."""


class Robustness(Strict):
    """Scores of the same images without and with artefacts; `model_dump()` is strict JSON."""

    images: int
    groups: int
    """Number of groups of patients and copies that these images are of."""
    seed: int
    """Seed of what the artefacts drew."""
    clean: ConditionScores
    artefacts: dict[str, ArtefactScores]
    mean: ConditionScores
    """Scores of all artefacts and severities counted together."""
    relative: Share
    """Accuracy in the mean, as a share of that without artefacts."""


def score_robustness(
    right: ArrayLike,
    decisions: ArrayLike,
    conditions: Sequence[Condition],
    clean_right: ArrayLike,
    clean_decisions: ArrayLike,
    groups: ArrayLike,
    seed: int,
) -> Robustness:
    """Scores n images under m conditions.

    Args:
        right: (n, m), whether the most probable class is the true one.
        decisions: (n, m) of "answer", "abstain" and "not_mr".
        conditions: artefact and severity of each column, sorted by severity within an artefact.
        clean_right: (n,), the same without artefacts.
        clean_decisions: (n,).
        groups: (n,), group of each image.
        seed: seed of the artefacts.
    """
    hits, kinds = np.asarray(right, np.float64), np.asarray(decisions, np.str_)
    plain = np.asarray(clean_right, np.float64)[:, np.newaxis]
    bootstrap = GroupBootstrap(groups)
    columns: dict[str, list[int]] = {}
    for column, (name, _) in enumerate(conditions):
        columns.setdefault(name, []).append(column)
    return Robustness(
        images=bootstrap.num_images,
        groups=bootstrap.num_groups,
        seed=seed,
        clean=_scores(bootstrap, plain, np.asarray(clean_decisions, np.str_)[:, np.newaxis]),
        artefacts={
            name: ArtefactScores(
                severities=[_scores(bootstrap, hits[:, [k]], kinds[:, [k]]) for k in numbers],
                mean=_scores(bootstrap, hits[:, numbers], kinds[:, numbers]),
            )
            for name, numbers in columns.items()
        },
        mean=_scores(bootstrap, hits, kinds),
        relative=_share(
            bootstrap.statistic(
                lambda sums: ratio(sums[..., 0], sums[..., 1]),
                np.stack([hits.mean(axis=1), plain[:, 0]], axis=1),
            )
        ),
    )


def _scores(bootstrap: GroupBootstrap, right: Floats, decisions: NDArray[np.str_]) -> ConditionScores:
    """Scores (n, k) answers to n images under k conditions together."""
    answered = decisions == "answer"
    wrong = answered & (right == 0)
    return ConditionScores(
        images=right.size,
        accuracy=_share(bootstrap.share(right.mean(axis=1))),
        answered=int(answered.sum()),
        abstained=int((decisions == "abstain").sum()),
        refused=int((decisions == "not_mr").sum()),
        error=_share(bootstrap.share(wrong.sum(axis=1), answered.sum(axis=1))),
    )


def _share(found: Interval) -> Share:
    value, low, high = (
        None if np.isnan(number) else float(number) for number in (found.value, found.low, found.high)
    )
    return Share(value=value, low=low, high=high)


def format_robustness(scores: Robustness) -> str:
    """Returns the scores as a text table: accuracy by artefact and severity, and decisions."""
    width = max(map(len, scores.artefacts))
    most = max(len(one.severities) for one in scores.artefacts.values())
    heads = "".join(f"{severity:8d}" for severity in range(1, most + 1))
    lines = [
        f"robustness: {scores.images} test images of {scores.groups} groups, each with every artefact",
        "",
        f"{'accuracy':{width}}{heads}    mean  answered  error of answers",
        f"{'no artefact':{width}}{' ' * 8 * most}{_end(scores.clean)}",
    ]
    for name, one in scores.artefacts.items():
        cells = "".join(f"{_text(at.accuracy.value):>8}" for at in one.severities)
        lines.append(f"{name:{width}}{cells}{_end(one.mean)}")
    lines += [
        "",
        f"mean accuracy {_with_interval(scores.mean.accuracy)}; as a share of that without artefacts "
        f"{_with_interval(scores.relative)}",
        f"answers wrong {_with_interval(scores.mean.error)}, without artefacts "
        f"{_with_interval(scores.clean.error)}",
    ]
    return "\n".join(lines)


def _end(one: ConditionScores) -> str:
    return f"{_text(one.accuracy.value):>8}{one.answered / one.images:10.4f}{_text(one.error.value):>18}"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _with_interval(share: Share) -> str:
    if share.low is None:
        return _text(share.value)
    return f"{_text(share.value)} ({_text(share.low)} to {_text(share.high)})"
