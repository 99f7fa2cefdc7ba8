"""ROC curves and reliability tables of class probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.calibration import bin_edges, bin_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """ROC curve: false and true positive rates, each (points,) float64, rising from 0 to 1, and the area."""

    fpr: Floats
    tpr: Floats
    auc: float


@dataclass(frozen=True)
class RocCurves:
    """ROC curves of each class against the rest, and their pooled (micro) and averaged (macro) curves."""

    per_class: dict[str, Curve | None]
    micro: Curve | None
    macro: Curve | None


@dataclass(frozen=True)
class Reliability:
    """Images binned by the probability of their predicted class, in bins of equal width on 0..1.

    edges (bins + 1,); counts (bins,) int64; confidence and accuracy (bins,): means, NaN in an empty bin.
    """

    edges: Floats
    counts: Ints
    confidence: Floats
    accuracy: Floats


def check_predictions(
    labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]
) -> tuple[Ints, Floats]:
    """Returns labels (n,) int64 and probabilities (n, k) float64, each row of which sums to 1.

    Raises:
        ValueError: no images, shapes that do not match, labels out of range, rows that are not probabilities.
    """
    truth, chances = np.asarray(labels), np.asarray(probabilities, np.float64)
    if len(truth) == 0:
        raise ValueError("there are no images to score: expected at least one label with its probabilities")
    if truth.ndim != 1 or chances.shape != (len(truth), len(classes)):
        raise ValueError(
            f"labels have shape {truth.shape} and probabilities {chances.shape}: expected (n,) and "
            f"(n, {len(classes)}) for the classes {list(classes)}"
        )
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= len(classes):
        raise ValueError(
            f"labels are {truth.dtype} from {truth.min()} to {truth.max()}: expected integers from 0 to "
            f"{len(classes) - 1}, indices into {list(classes)}"
        )
    sums = chances.sum(axis=1)
    wrong = np.flatnonzero(~((np.abs(sums - 1) < 1e-3) & (chances >= 0).all(axis=1)))
    if len(wrong):
        raise ValueError(
            f"row {wrong[0]} of the probabilities is {chances[wrong[0]].tolist()}: expected values from 0 on "
            f"that sum to 1, as a softmax gives ({len(wrong)} such rows)"
        )
    # A float32 softmax sums to 1 +- 1e-7, which scikit-learn would warn about.
    return truth.astype(np.int64), chances / sums[:, np.newaxis]


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> Reliability:
    """Bins (n,) labels and (n, k) probabilities by the probability of the predicted class, for a reliability
    diagram.

    The bins are those of the calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599).
    """
    truth, chances = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    top, right = chances.max(axis=1), chances.argmax(axis=1) == truth
    place = bin_of(top, bins)
    counts = np.bincount(place, minlength=bins)
    filled = np.where(counts > 0, counts, np.nan)
    return Reliability(
        edges=bin_edges(bins),
        counts=counts,
        confidence=np.bincount(place, weights=top, minlength=bins) / filled,
        accuracy=np.bincount(place, weights=right, minlength=bins) / filled,
    )


def roc(labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> RocCurves:
    """Computes the ROC curve of each class against the rest, and two averages over the classes.

    Micro pools the decisions of all classes into one curve. Macro averages the curves of the classes at equal
    false positive rates; its `auc` is the mean of their areas. A class with no image, or with every image,
    has no curve (None) and is left out of macro; if all images are of one class, there are no averages.

    Args:
        labels: (n,) integers, indices into `classes`.
        probabilities: (n, k); rows sum to 1.
        classes: k names.

    Raises:
        ValueError: no images, shapes that do not match, labels out of range, rows that are not probabilities.
    """
    truth, chances = check_predictions(labels, probabilities, classes)
    actual = truth[:, np.newaxis] == np.arange(len(classes))
    per_class = {
        name: _curve(actual[:, i], chances[:, i]) if 0 < actual[:, i].sum() < len(truth) else None
        for i, name in enumerate(classes)
    }
    known = [curve for curve in per_class.values() if curve is not None]
    if not known:
        return RocCurves(per_class, None, None)
    grid = np.unique(np.concatenate([curve.fpr for curve in known]))
    mean = np.mean([np.interp(grid, curve.fpr, curve.tpr) for curve in known], axis=0)
    # Interpolation keeps only the top of each curve's first, vertical step: its foot is put back.
    macro = Curve(np.append(0.0, grid), np.append(0.0, mean), float(np.mean([c.auc for c in known])))
    return RocCurves(per_class, _curve(actual.ravel(), chances.ravel()), macro)


def _curve(actual: NDArray[np.bool_], chances: Floats) -> Curve:
    from sklearn.metrics import auc, roc_curve

    fpr, tpr, _ = roc_curve(actual, chances)
    return Curve(fpr, tpr, float(auc(fpr, tpr)))
