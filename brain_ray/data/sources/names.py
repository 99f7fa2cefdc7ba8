"""Names of splits, of masks, and of files that programs leave among images. Pure functions."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from brain_ray.data.file_names import IMAGE

_AROUND = r"(?:data|dataset|images?|imgs?|set|split)"
_SPLIT = re.compile(
    rf"(?:{_AROUND}[\W_]*)?(?:(train(?:ing)?)|(val(?:id(?:ation)?)?)|(test(?:ing)?))(?:[\W_]*{_AROUND})?",
    re.IGNORECASE,
)

SPLIT_WORDS = "train, training, val, valid, validation, test or testing"
"""Words for the splits, for messages."""

JUNK = re.compile(
    r"\..*|__MACOSX|Thumbs\.db|ehthumbs\w*\.db|desktop\.ini|Icon\r|"
    r"\$RECYCLE\.BIN|System Volume Information|@eaDir|lost\+found",
    re.IGNORECASE,
)
"""Names of hidden files and folders, and of those that systems and archives add."""

_MASK = r"(?:masks?|seg(?:m|mentations?)?|gt|ground[ _-]?truth|annotations?|labels?|rois?)"
_SEPARATOR = r"[ _.\-]+"
_AFTER = re.compile(rf"(.+?){_SEPARATOR}{_MASK}(?:[ _-]?\(?\d+\)?)?", re.IGNORECASE)
_BEFORE = re.compile(rf"{_MASK}{_SEPARATOR}(.+)", re.IGNORECASE)
_ALONE = re.compile(_MASK, re.IGNORECASE)
_IMAGES_OF = ("image", "img", "original", "scan", "slice", "volume")
"""Names of images that lie beside a file whose whole name is `mask`."""
_MASK_FOLDER = re.compile(r"masks?|segmentations?|ground[ _-]?truth|annotations?|labels?", re.IGNORECASE)
_MASK_FOLDER_BESIDE = re.compile(r"gt|rois?|seg", re.IGNORECASE)
"""Names that may be a patient's initials, too: they count beside a folder of images only."""
_IMAGE_FOLDER = re.compile(r"images?|imgs?|scans?|slices?|volumes?", re.IGNORECASE)
_SEQUENCES = ("t1", "t1c", "t1ce", "t1gd", "t1n", "t1w", "t2", "t2f", "t2w", "flair")
"""Ends of names by which BraTS and others tell the volumes of a patient apart; `_seg` is their mask."""


def split_of(name: str) -> str | None:
    """Returns the split that a folder's name, or a manifest's cell, stands for: "train", "valid" or "test".

    Upper and lower case are the same; `train_set`, `Test Images` and the like are understood.
    """
    found = _SPLIT.fullmatch(name.strip())
    return ("train", "valid", "test")[int(found.lastindex or 0) - 1] if found else None


def is_junk(name: str) -> bool:
    """Returns whether a file or folder is hidden, or was left by a system or an archive."""
    return JUNK.fullmatch(name) is not None


def find_masks(paths: Iterable[str]) -> set[str]:
    """Returns those of a class's files that are masks of others, by their names.

    These are `x_mask.png`, `x_seg.png`, `x_GT.tif`, `mask_x.png` and the like beside an `x` of any suffix
    (`x_mask_1.png` too); `x_seg.nii.gz` beside `x_t1.nii.gz` or another sequence; `mask.png` beside
    `image.png`; and all files in a folder such as `masks/`, if other folders or images lie beside it.

    Args:
        paths: paths of the files, within one folder.
    """
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    masked = _mask_folders(folders)
    masks = set()
    for folder, names in folders.items():
        whole = any(str(one) in masked for one in (PurePosixPath(folder), *PurePosixPath(folder).parents))
        found = names if whole else _masks_among(names)
        masks |= {f"{folder}/{name}" if folder else name for name in found}
    return masks


def _mask_folders(folders: Iterable[str]) -> set[str]:
    """Returns the folders of masks among those that hold files: they have something beside them."""
    inner: dict[PurePosixPath, set[str]] = {}
    holding = {PurePosixPath(folder) for folder in folders}
    for folder in holding:
        for one in (folder, *folder.parents):
            if one.name:
                inner.setdefault(one.parent, set()).add(one.name)
    found = set()
    for folder, names in inner.items():
        for name in names:
            plain = _MASK_FOLDER.fullmatch(name) and (folder in holding or len(names) > 1)
            beside = _MASK_FOLDER_BESIDE.fullmatch(name) and any(map(_IMAGE_FOLDER.fullmatch, names))
            if plain or beside:
                found.add(str(folder / name))
    return found


def _masks_among(names: list[str]) -> list[str]:
    stems = {_stem(name) for name in names}
    return [name for name in names if _is_mask(_stem(name), stems)]


def _is_mask(stem: str, stems: set[str]) -> bool:
    if _ALONE.fullmatch(stem):
        return any(name in stems for name in _IMAGES_OF)
    if (before := _BEFORE.fullmatch(stem)) and before[1] in stems:
        return True
    after = _AFTER.fullmatch(stem)
    if not after:
        return False
    base = after[1]
    return (
        base in stems
        or _stem(base) in stems  # x.jpg_mask.png
        or any(f"{base}{mark}{sequence}" in stems for sequence in _SEQUENCES for mark in "_-")
    )


def _stem(name: str) -> str:
    return IMAGE.sub("", name).lower()
