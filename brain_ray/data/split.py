"""Splits, leak policy and balancing: the split of each image, or why it is left out. Pure functions.

Pure functions of labels, clusters and a seed: the same splits can be drawn again from the manifest.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brain_ray.config import DataConfig
from brain_ray.errors import RunError

Ints = NDArray[np.int64]

COPIED = {"test": "a copy is in the test split", "valid": "a copy is in the validation split"}
"""Reason by split for dropping an image with a copy in that split."""


def assign(images: pd.DataFrame, data: DataConfig, seed: int) -> pd.DataFrame:
    """Returns `split` ("train", "valid", "test", "dropped") and `reason` for each image, with the same index.

    Unless `leaks=keep`, no test image shares a cluster with a training or validation image, whether the
    source has a test folder or the test split is drawn here.

    Args:
        images: usable images with path, label, source_split ("train", "valid", "test", or "": as of "train")
            and cluster.
        data: leaks, conflicts, split_by, valid_fraction, test_fraction.
        seed: seed of the draws.

    Raises:
        RunError: `leaks=fail` and there are some, or a class is left without a training or validation image.
    """
    source = images["source_split"].replace("", "train")
    result = pd.DataFrame({"split": source, "reason": ""}, index=images.index)
    regroup = data.leaks == "regroup"
    if data.conflicts == "drop":
        conflicting = images.groupby("cluster")["label"].transform("nunique") > 1
        _drop(result, conflicting & (regroup | (source != "test")), "a copy carries another label")
    if regroup:
        result.loc[result["split"] != "dropped", "split"] = "train"
    else:
        _obey_leaks(images, result, data.leaks)
    has_test, has_valid = bool((source == "test").any()), bool((source == "valid").any())
    if regroup or not has_test:
        fraction = float((source == "test").mean()) if has_test else data.test_fraction
        by = data.split_by if data.leaks == "keep" else "cluster"
        _draw(images, result, "test", fraction, by, seed)
    if regroup or not has_valid:
        fraction = float((source[source != "test"] == "valid").mean()) if has_valid else data.valid_fraction
        _draw(images, result, "valid", fraction, "cluster" if regroup else data.split_by, seed)
    _check_classes(images, result, data, has_valid)
    return result


def _drop(result: pd.DataFrame, rows: pd.Series, reason: str) -> None:
    result.loc[rows, "split"] = "dropped"
    result.loc[rows, "reason"] = reason


def _obey_leaks(images: pd.DataFrame, result: pd.DataFrame, leaks: str) -> None:
    """Drops or refuses copies of the source's test images, then training copies of its validation images."""
    for held, learned in (("test", ("train", "valid")), ("valid", ("train",))):
        copied = images["cluster"].isin(images.loc[result["split"] == held, "cluster"])
        leaking = copied & result["split"].isin(learned)
        if leaks == "fail" and leaking.any():
            first = ", ".join(images.loc[leaking, "path"].head(10))
            both = "and validation " if (result.loc[leaking, "split"] == "valid").any() else ""
            name = "validation" if held == "valid" else held
            raise RunError(
                f"{int(leaking.sum())} training {both}images have a copy in the {name} split: {first}; "
                "set --data.leaks to drop, regroup or keep"
            )
        if leaks == "drop":
            _drop(result, leaking, COPIED[held])


def _draw(
    images: pd.DataFrame, result: pd.DataFrame, split: str, fraction: float, by: str, seed: int
) -> None:
    """Moves a share of every class from the training split to another one."""
    training = result["split"] == "train"
    chosen = _hold_out(images[training], fraction, by, seed)
    result.loc[chosen, "split"] = split


def _hold_out(images: pd.DataFrame, fraction: float, split_by: str, seed: int) -> pd.Index:
    """Draws a share of every class; returns its index."""
    if fraction == 0.0 or images.empty:
        return images.index[:0]
    if split_by == "image":
        return images.index[hold_out_images(images["label"].to_numpy(np.int64), fraction, seed)]
    return images.index[
        hold_out_clusters(
            images["label"].to_numpy(np.int64), images["cluster"].to_numpy(np.int64), fraction, seed
        )
    ]


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


def hold_out_clusters(labels: Ints, clusters: Ints, fraction: float, seed: int) -> Ints:
    """Draws about `fraction` of each class from (n,) labels without cutting a cluster; returns positions,
    int64.

    Clusters are taken in random order, class by class, as long as they fit into the class's share: the share
    is met to within the size of its smallest clusters, and at least one small cluster is taken.
    """
    rng = np.random.default_rng(seed)
    names, first, inverse, sizes = np.unique(
        clusters, return_index=True, return_inverse=True, return_counts=True
    )
    held = np.zeros(len(names), bool)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels[first] == label))
        room = round(fraction * int((labels == label).sum()))
        for number in own:
            if sizes[number] <= room:
                held[number] = True
                room -= sizes[number]
        if not held[own].any() and len(own) > 1:
            held[own[np.argmin(sizes[own])]] = True
    return np.flatnonzero(held[inverse]).astype(np.int64)


def _check_classes(images: pd.DataFrame, result: pd.DataFrame, data: DataConfig, has_valid: bool) -> None:
    needed = ["train", "valid"] if data.valid_fraction or has_valid else ["train"]
    for split in needed:
        counts = images.loc[result["split"] == split, "label"].value_counts()
        empty = [name for label, name in enumerate(data.classes) if not counts.get(label, 0)]
        if empty:
            dropped = result.loc[result["split"] == "dropped", "reason"].value_counts().to_dict()
            raise RunError(
                f"no image is left in the {split} split of {empty}; left out: {dropped or 'none'}; "
                "add images, or set --data.leaks or --data.split-by"
            )


def balancing_copies(images: pd.DataFrame, balance_to: int | None) -> Ints:
    """Returns the number of augmented copies of each training image, (n,), that fill its class up.

    Each image of a class gives as many copies as the others, or one more: the first in order.
    """
    copies = np.zeros(len(images), np.int64)
    if balance_to is None:
        return copies
    labels = images["label"].to_numpy(np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        missing = max(0, balance_to - len(own))
        copies[own] = missing // len(own)
        copies[own[: missing % len(own)]] += 1
    return copies
