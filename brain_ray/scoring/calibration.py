"""Calibration: temperature scaling (Guo et al. 2017, arxiv.org/abs/1706.04599), log loss, its error."""

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-12
"""Lowest probability whose logarithm is taken: export, sweep and report charge a certain mistake 27.6 nats.
Training takes its cross-entropies from the logits and has no such limit."""

Floats = NDArray[np.float64]


def calibrate(probabilities: NDArray[np.floating], temperature: float) -> Floats:
    """Return softmax(log(probabilities) / temperature), (n, classes) float64; the order of classes stays.

    The logarithm of a softmax is its logits up to a constant, which the second softmax drops: the result is
    that of scaling the logits themselves.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), FLOOR)) / temperature
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Find the temperature (0.05..20) with the lowest log loss on (n, classes) probabilities.

    Where no image is mistaken there is no such temperature: the loss falls for ever towards 0, and every
    probability would end at 0 or 1. The answer then is 1, which changes nothing.
    """
    from scipy.optimize import minimize_scalar

    if (probabilities.argmax(axis=1) == labels).all():
        return 1.0
    found = minimize_scalar(
        lambda log_t: log_loss(calibrate(probabilities, float(np.exp(log_t))), labels),
        bounds=(np.log(0.05), np.log(20.0)),
        method="bounded",
    )
    return float(np.exp(found.x))


def log_losses(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> Floats:
    """Return -ln(probability of the true class), (n,) nats; probabilities are held within FLOOR..1."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(-np.log(np.clip(chosen, FLOOR, 1.0)))


def log_loss(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Mean of `log_losses`, in nats."""
    return float(log_losses(probabilities, labels).mean())


def bin_edges(bins: int) -> Floats:
    """Return the edges of equal bins of 0..1, (bins + 1,)."""
    return np.linspace(0.0, 1.0, bins + 1)


def bin_of(confidence: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Return the bin of each confidence, (n,), from 0; a bin holds its upper edge, not its lower one."""
    place = np.searchsorted(bin_edges(bins), confidence, side="left") - 1
    return np.clip(place, 0, bins - 1)


def expected_calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int
) -> float:
    """Mean over images of |accuracy - confidence| of their bin, 0..1; the bins are those of `bin_of`."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    gap = (probabilities.argmax(axis=1) == labels) - confidence
    sums = np.bincount(bin_of(confidence, bins), weights=gap, minlength=bins)
    return float(np.abs(sums).sum() / len(labels))


NEVER = 2.0
"""A threshold that no probability reaches."""


def abstain_threshold(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], max_error: float
) -> float:
    """Find the lowest confidence from which on at most a share `max_error` of the answers is wrong.

    Args:
        confidence: (n,) probability of each answer.
        correct: (n,) whether it is right.
        max_error: 0..1.

    Returns:
        0 if that holds of all answers; one of the confidences; `NEVER` if it holds from none of them on.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    wrong = np.cumsum(~correct[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal confidences are answered together
    good = np.flatnonzero(last & (wrong <= max_error * np.arange(1, len(ranked) + 1)))
    if len(good) == 0:
        return NEVER
    return 0.0 if good[-1] == len(ranked) - 1 else float(ranked[good[-1]])
