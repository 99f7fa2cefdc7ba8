"""Temperature scaling (Guo et al. 2017, arxiv.org/abs/1706.04599), log loss, calibration error."""

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-12
"""Lowest probability whose logarithm is taken: in export, sweep and report a certain mistake costs 27.6 nats.
Training computes its cross-entropies from logits and has no such limit."""

Floats = NDArray[np.float64]


def calibrate(probabilities: NDArray[np.floating], temperature: float) -> Floats:
    """Returns softmax(log(probabilities) / temperature), (n, classes) float64, with the same order of
    classes.

    The logarithm of a softmax equals its logits up to a constant, which the second softmax cancels: the
    result is the same as that of scaling the logits.

    Args:
        probabilities: (n, classes), each row sums to 1.
        temperature: positive; 1 changes nothing.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), FLOOR)) / temperature
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Returns the temperature (0.05 to 20) with the lowest log loss on (n, classes) probabilities, (n,)
    labels.

    If every image is classified correctly, no such temperature exists: the loss falls for ever towards 0, and
    every probability would end at 0 or 1. The result then is 1, which changes nothing.
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
    """Returns -ln(probability of the true class), (n,) float64 nats; probabilities (n, classes) are clipped
    to FLOOR..1."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(-np.log(np.clip(chosen, FLOOR, 1.0)))


def log_loss(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Returns the mean of `log_losses`, in nats; takes (n, classes) probabilities and (n,) labels."""
    return float(log_losses(probabilities, labels).mean())


def bin_edges(bins: int) -> Floats:
    """Returns the edges of equal bins of 0..1, (bins + 1,)."""
    return np.linspace(0.0, 1.0, bins + 1)


def bin_of(confidence: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Returns the bin of each confidence, (n,), from 0; a bin holds its upper edge, not its lower one."""
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
