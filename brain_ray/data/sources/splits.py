"""Folders of the splits in a folder tree: named by settings, or found by their names."""

import shlex
from collections.abc import Collection
from pathlib import PurePosixPath

from brain_ray.config import DataConfig
from brain_ray.data.sources.manifest_names import MANIFEST
from brain_ray.data.sources.names import split_of
from brain_ray.data.sources.walk import Tree, join
from brain_ray.errors import RunError, list_names

MAX_WRAPPERS = 3
"""Most folders, each with nothing beside it, that may lie around the splits: archives add one or two."""

MAX_HOLDING = 50
"""Most folders that are suggested as classes."""


def find_splits(
    tree: Tree, source: str, data: DataConfig, ignored: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """Returns the folder of each split ("train", perhaps "valid" and "test"), and what a user may want to
    know of it.

    Raises:
        RunError: there is no training folder, or more than one folder for a split.
    """
    notes: list[str] = []
    if data.train_folder is None:
        train = _find_training(tree, source, data, ignored)
    else:
        train = str(PurePosixPath(data.train_folder))
        if not tree.is_folder(train) or train in ignored:
            raise RunError(_say_missing(tree, source, "train", train))
    splits = {"train": train}
    around = tree.folders(parent(train)) if train != "." else []
    beside = [*(join(parent(train), name) for name in around), *(join(train, n) for n in tree.folders(train))]
    for split, wanted in (("valid", data.valid_folder), ("test", data.test_folder)):
        named = [
            path
            for path in beside
            if path not in (train, *ignored) and split_of(PurePosixPath(path).name) == split
        ]
        if wanted is not None:
            folder = str(PurePosixPath(wanted))
            if tree.is_folder(folder) and folder not in ignored:
                splits[split] = folder
            elif split == "valid" or named:
                raise RunError(_say_missing(tree, source, split, folder))
            elif folder not in ignored:
                notes.append(f"there is no folder {folder}/: a test split is drawn")
            continue
        named = [path for path in named if class_folders(tree, path, data, ignored)]
        if len(named) > 1:
            raise RunError(_say_several(source, split, named))
        if named:
            splits[split] = named[0]
    _refuse_doubles(tree, splits)
    return splits, notes


def class_folders(tree: Tree, folder: str, data: DataConfig, ignored: Collection[str]) -> list[str]:
    """Returns the names of a folder's folders that are classes."""
    return [
        name for name in tree.folders(folder) if name in data.classes and join(folder, name) not in ignored
    ]


def parent(folder: str) -> str:
    """Returns the folder around a folder; the source's own is `.` again."""
    return str(PurePosixPath(folder).parent)


def _find_training(tree: Tree, source: str, data: DataConfig, ignored: Collection[str]) -> str:
    base = _find_base(tree, ".", source, data, ignored, MAX_WRAPPERS)
    if base is None:
        raise RunError(_say_no_training(tree, source))
    named = [path for name in tree.folders(base) if split_of(name) == "train"
             and (path := join(base, name)) not in ignored]  # fmt: skip
    fitting = [path for path in named if class_folders(tree, path, data, ignored)]
    if len(fitting) > 1:
        raise RunError(_say_several(source, "train", fitting))
    if fitting:
        return fitting[0]
    return named[0] if named and not class_folders(tree, base, data, ignored) else base


def _find_base(
    tree: Tree, folder: str, source: str, data: DataConfig, ignored: Collection[str], deeper: int
) -> str | None:
    """Returns the folder around the splits or, without any, around the classes."""
    if _is_base(tree, folder, data, ignored):
        return folder
    inner = [path for name in tree.folders(folder) if (path := join(folder, name)) not in ignored]
    fitting = [path for path in inner if _is_base(tree, path, data, ignored)]
    if len(fitting) > 1:
        raise RunError(_say_several(source, "train", fitting))
    if fitting:
        return fitting[0]
    if len(inner) == 1 and deeper:
        return _find_base(tree, inner[0], source, data, ignored, deeper - 1)
    return None


def _is_base(tree: Tree, folder: str, data: DataConfig, ignored: Collection[str]) -> bool:
    names = [name for name in tree.folders(folder) if join(folder, name) not in ignored]
    return any(split_of(name) == "train" or name in data.classes for name in names)


def _refuse_doubles(tree: Tree, splits: dict[str, str]) -> None:
    places: dict[str, str] = {}
    for split, folder in splits.items():
        other = places.setdefault(tree.place(folder), split)
        if other != split:
            raise RunError(
                f"data: {splits[other]}/ and {folder}/, for the splits {other} and {split}, are one folder: "
                f"set --data.{other}-folder or --data.{split}-folder to another, or leave one out by "
                "--data.ignore-folders"
            )


def _say_missing(tree: Tree, source: str, split: str, folder: str) -> str:
    cure = f"set --data.{split}-folder to the one that holds the classes' folders"
    cure += ", or to . if these are they" if split == "train" else ""
    return f"{source} has no folder {folder}/, but {tree.folders('.')}: {cure}"


def _say_several(source: str, split: str, folders: list[str]) -> str:
    several = list_names([f"{folder}/" for folder in folders])
    return (
        f"{source} has several folders for the split {split}: {several}: "
        f"say which by --data.{split}-folder, or leave others out by --data.ignore-folders"
    )


def _say_no_training(tree: Tree, source: str) -> str:
    top = tree.look(".")
    cures = ["set --data.train-folder to the one that holds the classes' folders"]
    holding = [name for name in top.folders if tree.look(name).files]
    if len(holding) > 1:
        cures.append(f"or, if these are the classes, --data.classes {shlex.join(holding[:MAX_HOLDING])}")
    manifests = [file.path for file in top.files if MANIFEST.search(file.path)]
    if manifests:
        cures.append(f"or, if {manifests[0]} lists the images, --data.source {source}/{manifests[0]}")
    there = str(top.folders) if top.folders else f"{len(top.files)} files and no folders"
    return (
        f"{source} has no folder Training/ or train/, and none of the classes' folders, but {there}: "
        f"{', '.join(cures)}"
    )
