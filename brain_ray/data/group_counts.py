"""Counts of patients, sources and groups of a data set, for audit.json and a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brain_ray.data.rows import SPLITS
from brain_ray.data.split import MAX_COST, Assignment


def count_groups(manifest: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Counts patients and groups by split and class, and what stands in several splits of the source.

    Args:
        manifest: one row per image, with class_name, split, source_split, patient ("" unknown), source (""
            unknown), group and fold (-1: none).
        classes: names of the classes.

    Returns:
        JSON object: `patients` and `groups`, each {split: {class: count, "total": count}}; `with_patient`
            (images); `num_patients`; `across_source_splits` (patients in the source's test split and in
            another of its splits, the test images of these, and those of all known patients); `sources`
            ({source: images}); `folds` ({fold: {"images": count, "groups": count}}); `cut_groups` (groups
            that are in several splits or folds).
    """
    used = manifest[manifest["split"].isin(SPLITS)]
    known = manifest[(manifest["patient"] != "") & (manifest["split"] != "rejected")]

    def count(rows: pd.DataFrame, column: str) -> dict[str, dict[str, int]]:
        found = {}
        for split in SPLITS:
            own = rows[rows["split"] == split]
            each = {name: int(own.loc[own["class_name"] == name, column].nunique()) for name in classes}
            found[split] = each | {"total": int(own[column].nunique())}
        return found

    tested = known["source_split"] == "test"
    both = set(known.loc[tested, "patient"]) & set(known.loc[~tested, "patient"])
    dealt = used[used["fold"] >= 0]
    return {
        "patients": count(known, "patient"),
        "groups": count(used, "group"),
        "with_patient": len(known),
        "num_patients": int(known["patient"].nunique()),
        "across_source_splits": {
            "patients": len(both),
            "test_images": int((tested & known["patient"].isin(both)).sum()),
            "of_test_images": int(tested.sum()),
        },
        "sources": {str(k): int(v) for k, v in known_sources(used).items()},
        "folds": {
            str(number): {"images": len(rows), "groups": int(rows["group"].nunique())}
            for number, rows in dealt.groupby("fold")
        },
        "cut_groups": {
            "splits": int((used.groupby("group")["split"].nunique() > 1).sum()),
            "folds": int((dealt.groupby("group")["fold"].nunique() > 1).sum()),
        },
    }


def known_sources(rows: pd.DataFrame) -> pd.Series:
    """Counts images by source, the largest first, without those of an unknown source."""
    return rows.loc[rows["source"] != "", "source"].value_counts()


def describe_groups(found: Mapping[str, Any], classes: Sequence[str], width: int) -> list[str]:
    """Returns the lines of a terminal's table on patients and groups, below that of images.

    Args:
        found: the result of `count_groups`.
        classes: names of the classes, the columns.
        width: width of a column in characters.
    """
    lines = []
    for name in ("patients", "groups"):
        if name == "patients" and not found["num_patients"]:
            continue
        for split in SPLITS:
            cells = [found[name][split][column] for column in (*classes, "total")]
            lines.append(f"{f'{split}, {name}':<16}" + "".join(f"{cell:>{width}}" for cell in cells))
    across = found["across_source_splits"]
    if found["num_patients"]:
        shared = (
            f"; {across['patients']} of them are in the source's test split and in another, "
            f"{across['test_images']} test images"
        )
        lines.append(
            f"patients: {found['num_patients']}, of {found['with_patient']} images"
            + (shared if across["of_test_images"] else "")
        )
    if found["sources"]:
        told = [f"{name} {count} images" for name, count in list(found["sources"].items())[:8]]
        more = len(found["sources"]) - len(told)
        lines.append(f"sources: {', '.join(told)}{f' and {more} more' if more > 0 else ''}")
    if found["folds"]:
        told = [f"{number}: {fold['images']} ({fold['groups']})" for number, fold in found["folds"].items()]
        cut = found["cut_groups"]["folds"]
        lines.append(
            f"folds, images (groups): {', '.join(told)}"
            + (f"; {cut} groups are in several folds" if cut else "")
        )
    return lines


def describe_leaks(assignment: Assignment) -> list[str]:
    """Returns two lines on what `leaks=auto` chose and why; none if it had no choice to make."""
    if not assignment.cost:
        return []
    told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in assignment.cost.items() if share > 0)
    if assignment.leaks == "regroup":
        return [
            "leaks=auto: all splits are drawn anew over whole groups of patients and copies (regroup): the "
            "test split is not the source's",
            "  since to drop what is shared with the source's test split would cost a class more than "
            f"{100 * MAX_COST:.0f} % of its training images: {told}",
        ]
    return [
        "leaks=auto: training images that share a patient or a copy with the test split are dropped (drop)",
        f"  since no class loses more than {100 * MAX_COST:.0f} % of its training images"
        + (f": {told}" if told else ""),
    ]
