"""What the registry tells of a source: known images and patients, and labels that contradict the set's."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_ray.data.registry.store import Registry
from brain_ray.errors import list_names

TUMOUR = re.compile(r"[\W_]*tumou?rs?$")
"""End of a class's name that is no part of a label."""


def describe(known: pd.Series, registry: Registry) -> pd.DataFrame:
    """Returns what the registry tells of each file.

    Args:
        known: positions in `registry.entries`, or -1, from `recognise`.
        registry: the known images.

    Returns:
        Table with the same index: known_set, known_file, known_label, known_patient (within the set) and
            patient (the stricter `person`, unique among all sets), all "" where the file is not recognised,
            and known_fold, 0 there.
    """
    entries = registry.entries.reindex(known.to_numpy())
    table = pd.DataFrame(
        {
            "known_set": entries["set"],
            "known_file": entries["file"],
            "known_label": entries["label"],
            "known_patient": entries["patient"],
            "patient": entries["set"] + ":" + entries["person"],
        }
    )
    table = table.fillna("").astype("str")
    table["known_fold"] = entries["fold"].fillna(0).astype("int64")
    return table.set_axis(known.index)


def sum_up(files: pd.DataFrame, registry: Registry) -> list[dict[str, Any]]:
    """Returns the findings of each recognised set, for audit.json.

    Args:
        files: usable files, with path, class_name, source_split, and the columns of `describe`.
        registry: the known images.

    Returns:
        For each set its description, and the counts of its recognised images, slices and patients; by_split
            and by_orientation (images); patients_in_several_splits; test_images, and how many of them show a
            patient who is in training or validation too; contradictions (path, given label, source's label);
            and other_classes, recognised images by class whose name the set does not have.
    """
    return [_sum_up(files[files["known_set"] == name], registry, name) for name in _recognised(files)]


def _recognised(files: pd.DataFrame) -> list[str]:
    return [name for name in files["known_set"].value_counts().index.tolist() if name]


def _sum_up(files: pd.DataFrame, registry: Registry, name: str) -> dict[str, Any]:
    entries = registry.entries[registry.entries["set"] == name]
    labels = set(entries["label"])
    given = files["class_name"].map(label_of)
    known = given.isin(labels)
    wrong = files[known & (given != files["known_label"])]
    # The set's own, stricter than a source's patients may be.
    files = files.assign(patient=files["known_file"].map(entries.set_index("file")["person"]))
    splits = files.groupby("patient")["source_split"].nunique()
    learned = files.loc[files["source_split"] != "test", "patient"]
    tested = files[files["source_split"] == "test"]
    return {
        **registry.about[name],
        "images": len(files),
        "slices": int(files["known_file"].nunique()),
        "of_slices": len(entries),
        "patients": int(files["patient"].nunique()),
        "of_patients": int(entries["person"].nunique()),
        "by_split": {str(k): int(v) for k, v in files["source_split"].value_counts().items()},
        "by_orientation": {str(k): int(v) for k, v in files["known_orientation"].value_counts().items()},
        "patients_in_several_splits": int((splits > 1).sum()),
        "test_images": len(tested),
        "test_images_of_training_patients": int(tested["patient"].isin(learned).sum()),
        "contradictions": [
            {"path": row.path, "given": row.class_name, "source": row.known_label}
            for row in wrong.itertuples()
        ],
        "other_classes": {str(k): int(v) for k, v in files.loc[~known, "class_name"].value_counts().items()},
    }


def label_of(class_name: str) -> str:
    """Returns a class's name as a label to compare: in lower case, and without `tumor` at its end."""
    return TUMOUR.sub("", class_name.lower())


def as_text(found: Mapping[str, Any]) -> list[str]:
    """Formats a finding of `sum_up` for a terminal, as one to four lines."""
    lines = [
        f"known set: {found['title']} ({found['authors']}, {found['licence']}, {found['source']}): "
        f"{found['images']} images, which show {found['slices']} of its {found['of_slices']} slices and "
        f"{found['patients']} of its {found['of_patients']} patients"
    ]
    if len(found["by_split"]) > 1:
        lines.append(
            "its patients in more than one split of the source: "
            f"{found['patients_in_several_splits']}; test images of patients who are in training or "
            f"validation too: {found['test_images_of_training_patients']} of {found['test_images']}"
        )
    if found["contradictions"]:
        told = [f"{each['path']} ({each['source']})" for each in found["contradictions"]]
        lines.append(f"labels that contradict its own: {len(told)}: {list_names(told)}")
    if found["other_classes"]:
        told = [f"{count} in {name}" for name, count in found["other_classes"].items()]
        lines.append(f"its images in classes that it does not have: {list_names(told)}")
    return lines
