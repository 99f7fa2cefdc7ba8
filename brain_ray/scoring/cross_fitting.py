"""Cross-fitted temperature scaling: log losses after a temperature that never saw the image's group."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.calibration import Floats, calibrate, fit_temperature, log_losses

SPLITS = 3
"""Number of divisions into halves that losses are averaged over, so that one draw decides little."""


def draw_halves(groups: ArrayLike, seed: int, splits: int = SPLITS) -> NDArray[np.bool_]:
    """Draws halves of (n,) images, (splits, n); no group is cut, and both halves have about n / 2 images.

    Groups are dealt to the halves from the largest down, in random order among equals.
    """
    names, place, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    rng = np.random.default_rng([seed, 2])
    halves = np.empty((splits, len(place)), bool)
    for half in halves:
        order = rng.permutation(len(names))
        order = order[np.argsort(-sizes[order], kind="stable")]
        dealt = np.empty(len(names), bool)
        dealt[order] = np.arange(len(names)) % 4 % 3 == 0  # 1 0 0 1: neither half always has the larger one
        half[:] = dealt[place]
    return halves


def cross_calibrate(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], groups: ArrayLike
) -> Floats:
    """Returns (n, classes) probabilities, each half of the groups calibrated by the temperature of the other.

    Scores of these tell what calibration does for images that it was not fitted to.

    Args:
        probabilities: (n, classes), raw.
        labels: (n,).
        groups: (n,) of any kind that can be sorted.
    """
    (half,) = draw_halves(groups, seed=0, splits=1)
    return _cross(probabilities, labels, half)


def _cross(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], half: NDArray[np.bool_]
) -> Floats:
    """Calibrates the images of `half`, (n,), by the temperature of the others, and these by its own."""
    crossed = np.empty(probabilities.shape, np.float64)
    for mine in (half, ~half):
        other = ~mine
        temperature = fit_temperature(probabilities[other], labels[other]) if other.any() else 1.0
        crossed[mine] = calibrate(probabilities[mine], temperature)
    return crossed


def cross_fitted_losses(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], halves: NDArray[np.bool_]
) -> Floats:
    """Returns each image's log loss, (n,) nats, after a temperature fitted on the half without the image.

    Fitted and scored on the same images, a temperature would flatter a model (cross-fitting: Chernozhukov et
    al. 2018, doi.org/10.1111/ectj.12097). A half without images leaves the other one as it is.

    Args:
        probabilities: (n, classes), raw.
        labels: (n,).
        halves: (splits, n), from `draw_halves`; losses are averaged over the splits.
    """
    return np.asarray(
        np.mean([log_losses(_cross(probabilities, labels, half), labels) for half in halves], axis=0)
    )
