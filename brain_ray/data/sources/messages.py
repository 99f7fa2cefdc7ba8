"""Texts of errors about a folder tree: what was found, where, and the setting that mends it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from brain_ray.config import DataConfig
from brain_ray.data.sources.manifest_names import SUFFIXES

MAX_CLASSES = 50
"""Most classes of which a line to add is told."""


def say_no_folder(source: str) -> str:
    """Returns text on a source that is neither a folder nor a manifest."""
    cure = f"set --data.source to a folder of images, or to a manifest ({', '.join(SUFFIXES)})"
    if "://" not in source and Path(source).is_file():
        archive = Path(source).suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z")
        return f"{source} is a file: {'unpack it first, and ' if archive else ''}{cure}"
    return f"{source} is not a folder: {cure}"


def say_classes(
    source: str,
    folder: str,
    split: str,
    known: Sequence[str],
    unknown: Sequence[str],
    missing: Sequence[str],
    data: DataConfig,
) -> str:
    """Returns text on a split that lacks folders of classes.

    Args:
        source: folder or URI.
        folder: the split's folder.
        split: "train", "valid" or "test".
        known: folders of classes that are there.
        unknown: other folders that hold images.
        missing: classes without a folder.
        data: the classes.
    """
    where = source if folder == "." else f"{source}/{folder}"
    found = sorted([*known, *unknown])
    said = [f"unknown {list(unknown)}"] * bool(unknown) + [f"missing {list(missing)}"]
    cures = [add_classes(found)] if split == "train" and len(found) > 1 else []
    if split == "train" and not cures:
        cures = ["set --data.classes to the names of its folders"]
    if unknown and split != "train":
        cures.append("rename its folders")
    if split != "train":
        cures.append(f"leave it out by --data.ignore-folders {shlex.quote(folder)}")
        if split == "valid":
            cures[-1] += " (a validation split is drawn then)"
    return (
        f"{where} has the class folders {found}: {', '.join(said)}; expected {list(data.classes)}: "
        f"{', or '.join(cures)}"
    )


def add_classes(names: Sequence[str]) -> str:
    """Returns advice to use these classes, as the words to add to the command."""
    if len(names) > MAX_CLASSES:
        return "set --data.classes to those that are meant"
    return f"to use these, add --data.classes {shlex.join(names)}"
