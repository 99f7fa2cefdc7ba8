"""audit.json: counts of the images that preparation found, used and left out; and their table for a
terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brain_ray.config import DataConfig
from brain_ray.data.copies.clusters import doubtful
from brain_ray.data.copies.placement import TRANSFORMS, VIEWS
from brain_ray.data.copies.recall import RECALL
from brain_ray.data.file_names import image_name, is_no_image
from brain_ray.data.group_counts import count_groups, describe_groups, describe_leaks
from brain_ray.data.intensity import FEW_LEVELS
from brain_ray.data.registry.summary import as_text as describe_known
from brain_ray.data.rows import SPLITS
from brain_ray.data.shortcuts.measure import describe as describe_shortcuts
from brain_ray.data.sources.listing import Listing
from brain_ray.data.split import CONFLICT, COPIED, SAME_PATIENT, Assignment
from brain_ray.errors import MAX_NAMES, list_names
from brain_ray.fingerprints import digest
from brain_ray.scoring.decisions import wrap

MAX_FLAGGED = 50
"""Largest number of images of another kind that audit.json names."""


def account(
    manifest: pd.DataFrame,
    pairs: pd.DataFrame,
    near_misses: int,
    data: DataConfig,
    listing: Listing,
    assignment: Assignment,
) -> dict[str, Any]:
    """Returns the content of `audit.json`, all counts.

    Args:
        manifest: one row per file, with the columns of `manifest.parquet`.
        pairs: verified pairs of copies with transform, kind, split_a, split_b.
        near_misses: number of pairs just below the threshold.
        data: classes and leaks.
        listing: the source's files, and what was found beside them.
        assignment: the splits, and the leak policy that was followed.
    """

    def per_class(rows: pd.DataFrame, weights: pd.Series | None = None) -> dict[str, int]:
        ones = pd.Series(1, index=rows.index) if weights is None else weights
        return {name: int(ones[rows["class_name"] == name].sum()) for name in data.classes}

    usable = manifest[manifest["split"] != "rejected"]
    reasons = manifest.loc[manifest["split"] == "dropped", "reason"].value_counts()
    training = manifest[manifest["split"] == "train"]
    used = {split: manifest[manifest["split"] == split] for split in SPLITS}
    groups = {**used, "dropped": manifest[manifest["split"] == "dropped"]}
    groups["rejected"] = manifest[manifest["split"] == "rejected"]
    return {
        "files": len(manifest),
        "used": sum(len(rows) for rows in used.values()),
        "rejected": len(manifest) - len(usable),
        "dropped": int(reasons.sum()),
        "no_contour": int((~usable["has_box"].astype(bool)).sum()),
        "few_grey_levels": _count_few_levels(usable),
        "looks_like": {
            kind: {
                "images": len(rows),
                "splits": {split: per_class(rows[rows["split"] == split]) for split in (*SPLITS, "dropped")},
                "first": _names(rows.head(MAX_FLAGGED)),
            }
            for kind, rows in usable[usable["looks_like"] != ""].groupby("looks_like")
        },
        "modalities": _count_modalities(usable),
        "splits": {split: per_class(rows) for split, rows in groups.items()},
        "balanced_train": per_class(training, training["copies"] + 1),
        "copies": _count_copies(usable, pairs, near_misses),
        "units": count_groups(manifest, data.classes),
        "leaks": {
            "policy": assignment.leaks,
            "asked": data.leaks,
            "cost": assignment.cost,
            "dropped_from_train": int(reasons.get(COPIED["test"], 0)),
            "dropped_for_valid": int(reasons.get(COPIED["valid"], 0)),
            "patients_dropped_from_train": int(reasons.get(SAME_PATIENT["test"], 0)),
            "patients_dropped_for_valid": int(reasons.get(SAME_PATIENT["valid"], 0)),
            "conflict_dropped": int(reasons.get(CONFLICT, 0)),
        },
        "source": {"notes": list(listing.notes), "folders": dict(listing.folders)},
        "left_out": listing.left_out.to_dict("records"),
        "no_images": [path for path in groups["rejected"]["path"] if is_no_image(path)],
        "sha256": {
            split: digest(rows[["path", "label", "file_sha256", "copies"]].to_numpy().tolist())
            for split, rows in used.items()
        },
    }


def as_text(found: Mapping[str, Any], assignment: Assignment) -> str:
    """Formats audit.json for a terminal: images, patients and groups per split and class, copies, leaks."""
    classes = list(found["balanced_train"])
    rows = dict(found["splits"])
    if found["balanced_train"] != rows["train"]:
        rows["train, balanced"] = found["balanced_train"]
    width = max(12, *(len(name) + 2 for name in classes))
    lines = [" " * 16 + "".join(f"{name:>{width}}" for name in [*classes, "total"])]
    for name, counts in rows.items():
        cells = [*counts.values(), sum(counts.values())]
        lines.append(f"{name:<16}" + "".join(f"{cell:>{width}}" for cell in cells))
    lines += describe_groups(found["units"], classes, width)
    lines += [line for known in found["known_sets"] for line in describe_known(known)]
    copies, leaks = found["copies"], found["leaks"]
    across, turned = copies["across_splits"], copies["by_transform"]
    lines += [
        f"{found['files']} files: {found['used']} used, {found['dropped']} dropped, "
        f"{found['rejected']} rejected; {found['no_contour']} kept whole, without a contour of the head",
        f"copies: {copies['second_copies']} second copies in {copies['clusters']} clusters; pairs: "
        + ", ".join(f"{count} {name}" for name, count in turned.items() if count or name == "identity"),
        f"across the source's splits: {across['test_images']} test images have a copy among "
        f"{across['train_images']} training images; "
        f"clusters with two labels: {len(copies['label_conflicts'])}",
        *describe_leaks(assignment),
        f"leaks={leaks['policy']}: dropped from training: {leaks['dropped_from_train']} copies of test "
        f"images, {leaks['patients_dropped_from_train']} others of their patients, "
        f"{leaks['conflict_dropped']} for another label",
    ]
    few = found["few_grey_levels"]
    if few["images"]:
        names = list_names(few["first"], few["images"])
        lines.append(
            f"fewer than {FEW_LEVELS} grey levels, so masks, drawings or darkened by a few bright pixels: "
            f"{few['images']} images: {names}"
        )
    lines += _describe_kinds(found["looks_like"])
    others = {name: count for name, count in found["modalities"].items() if name != "MR"}
    if others:
        told = ", ".join(f"{count} {name}" for name, count in others.items())
        lines.append(f"not MR, by their DICOM headers: {told}")
    if leaks["dropped_for_valid"] or leaks["patients_dropped_for_valid"]:
        lines.append(
            f"also dropped from training: {leaks['dropped_for_valid']} copies of validation images, "
            f"{leaks['patients_dropped_for_valid']} others of their patients"
        )
    lines += [wrap(line, indent="  ") for line in describe_shortcuts(found.get("shortcuts", {}))]
    lines += found["source"]["notes"]
    lines += _left_out(found["left_out"])
    if names := found["no_images"]:
        lines.append(f"rejected, no images by their names: {len(names)} files: {list_names(names)}")
    return "\n".join(lines)


def _left_out(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each reason to leave files of the source out."""
    lines = []
    for reason in dict.fromkeys(row["reason"] for row in rows):
        same = [row for row in rows if row["reason"] == reason]
        number = sum(row["files"] for row in same)
        where = [
            f"{'the source itself' if row['path'] == '.' else row['path']} ({row['first'] or row['files']})"
            for row in same
        ]
        lines.append(f"left out, {number} file{'s' * (number != 1)}, {reason}: {list_names(where)}")
    return lines


def _count_few_levels(usable: pd.DataFrame) -> dict[str, object]:
    """Returns how many images have few grey levels, and the names of the first."""
    few = usable[usable["grey_levels"] < FEW_LEVELS]
    return {"images": len(few), "first": _names(few.head(MAX_NAMES))}


def _names(images: pd.DataFrame) -> list[str]:
    """Returns the names of images, in their order."""
    return [image_name(path, frame) for path, frame in zip(images["path"], images["frame"], strict=True)]


def _describe_kinds(kinds: Mapping[str, Any]) -> list[str]:
    """Returns a line for each kind other than MR that images look like."""
    lines = []
    for kind, flagged in kinds.items():
        counts = pd.DataFrame(flagged["splits"]).sum(axis=1)
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        lines.append(
            f"look like {kind}, not MR, by a closed bright ring of bone: {flagged['images']} images "
            f"({told}), flagged for a look, none left out: {list_names(flagged['first'], flagged['images'])}"
        )
    return lines


def _count_modalities(usable: pd.DataFrame) -> dict[str, int]:
    """Returns the number of images of each modality that their headers tell."""
    if "modality" not in usable:
        return {}
    told = usable["modality"].dropna().value_counts()
    return {str(name): int(count) for name, count in told.items() if name}


def _count_copies(manifest: pd.DataFrame, pairs: pd.DataFrame, near_misses: int) -> dict[str, object]:
    copied = manifest[manifest["cluster_size"] > 1]
    tested = copied["source_split"] == "test"
    across = copied[
        copied["cluster"].isin(copied.loc[tested, "cluster"])
        & copied["cluster"].isin(copied.loc[~tested, "cluster"])
    ]
    labels = copied[~copied["chain"]].groupby("cluster")["class_name"].nunique()
    conflicts = copied[copied["cluster"].isin(labels[labels > 1].index)]
    return {
        "pairs": len(pairs),
        "clusters": int(copied["cluster"].nunique()),
        "images_in_clusters": len(copied),
        "second_copies": len(manifest) - int(manifest["cluster"].nunique()),
        "largest_cluster": int(manifest["cluster_size"].max()) if len(manifest) else 0,
        "by_transform": {name: int((pairs["transform"] == name).sum()) for name in TRANSFORMS},
        "by_view": {name: int((pairs["view"] == name).sum()) for name in VIEWS},
        "by_kind": {k: int((pairs["kind"] == k).sum()) for k in ("same bytes", "same pixels", "near")},
        "across_splits": {
            "pairs": int((pairs["split_a"] != pairs["split_b"]).sum()),
            "test_images": int((across["source_split"] == "test").sum()),
            "train_images": int((across["source_split"] != "test").sum()),
        },
        "label_conflicts": [
            {
                "cluster": int(str(number)),
                "classes": sorted(set(group["class_name"])),
                "paths": group["path"].tolist(),
            }
            for number, group in conflicts.groupby("cluster")
        ],
        "near_misses": near_misses,
        "recall": RECALL,
        "doubtful_clusters": doubtful(manifest),
    }
