"""Groups of images that belong together, and draws of validation, test and folds that cut none. Pure
functions."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brain_ray.errors import RunError

Ints = NDArray[np.int64]


def join_groups(clusters: Ints, *patients: pd.Series) -> Ints:
    """Joins clusters of copies that show one patient; returns the group of each image, (n,), from 0 on.

    Args:
        clusters: cluster of each image, (n,), from 0 on.
        patients: patient of each image, "" where unknown; several columns if several sources tell.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(clusters.max(initial=-1)) + 1  # a node for each cluster, then one for each patient
    ends = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for told in patients:
        known = np.flatnonzero(told.to_numpy() != "")
        numbers, names = pd.factorize(told.to_numpy()[known])
        ends.append((clusters[known], size + numbers))
        size += len(names)
    rows, columns = (np.concatenate(each) for each in zip(*ends, strict=True))
    edges = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    _, joined = connected_components(edges, directed=False)
    groups, _ = pd.factorize(joined[clusters])
    return np.asarray(groups, np.int64)


def hold_out_images(labels: Ints, fraction: float, seed: int) -> Ints:
    """Draws `fraction` of (n,) labels, stratified and shuffled, as scikit-learn does; returns sorted
    positions, int64."""
    from sklearn.model_selection import (
        train_test_split,
    )  # its import takes a second that workers need not wait

    try:
        _, held = train_test_split(
            np.arange(len(labels)),
            train_size=1.0 - fraction,
            stratify=labels,
            random_state=seed,
            shuffle=True,
        )
    except ValueError as error:
        counts = np.bincount(labels).tolist()
        raise RunError(f"cannot hold out {fraction:.0%} of classes with {counts} images: {error}") from error
    return np.sort(np.asarray(held, np.int64))


def hold_out_groups(labels: Ints, groups: Ints, fraction: float, seed: int) -> Ints:
    """Draws about `fraction` of each class from (n,) labels without cutting a group; returns positions,
    int64.

    Groups are taken in random order, class by class (a group with several labels in the turn of its first
    image's), as long as they fit into the shares of all their classes; then the smallest that is left, if
    shares are nearer with it. So a share is met to within half of the size of its class's smallest groups.
    Of each class at least one small group is taken.
    """
    rng = np.random.default_rng(seed)
    names, first, inverse, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    classes, codes = np.unique(labels, return_inverse=True)
    members = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(members, (inverse, codes), 1)
    room = np.array([round(fraction * int(count)) for count in members.sum(axis=0)])
    held = np.zeros(len(names), bool)
    for label in range(len(classes)):
        own = rng.permutation(np.flatnonzero(codes[first] == label))
        for number in own:
            if (members[number] <= np.maximum(room, 0)).all():
                held[number] = True
                room -= members[number]
        left = own[~held[own]]
        if not len(left):
            continue
        smallest = left[np.argmin(sizes[left])]
        nearer = np.square(room - members[smallest]).sum() < np.square(room).sum()
        if nearer or (not held[own].any() and len(own) > 1):
            held[smallest] = True
            room -= members[smallest]
    return np.flatnonzero(held[inverse]).astype(np.int64)


def fold_numbers(images: pd.DataFrame, folds: int, seed: int) -> Ints:
    """Deals training and validation images to folds, stratified by label, without cutting a group.

    Uses scikit-learn's StratifiedGroupKFold.

    Args:
        images: images with split, label and group.
        folds: number of folds.
        seed: seed of the shuffle.

    Returns:
        Fold of each image, (n,), 1 to `folds`; -1 for images of other splits.

    Raises:
        RunError: a class has fewer groups than there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    numbers = np.full(len(images), -1, np.int64)
    chosen = np.flatnonzero(images["split"].isin(["train", "valid"]))
    labels, groups = (images[name].to_numpy()[chosen] for name in ("label", "group"))
    fewest = pd.Series(groups).groupby(labels).nunique().min()
    if fewest < folds:
        raise RunError(
            f"a class has {fewest} groups of patients or copies in training and validation, and "
            f"{folds} folds are asked for: lower it to {fewest}, or add patients"
        )
    drawn = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    for number, (_, held) in enumerate(drawn, 1):
        numbers[chosen[held]] = number
    return numbers
