"""Small linear model of features that show no brain, and how well it tells labels: what a network could do
without looking at the brain.

A low figure is no proof that there is no shortcut: the model is linear, and sees few numbers of an image.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.intervals import Floats, GroupBootstrap, Interval, ratio

FOLDS = 5
"""Number of folds of the cross-validation; fewer, if a label has fewer groups."""

PENALTY = 1.0
"""Inverse strength of the model's L2 penalty, on standardised features: scikit-learn's own."""

MAX_STEPS = 100
"""Largest number of the fit's steps. More changed no figure."""

MAX_KINDS = 16
"""Largest number of values of a feature that are told from each other as kinds; the rarer ones are one kind.
"""


@dataclass(frozen=True)
class Told:
    """How well a model told the labels of images from groups that it had not seen."""

    accuracy: Interval
    against_rest: dict[str, Interval]
    """For each label, the mean of the shares of its images and of all others that were told right (balanced
    accuracy); 0.5 by chance."""


class LinearModel:
    """Multinomial logistic regression on standardised features and on one indicator for each kind; unknown
    features (NaN) take the mean, so that it has no influence that they are unknown."""

    def __init__(self, features: ArrayLike, kinds: ArrayLike, labels: ArrayLike) -> None:
        """Fits the model to (n, m) features and (n,) labels, two different ones at least; `kinds`, (m,) bool,
        tells which features are kinds."""
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        numbers = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
        indicators = OneHotEncoder(
            max_categories=MAX_KINDS, handle_unknown="infrequent_if_exist", sparse_output=False
        )
        columns = np.asarray(kinds, bool)
        parts = [
            ("numbers", numbers, np.arange(len(columns))),
            ("kinds", indicators, np.flatnonzero(columns)),
        ]
        self._model = make_pipeline(
            ColumnTransformer(parts), LogisticRegression(C=PENALTY, max_iter=MAX_STEPS)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged, which is no matter here
            self._model.fit(np.asarray(features, np.float64), np.asarray(labels))

    @property
    def labels(self) -> NDArray[Any]:
        """The labels that it knows, (k,), sorted."""
        return np.asarray(self._model[-1].classes_)

    def probabilities(self, features: ArrayLike) -> Floats:
        """Returns the probability of each of `labels` for (n, m) features: (n, k)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds that it does not know
            return np.asarray(self._model.predict_proba(np.asarray(features, np.float64)))


@dataclass(frozen=True)
class Folds:
    """Parts of images for a cross-validation that cuts no group."""

    places: tuple[NDArray[np.int64], ...]
    """Positions of the images held out in each fold."""
    labels: NDArray[np.int64]
    """Label of each image, (n,), numbered from 0."""
    names: tuple[str, ...]
    groups: NDArray[np.int64]

    @property
    def majority(self) -> float:
        """Share of the images that have the most frequent label: the accuracy of always naming it."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yields the positions that are learned from, and those held out."""
        for held in self.places:
            yield np.setdiff1d(np.arange(len(self.labels)), held), held


def draw_folds(labels: Sequence[str], groups: ArrayLike, seed: int) -> Folds | str:
    """Deals images to folds, stratified by label, without cutting a group; or returns why it cannot.

    By scikit-learn's StratifiedGroupKFold: five folds, or as many as the label with the fewest groups has.

    Args:
        labels: name of each image's label, (n,).
        groups: number of each image's group, (n,).
        seed: seed of the shuffle.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names, codes = np.unique(np.asarray(labels, str), return_inverse=True)
    numbers = np.asarray(groups, np.int64)
    if len(names) < 2:
        return f"all images are of one: {names[0]}" if len(names) else "there are no images"
    counts = [len(np.unique(numbers[codes == k])) for k in range(len(names))]
    fewest = int(np.argmin(counts))
    if counts[fewest] < 2:
        return (
            f"{names[fewest]} has one group of patients and copies, and two are needed: one to be tested on"
        )
    drawn = StratifiedGroupKFold(min(FOLDS, counts[fewest]), shuffle=True, random_state=seed)
    places = tuple(np.asarray(held, np.int64) for _, held in drawn.split(codes, codes, numbers))
    folds = Folds(places, codes.astype(np.int64), tuple(map(str, names)), numbers)
    for learned, _ in folds:
        if len(missing := np.setdiff1d(codes, codes[learned])):
            return f"the groups are too few or too unequal: in a fold none of {names[missing[0]]} is left"
    return folds


def cross_validate(features: ArrayLike, kinds: ArrayLike, folds: Folds, bootstrap: GroupBootstrap) -> Told:
    """Returns how well a model tells the labels from (n, m) features; each image is predicted once, by a
    model that saw none of its group.

    Args:
        features: NaN where unknown.
        kinds: which features are kinds, (m,) bool.
        folds: from `draw_folds`.
        bootstrap: resamples of the same images' groups.
    """
    numbers = np.asarray(features, np.float64)
    names = np.arange(len(folds.names))
    chosen = np.zeros(len(numbers), np.int64)
    named = np.zeros((len(numbers), len(names)), bool)
    for learned, held in folds:
        model = LinearModel(numbers[learned], kinds, folds.labels[learned])
        chances = model.probabilities(numbers[held])
        chosen[held] = chances.argmax(axis=1)
        # Above its share of the images, a label is likelier than if both sides had as many.
        named[held] = chances > np.bincount(folds.labels[learned]) / len(learned)
    true = folds.labels[:, np.newaxis] == names
    against = {}
    for k, name in enumerate(folds.names):
        parts = [true[:, k] & named[:, k], true[:, k], ~true[:, k] & ~named[:, k], ~true[:, k]]
        against[name] = bootstrap.statistic(_balanced, np.stack(parts, axis=1))
    return Told(bootstrap.share(chosen == folds.labels), against)


def _balanced(sums: Floats) -> Floats:
    """Returns the balanced accuracy of sums, (..., 4): those told right of a label and all of it, then of the
    others."""
    return (ratio(sums[..., 0], sums[..., 1]) + ratio(sums[..., 2], sums[..., 3])) / 2


def side_by_side(views: Mapping[str, ArrayLike], names: Sequence[str]) -> Floats:
    """Returns the features of some views, (n, m) each, side by side."""
    return np.concatenate([np.asarray(views[name], np.float64) for name in names], axis=1)
