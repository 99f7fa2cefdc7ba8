"""Sources: lists their files by split and class, and checks their folders."""

import hashlib
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pandas as pd
from pyarrow import fs as pafs

from brain_ray.config import DataConfig
from brain_ray.data.file_names import IMAGE
from brain_ray.data.image_export import EXPORTED
from brain_ray.errors import RunError
from brain_ray.runs import MARKER
from brain_ray.storage import filesystem, storage_errors, subfolders

FILE_COLUMNS = ("path", "source_split", "class_name", "label", "size", "mtime_ns")

MARKER_FILES = (MARKER, EXPORTED)
"""Files that mark a folder of runs, or of a run's export, which hold no images of the source."""

MAX_NAMES = 5
"""Largest number of folders or files that a message names."""


@dataclass(frozen=True)
class Layout:
    """Folders of a source that are used, and images that are not."""

    folders: dict[str, str]
    """Folder of each split that exists ("train", perhaps "valid" and "test"), within the source."""
    ignored: dict[str, int] = field(default_factory=dict)
    """Number of images by folder that `data.ignore_folders` leaves out; folders without images are not
    listed."""
    loose: dict[str, list[str]] = field(default_factory=dict)
    """Names of images by folder (`.` is the source), if they lie in it directly and not in a class's
    folder."""


def find_files(source: str, data: DataConfig) -> pd.DataFrame:
    """Lists every file under `<source>/<split folder>/<class>/`, except hidden ones (with a leading dot).

    Returns one row per file, sorted by path, with image_id (its position), path (relative to the source),
    source_split ("train", "valid" or "test"), class_name, label (position in `data.classes`), size in bytes
    and mtime_ns. Without a validation or test folder there are no such rows.

    Raises:
        RunError: the folders are not as `find_layout` requires, or a class has fewer than two files.
    """
    found, root = filesystem(source)
    rows: list[tuple[str, str, str, int, int, int]] = []
    with storage_errors(f"read {source}"):
        for split, folder in find_layout(source, data).folders.items():
            rows += _list(found, root, folder, split, data)
    index = pd.DataFrame(rows, columns=list(FILE_COLUMNS)).sort_values("path", ignore_index=True)
    _check_counts(index, source, data)
    index.insert(0, "image_id", range(len(index)))
    return index


def check_folders(source: str, data: DataConfig) -> dict[str, str]:
    """Returns the folder of each split that exists: "train", and perhaps "valid" and "test".

    Raises:
        RunError: the folders are not as `find_layout` requires.
    """
    return find_layout(source, data).folders


def find_layout(source: str, data: DataConfig) -> Layout:
    """Returns the layout of a source's folders; does not list those of the classes (except in Google's
    buckets).

    Raises:
        RunError: no such folder, no training folder, a class without a folder, or a folder that holds images
            and is neither used nor in `data.ignore_folders`; a storage that refuses or does not answer.
    """
    with storage_errors(f"read {source}"):
        found, root = filesystem(source)
        if found.get_file_info(root).type != pafs.FileType.Directory:
            raise RunError(
                f"{source} is not a folder: set --data.source to the one that holds {data.train_folder}/"
            )
        return _find_layout(found, root, source, data)


def folder_path(root: str, folder: str) -> str:
    """Returns the path of a source's folder; `.` is the source itself, also in a bucket."""
    return "/".join([root.rstrip("/"), *PurePosixPath(folder).parts])


def list_names(names: list[str]) -> str:
    """Returns the first few of some names, and the number of the others, as text."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def listing_hash(index: pd.DataFrame) -> str:
    """Returns the SHA-256 (hex) of the files' names, sizes and times."""
    digest = hashlib.sha256()
    for path, size, mtime in zip(index["path"], index["size"], index["mtime_ns"], strict=True):
        digest.update(f"{path}\0{size}\0{mtime}\n".encode())
    return digest.hexdigest()


def _find_layout(found: pafs.FileSystem, root: str, source: str, data: DataConfig) -> Layout:
    ignored = {str(PurePosixPath(name)) for name in data.ignore_folders}
    layout = Layout(_split_folders(found, root, source, data, ignored))
    splits = set(layout.folders.values())
    above = {str(parent) for folder in splits for parent in PurePosixPath(folder).parents}
    unused: dict[str, int] = {}
    for folder in sorted(splits | above):
        names = []
        for name in _folders(found, folder_path(root, folder)):
            path = str(PurePosixPath(folder, name))
            if path in splits | above:
                continue
            if path not in ignored and folder in splits and name in data.classes:
                names.append(name)
                continue
            images = _count_images(found, folder_path(root, path))
            if images:
                (layout.ignored if path in ignored else unused)[path] = images
            names += [name] * (images > 0 and path not in ignored)
        loose = _loose_images(found, folder_path(root, folder))
        if loose:
            layout.loose[folder] = loose
        if folder in splits:
            _check_classes(names, folder, layout, source, data)
    if unused:
        raise RunError(_say_unused(source, unused, layout, data))
    return layout


def _split_folders(
    found: pafs.FileSystem, root: str, source: str, data: DataConfig, ignored: set[str]
) -> dict[str, str]:
    folders = {}
    wanted = {"train": data.train_folder, "valid": data.valid_folder, "test": data.test_folder}
    for split, name in wanted.items():
        if name is None:
            continue
        folder = str(PurePosixPath(name))
        there = found.get_file_info(folder_path(root, folder)).type == pafs.FileType.Directory
        if there and folder not in ignored:
            folders[split] = folder
        elif split != "test":
            cure = f"set --data.{split}-folder to the one that holds the classes' folders"
            cure += ", or to . if these are they" if split == "train" else ""
            raise RunError(f"{source} has no folder {name}/, but {_folders(found, root)}: {cure}")
    if len(set(folders.values())) < len(folders):
        raise RunError(f"data.train_folder, valid_folder and test_folder name one folder twice: {folders}")
    return folders


def _folders(found: pafs.FileSystem, folder: str) -> list[str]:
    return [name for name in subfolders(found, folder) if not name.startswith(".")]


def _looks_like_an_image(info: pafs.FileInfo) -> bool:
    name = PurePosixPath(info.path).name
    return info.type == pafs.FileType.File and not name.startswith(".") and IMAGE.search(name) is not None


def _count_images(found: pafs.FileSystem, folder: str) -> int:
    infos = found.get_file_info(pafs.FileSelector(folder, recursive=True, allow_not_found=True))
    if any(info.base_name in MARKER_FILES for info in infos):
        return 0
    return sum(_looks_like_an_image(info) for info in infos)


def _loose_images(found: pafs.FileSystem, folder: str) -> list[str]:
    infos = found.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    return sorted(PurePosixPath(info.path).name for info in infos if _looks_like_an_image(info))


def _check_classes(names: list[str], folder: str, layout: Layout, source: str, data: DataConfig) -> None:
    """Checks that a split has a folder for each class.

    Args:
        names: its folders, without ignored ones and those that hold no images.
        folder: the split's folder.
        layout: the layout found so far.
        source: folder or URI.
        data: the classes.

    Raises:
        RunError: a class has no folder.
    """
    where = f"{source}/{folder}"
    unknown = sorted(set(names) - set(data.classes))
    missing = sorted(set(data.classes) - set(names))
    if not missing:
        return
    loose = layout.loose.get(folder, [])
    if loose and not names and folder != layout.folders["train"]:
        raise RunError(
            f"{where} has {len(loose)} images and no folders of classes: images without labels "
            f"are for jobs/predict.py; to leave them out: --data.ignore-folders {shlex.quote(folder)}"
        )
    said = [f"unknown {unknown}"] * bool(unknown) + [f"missing {missing}"]
    raise RunError(
        f"{where} has the class folders {names}: {', '.join(said)}; expected {list(data.classes)}: "
        "rename the folders or set --data.classes"
    )


def _say_unused(source: str, unused: dict[str, int], layout: Layout, data: DataConfig) -> str:
    """Returns text that names the folders whose images no setting names, and the settings that use or ignore
    them."""
    uses = []
    for setting, split, stem in (("test-folder", "test", "test"), ("valid-folder", "valid", "val")):
        fitting = [path for path in unused if PurePosixPath(path).name.lower().startswith(stem)]
        if fitting and split not in layout.folders:
            uses.append(f"--data.{setting} {shlex.quote(fitting[0])}")
    if not uses:
        within = {str(PurePosixPath(path).parent) for path in unused} <= set(layout.folders.values())
        uses = [f"--data.{'classes' if within else 'test-folder, --data.valid-folder or --data.classes'}"]
    told = list_names([f"{path}/ ({count} images)" for path, count in unused.items()])
    return (
        f"{source} has images in folders that are not used: {told}: set {' '.join(uses)} to use them, or "
        f"leave them out by --data.ignore-folders {shlex.join(unused)}"
    )


def _list(
    found: pafs.FileSystem, root: str, folder: str, split: str, data: DataConfig
) -> list[tuple[str, str, str, int, int, int]]:
    rows = []
    for label, name in enumerate(data.classes):
        base = f"{folder_path(root, folder)}/{name}"
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
