"""Splits, leak policy and balancing: the split of each image, or why it is left out. Pure functions.

Pure functions of labels, clusters, groups and a seed: the same splits can be drawn again from the manifest.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from brain_ray.config import DataConfig
from brain_ray.data.groups import Ints, hold_out_groups, hold_out_images
from brain_ray.errors import RunError

COPIED = {"test": "a copy is in the test split", "valid": "a copy is in the validation split"}
"""Reason by split for dropping an image with a copy in that split."""

SAME_PATIENT = {"test": "its patient is in the test split", "valid": "its patient is in the validation split"}
"""Reason by split for dropping an image without a copy in that split, of whose group an image is there."""

CONFLICT = "a copy carries another label"
"""Reason for dropping an image that has a copy with another label."""

NOT_SCORED = "the source has a test split, and only that is scored"
"""Reason for leaving an image of an external set out."""

MAX_COST = 0.25
"""Share of a class's training images up to which `leaks=auto` drops them."""


@dataclass(frozen=True)
class Assignment:
    """Splits of the usable images, and the leak policy that was followed."""

    table: pd.DataFrame
    """`split` ("train", "valid", "test", "dropped") and `reason`, with the images' index."""
    leaks: str
    """Policy that was followed: that of `data.leaks`; for `auto`, `drop` or `regroup`."""
    cost: dict[str, float]
    """Share of its training images, 0 to 1, that each class would lose by `drop`; {} unless `auto` chose."""


def assign(images: pd.DataFrame, data: DataConfig, seed: int) -> Assignment:
    """Assigns each image to a split, or drops it.

    Unless `leaks=keep`, no test image shares a group with a training or validation image, whether the source
    has a test folder or the test split is drawn here. Splits that are drawn here cut no group, except with
    `split_by=image`.

    Args:
        images: usable images with path, label, source_split ("train", "valid", "test", or "": as of "train"),
            cluster (of copies), chain (see `find_copies`) and group (of patients and clusters, see
            `join_groups`).
        data: leaks, conflicts, split_by, valid_fraction, test_fraction; or external.
        seed: seed of the draws.

    Raises:
        RunError: `leaks=fail` and there are some, or a class is left without a training or validation image.
    """
    if data.external:
        return Assignment(_score_only(images["source_split"]), "keep", {})
    images = images.assign(source_split=images["source_split"].replace("", "train"))
    leaks, cost = data.leaks, {}
    given = bool(images["source_split"].isin(["test", "valid"]).any())
    if leaks == "auto" and not given:  # whole groups are drawn: nothing is shared
        leaks = "drop"
    elif leaks == "auto":
        cost = _cost_of_dropping(images, data)
        leaks = "regroup" if max(cost.values(), default=0.0) > MAX_COST else "drop"
    source = images["source_split"]
    result = pd.DataFrame({"split": source, "reason": ""}, index=images.index)
    regroup = leaks == "regroup"
    _drop_conflicts(images, result, data, regroup)
    if regroup:
        result.loc[result["split"] != "dropped", "split"] = "train"
    else:
        _obey_leaks(images, result, leaks)
    has_test, has_valid = bool((source == "test").any()), bool((source == "valid").any())
    if regroup or not has_test:
        fraction = float((source == "test").mean()) if has_test else data.test_fraction
        by = data.split_by if leaks == "keep" else "cluster"
        _draw(images, result, "test", fraction, by, seed)
    if regroup or not has_valid:
        fraction = float((source[source != "test"] == "valid").mean()) if has_valid else data.valid_fraction
        _draw(images, result, "valid", fraction, "cluster" if regroup else data.split_by, seed)
    _check_classes(images, result, data, has_valid)
    return Assignment(result, leaks, cost)


def _score_only(source: pd.Series) -> pd.DataFrame:
    """Returns the splits of an external set: test, and dropped."""
    scored = (source == "test") | (not (source == "test").any())
    result = pd.DataFrame({"split": "test", "reason": ""}, index=source.index)
    _drop(result, ~scored, NOT_SCORED)
    return result


def _drop(result: pd.DataFrame, rows: pd.Series, reason: str) -> None:
    result.loc[rows, "split"] = "dropped"
    result.loc[rows, "reason"] = reason


def _drop_conflicts(images: pd.DataFrame, result: pd.DataFrame, data: DataConfig, regroup: bool) -> None:
    if data.conflicts == "drop":
        # In a chain, slices lie next to each other, and a label may change between them.
        conflicting = (images.groupby("cluster")["label"].transform("nunique") > 1) & ~images["chain"]
        _drop(result, conflicting & (regroup | (images["source_split"] != "test")), CONFLICT)


def _cost_of_dropping(images: pd.DataFrame, data: DataConfig) -> dict[str, float]:
    """Returns the share of each class's training images, 0 to 1, that `leaks=drop` drops."""
    result = pd.DataFrame({"split": images["source_split"], "reason": ""}, index=images.index)
    _drop_conflicts(images, result, data, regroup=False)
    before = images.loc[result["split"] == "train", "label"].value_counts()
    _obey_leaks(images, result, "drop")
    after = images.loc[result["split"] == "train", "label"].value_counts()
    return {
        name: 1.0 - int(after.get(label, 0)) / int(before[label])
        for label, name in enumerate(data.classes)
        if label in before.index
    }


def _obey_leaks(images: pd.DataFrame, result: pd.DataFrame, leaks: str) -> None:
    """Drops or refuses images of the groups of the source's test images, then training images of the groups
    of its validation images."""
    for held, learned in (("test", ("train", "valid")), ("valid", ("train",))):
        inside, outside = result["split"] == held, result["split"].isin(learned)
        leaking = outside & images["group"].isin(images.loc[inside, "group"])
        if leaks == "fail" and leaking.any():
            first = ", ".join(images.loc[leaking, "path"].head(10))
            both = "and validation " if (result.loc[leaking, "split"] == "valid").any() else ""
            name = "validation" if held == "valid" else held
            raise RunError(
                f"{int(leaking.sum())} training {both}images have a copy or another image of their patient "
                f"in the {name} split: {first}; set --data.leaks to auto, drop, regroup or keep"
            )
        if leaks == "drop":
            copied = leaking & images["cluster"].isin(images.loc[inside, "cluster"])
            _drop(result, copied, COPIED[held])
            _drop(result, leaking & ~copied, SAME_PATIENT[held])


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
    labels, groups = (images[name].to_numpy(np.int64) for name in ("label", "group"))
    return images.index[hold_out_groups(labels, groups, fraction, seed)]


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
