"""Images of files: a table of files becomes a table of images, one row for each slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import pandas as pd

from brain_ray.data.decoder import Description
from brain_ray.data.file_names import ALONE
from brain_ray.data.formats import PictureFormat, format_of_name
from brain_ray.errors import RunError

FRAME_COLUMNS = ("frame", "patient", "study", "series", "position", "modality", "file_class", "tumour")
"""Columns that `expand` adds to those of a table of files."""


def is_picture(path: str) -> bool:
    """Returns whether a file's suffix is that of a format with one image a file, so that it need not be
    opened."""
    return isinstance(format_of_name(path), PictureFormat)


def hashed(salt: str, kind: str, value: str) -> str:
    """Returns an id that nobody can trace back without the salt: 16 hex digits of a SHA-256; "" of no value.

    Args:
        salt: secret of the run.
        kind: what the value identifies; equal values of two kinds have different ids.
        value: the value.
    """
    return sha256(f"{salt}\0{kind}\0{value}".encode()).hexdigest()[:16] if value else ""


@dataclass(frozen=True)
class FileImages:
    """The images of one file, in the columns of a table of images."""

    frames: Sequence[int] = (ALONE,)
    positions: Sequence[float] = (0.0,)
    patient: str = ""
    study: str = ""
    series: str = ""
    modality: str = ""
    file_class: str = ""
    tumour: Sequence[int] | None = None
    empty: Sequence[int] = ()
    """Numbers of its images that show nothing, and are left out."""


def images_of(path: str, found: Description, salt: str) -> FileImages:
    """Returns the images of a file from what its header says.

    A file that names no patient is one of its own, and a volume that names no series a series of its own:
    slices of one head stay together. If all its images are empty it keeps one row, without a number, which is
    rejected when it is opened.
    """
    several = len(found.positions) > 1
    empty = set(found.empty)
    kept = [number for number in range(len(found.positions)) if number not in empty]
    own = path if several else ""
    patient = ("patient", found.patient) if found.patient else ("study", found.study)
    return FileImages(
        frames=(kept or [ALONE]) if several else [ALONE],
        positions=[found.positions[number] for number in kept] or [0.0],
        patient=hashed(salt, *patient) or hashed(salt, "file", own),
        study=hashed(salt, "study", found.study),
        series=hashed(salt, "series", found.series) or hashed(salt, "file", own),
        modality=found.modality,
        file_class=found.class_name,
        tumour=found.tumour,
        empty=sorted(empty),
    )


def pick(files: pd.DataFrame, opened: Mapping[str, FileImages]) -> list[FileImages]:
    """Returns the images that each row of a table of files stands for: the one that it names, or all.

    Args:
        files: one row per file, or per image that is named by the column `frame` (-1: all of the file's).
        opened: the images of those files that were opened, by path; others are one picture each.

    Raises:
        RunError: a row names an image that its file does not have.
    """
    frames = files["frame"] if "frame" in files else [ALONE] * len(files)
    return [
        _pick(path, opened.get(path, FileImages()), int(frame))
        for path, frame in zip(files["path"], frames, strict=True)
    ]


def _pick(path: str, images: FileImages, frame: int) -> FileImages:
    """Returns a file's image with a number; none if it is empty. Of a file that cannot be read it is what the
    row names, and is rejected when it is scanned."""
    places = dict(zip(images.frames, images.positions, strict=True))
    places.pop(ALONE, None)
    count = max(1, len(places) + len(images.empty))
    if frame == ALONE or (frame == 0 and count == 1):
        return images
    if images == FileImages() and not is_picture(path):
        return replace(images, frames=[frame])
    if frame in images.empty:
        return replace(images, frames=[], positions=[], empty=[frame])
    if frame not in places:
        there = "one image" if count == 1 else f"{count} images, 0 to {count - 1}"
        raise RunError(f"the manifest names image {frame} of {path}, which has {there}: correct the frame")
    return replace(images, frames=[frame], positions=[places[frame]], empty=())


def expand(files: pd.DataFrame, known: Sequence[FileImages]) -> pd.DataFrame:
    """Returns a table of images: a row for each image of each file, sorted by series and position.

    Args:
        files: one row per file, or per image: `path`, and any columns, which each of its images keeps.
        known: the images of each row, as `pick` returns them.

    Returns:
        The columns of `files` and `FRAME_COLUMNS`. Series come in the order of the first of their paths.
    """
    files = files.drop(columns="frame", errors="ignore")
    rows = files.loc[files.index.repeat([len(one.frames) for one in known])].reset_index(drop=True)
    repeated = [one for one in known for _ in one.frames]
    rows["frame"] = pd.array([frame for one in known for frame in one.frames], "int64")
    rows["position"] = pd.array([position for one in known for position in one.positions], "float64")
    for name in ("patient", "study", "series", "modality", "file_class"):
        rows[name] = pd.Series([getattr(one, name) for one in repeated], index=rows.index, dtype="str")
    rows["tumour"] = pd.Series([one.tumour for one in repeated], index=rows.index, dtype="object")
    together = rows["series"].where(rows["series"] != "", rows["path"])
    first = rows.groupby(together)["path"].transform("min")
    order = rows.assign(first=first, together=together)
    order = order.sort_values(["first", "together", "position", "path", "frame"], kind="stable")
    return rows.loc[order.index].reset_index(drop=True)
