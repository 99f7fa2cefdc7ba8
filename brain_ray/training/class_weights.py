"""Class weights of the loss."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.parts import Counts
from brain_ray.errors import RunError


def class_weights(
    setting: Literal["none", "balanced"] | Sequence[float], counts: Counts, classes: Sequence[str]
) -> NDArray[np.float32]:
    """Returns what a training row's loss is multiplied by, for each class: (classes,).

    Args:
        setting: `none`, all 1; `balanced`, inverse to the class' rows, with a mean of 1 over all rows, as
            scikit-learn's `compute_class_weight`; or the weights themselves.
        counts: rows of each class in the training split, (classes,).
        classes: their names.

    Raises:
        RunError: `balanced`, and a class has no rows; weights that are not one for each class, negative, not
            finite, or all 0.
    """
    if setting == "none":
        return np.ones(len(classes), np.float32)
    if setting == "balanced":
        missing = [name for name, count in zip(classes, counts, strict=True) if not count]
        if missing:
            raise RunError(
                f"train.class_weights is balanced, and the training split has no rows of "
                f"{', '.join(missing)}: give the weights as numbers, or leave the class out of data.classes"
            )
        return np.asarray(counts.sum() / (len(classes) * counts), np.float32)
    weights = np.asarray(setting, np.float32)
    if weights.shape != (len(classes),):
        raise RunError(
            f"train.class_weights has {len(weights)} numbers: expected one for each of the {len(classes)} "
            f"classes, {', '.join(classes)}"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise RunError(
            f"train.class_weights is {weights.tolist()}: expected finite numbers from 0 up, not all of them 0"
        )
    return weights


def split_weights(
    classes: Sequence[str], counts_by_split: Mapping[str, Counts], weights: NDArray[np.float32]
) -> dict[str, float]:
    """Describes the balance for TensorBoard: each class' share of each split, 0..1, and its weight."""
    shares = {
        f"split/{split}/{name}": float(count / max(1, counts.sum()))
        for split, counts in counts_by_split.items()
        for name, count in zip(classes, counts, strict=True)
    }
    return shares | {f"class_weight/{name}": float(w) for name, w in zip(classes, weights, strict=True)}
