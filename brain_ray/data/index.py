"""Finds the files of a data set: which there are, of which split and class, before anything is opened."""

import hashlib
from pathlib import PurePosixPath

import pandas as pd
from pyarrow import fs as pafs

from brain_ray.config import DataConfig
from brain_ray.runs import RunError, filesystem, reaching, subfolders

COLUMNS = ("path", "source_split", "class_name", "label", "size", "mtime_ns")


def find_files(source: str, data: DataConfig) -> pd.DataFrame:
    """List every file under `<source>/<split folder>/<class>/`, hidden ones (with a leading dot) apart.

    Returns one row per file, sorted by path, with image_id (its position), path (relative to the source),
    source_split ("train" or "test"), class_name, label (position in `data.classes`), size in bytes and
    mtime_ns. Without a test folder all rows are "train".

    Raises:
        RunError: what `check_folders` finds, or a class with fewer than two files.
    """
    found, root = filesystem(source)
    rows: list[tuple[str, str, str, int, int, int]] = []
    with reaching(f"read {source}"):
        for split, folder in check_folders(source, data).items():
            rows += _list(found, root, folder, split, data)
    index = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("path", ignore_index=True)
    _check_counts(index, source, data)
    index.insert(0, "image_id", range(len(index)))
    return index


def check_folders(source: str, data: DataConfig) -> dict[str, str]:
    """Return the folder of each split that is there, "train" and perhaps "test"; no image is listed.

    Raises:
        RunError: no such folder, no training folder, or other class folders than `data.classes`; a storage
            that refuses or does not answer.
    """
    with reaching(f"read {source}"):
        return _check_folders(source, data)


def _check_folders(source: str, data: DataConfig) -> dict[str, str]:
    found, root = filesystem(source)
    if found.get_file_info(root).type != pafs.FileType.Directory:
        raise RunError(
            f"{source} is not a folder: set --data.source to the one that holds {data.train_folder}/"
        )
    folders = {}
    for split, folder in (("train", data.train_folder), ("test", data.test_folder)):
        base = f"{root.rstrip('/')}/{folder}"
        if found.get_file_info(base).type == pafs.FileType.Directory:
            _check_classes(_folders(found, base), f"{source}/{folder}", data)
            folders[split] = folder
        elif split == "train":
            raise RunError(
                f"{source} has no folder {folder}/, but {_folders(found, root)}: set --data.train-folder"
            )
    return folders


def listing_hash(index: pd.DataFrame) -> str:
    """SHA-256 (hex) of the files' names, sizes and times: another one means that the source changed."""
    digest = hashlib.sha256()
    for path, size, mtime in zip(index["path"], index["size"], index["mtime_ns"], strict=True):
        digest.update(f"{path}\0{size}\0{mtime}\n".encode())
    return digest.hexdigest()


def _folders(found: pafs.FileSystem, folder: str) -> list[str]:
    return [name for name in subfolders(found, folder) if not name.startswith(".")]


def _check_classes(names: list[str], where: str, data: DataConfig) -> None:
    unknown = sorted(set(names) - set(data.classes))
    missing = sorted(set(data.classes) - set(names))
    if unknown or missing:
        said = [f"unknown {unknown}"] * bool(unknown) + [f"missing {missing}"] * bool(missing)
        raise RunError(
            f"{where} has the class folders {names}: {', '.join(said)}; expected {list(data.classes)}: "
            "rename the folders or set --data.classes"
        )


def _list(
    found: pafs.FileSystem, root: str, folder: str, split: str, data: DataConfig
) -> list[tuple[str, str, str, int, int, int]]:
    rows = []
    for label, name in enumerate(data.classes):
        base = f"{root.rstrip('/')}/{folder}/{name}"
        for info in found.get_file_info(pafs.FileSelector(base, recursive=True)):
            if info.type == pafs.FileType.File and not info.base_name.startswith("."):
                inside = PurePosixPath(info.path).relative_to(root.rstrip("/"))
                rows.append((str(inside), split, name, label, int(info.size), int(info.mtime_ns or 0)))
    return rows


def _check_counts(index: pd.DataFrame, source: str, data: DataConfig) -> None:
    counts = index[index["source_split"] == "train"]["class_name"].value_counts()
    few = {name: int(counts.get(name, 0)) for name in data.classes if counts.get(name, 0) < 2}
    if few:
        raise RunError(
            f"{source}/{data.train_folder} has too few files in {few}: "
            "a class needs two at least, one to train and one to validate"
        )
