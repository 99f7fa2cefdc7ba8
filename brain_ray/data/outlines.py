"""Outlines of tumours: reads them from JSON, from a table of boxes, or from a folder of masks."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pyarrow import fs as pafs

from brain_ray.data.sources.manifest_names import PATH_COLUMNS, suffix_of
from brain_ray.data.sources.manifest_rows import read_rows
from brain_ray.errors import RunError, list_faults, printable
from brain_ray.storage import filesystem, storage_errors
from brain_ray.storage_retries import patiently, retry_known

SIDES = ("left", "top", "right", "bottom")
"""Columns of a table of boxes: pixels left..right-1 and top..bottom-1 are in the box."""

MASK_SUFFIX = ".png"

SLACK = 1.0
"""Pixels by which an outline may reach beyond its image."""

FORMS = (
    "expected a .json file of outlines or boxes, a table of boxes (.csv, .tsv, .jsonl, .parquet), or a "
    "folder of masks (.png)"
)

Polygon = NDArray[np.float64]
"""(points, 2), x and y in pixels; whole numbers are the centres of pixels, the first pixel is 0, 0."""


@dataclass(frozen=True)
class Outline:
    """The outline of an image's tumour: polygons, of which the union counts, or an encoded mask."""

    polygons: tuple[Polygon, ...] = ()
    png: bytes = b""

    def mask(self, height: int, width: int) -> NDArray[np.bool_]:
        """Returns the mask of an image of this size: (height, width), True inside.

        Raises:
            ValueError: the outline does not fit the image, or holds none of its pixels.
        """
        found = self._drawn(height, width) if self.polygons else self._decoded(height, width)
        if not found.any():
            raise ValueError("no pixel is inside")
        return found

    def _drawn(self, height: int, width: int) -> NDArray[np.bool_]:
        points = np.concatenate(self.polygons)
        low, high = points.min(axis=0), points.max(axis=0)
        if (low < -SLACK).any() or (high > np.array([width, height]) - 1 + SLACK).any():
            raise ValueError(
                f"it reaches from x, y {low[0]:g}, {low[1]:g} to {high[0]:g}, {high[1]:g}, and the image is "
                f"{width} x {height} pixels: outlines are in pixels of the images as they are prepared"
            )
        canvas = np.zeros((height, width), np.uint8)
        for polygon in self.polygons:  # one by one: together, where two overlap would be outside
            cv2.fillPoly(canvas, [np.rint(polygon * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
        return canvas > 0

    def _decoded(self, height: int, width: int) -> NDArray[np.bool_]:
        image = cv2.imdecode(np.frombuffer(self.png, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ValueError("it is no image that can be read")
        if image.shape[:2] != (height, width):
            raise ValueError(
                f"the mask is {image.shape[1]} x {image.shape[0]} pixels, the image {width} x {height}: a "
                "mask has the size of the image as it is prepared"
            )
        channels = np.asarray(image).reshape(height, width, -1)
        # A fourth channel (or a second, beside grey) is the opacity.
        colours = channels[..., :-1] if channels.shape[-1] in (2, 4) else channels
        return np.asarray(colours.max(axis=-1) > 0)


@dataclass(frozen=True)
class Outlines:
    """All outlines of a file or folder, by the names that it gives the images."""

    location: str
    names: Sequence[str]
    load: Callable[[str], Outline]
    """Returns the outline of one of the names; reads a mask's file."""
    digest: str
    """SHA-256 (hex) of the file, or of the names, sizes and times of the masks."""


def read_outlines(location: str) -> Outlines:
    """Reads outlines; of a folder of masks only the list of its files.

    A JSON file holds an object {image: outline}, each outline a polygon [[x, y], ...] or a list of polygons;
    or a list of boxes [{"path": image, "left": ..., "top": ..., "right": ..., "bottom": ...}, ...]. A table
    has these as columns. A folder holds masks as PNG files, in folders or not, each named as its image; all
    pixels above 0 are inside.

    Args:
        location: path or URI.

    Raises:
        RunError: nothing is there, or it has another form; the text names the file, and the entry or line.
    """
    found, path = filesystem(location)
    with storage_errors(f"read {location}"):
        kind = retry_known(location, partial(found.get_file_info, path)).type
        if kind == pafs.FileType.Directory:
            return _read_folder(location, found, path)
        if kind != pafs.FileType.File:
            raise RunError(f"there are no outlines at {location}: {FORMS}")
        data = patiently()(_read, found, path)
    digest = sha256(data).hexdigest()
    if path.lower().endswith(".json"):
        polygons = _read_json(location, data)
    elif suffix_of(location):
        polygons = _read_table(location)
    else:
        raise RunError(f"{location} is of an unknown kind: {FORMS}")
    return Outlines(location, list(polygons), lambda name: Outline(tuple(polygons[name])), digest)


def _read_folder(location: str, found: pafs.FileSystem, folder: str) -> Outlines:
    listed = patiently()(found.get_file_info, pafs.FileSelector(folder, recursive=True))
    start = len(folder.rstrip("/")) + 1
    masks = {
        info.path[start:]: info
        for info in sorted(listed, key=lambda info: info.path)
        if info.type == pafs.FileType.File and info.path.lower().endswith(MASK_SUFFIX)
    }
    if not masks:
        raise RunError(f"{location} holds no mask, a file that ends in {MASK_SUFFIX}")

    def load(name: str) -> Outline:
        with storage_errors(f"read {location}/{name}"):
            return Outline(png=patiently()(_read, found, masks[name].path))

    facts = [[name, info.size, info.mtime_ns] for name, info in masks.items()]
    return Outlines(location, list(masks), load, sha256(json.dumps(facts).encode()).hexdigest())


def _read(found: pafs.FileSystem, path: str) -> bytes:
    with found.open_input_stream(path) as stream:
        return bytes(stream.read())


def _read_json(location: str, data: bytes) -> dict[str, list[Polygon]]:
    twice: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in set(names) if names.count(name) > 1)
        return dict(pairs)

    try:
        content = json.loads(data.decode("utf-8-sig"), object_pairs_hook=collect)
    except ValueError as error:  # UnicodeDecodeError is one
        raise RunError(f"{location} is no JSON in UTF-8: {error}") from error
    if twice:
        raise RunError(f"{location} names an image twice: {printable(twice[0])}")
    faults: list[str] = []
    polygons: dict[str, list[Polygon]] = {}
    if isinstance(content, Mapping):
        for name, value in content.items():
            if (found := _as_polygons(value)) is None:
                faults.append(f"entry {name!r}: expected [[x, y], ...] of three points or more, or several")
            else:
                polygons[name] = found
    elif isinstance(content, list):
        for number, value in enumerate(content, 1):
            row = value if isinstance(value, Mapping) else {}
            _add_box(polygons, row.get("path"), [row.get(side) for side in SIDES], f"box {number}", faults)
    else:
        raise RunError(f"{location} is neither an object of outlines nor a list of boxes")
    _refuse(location, faults)
    if not polygons:
        raise RunError(f"{location} holds no outline")
    return polygons


def _as_polygons(value: Any) -> list[Polygon] | None:
    """Returns one or several polygons of JSON; None if they are none."""
    try:
        several = value if np.ndim(value[0][0]) else [value]
        found = [np.asarray(polygon, np.float64) for polygon in several]
    except (TypeError, ValueError, IndexError, KeyError):
        return None
    good = all(p.ndim == 2 and p.shape[1] == 2 and len(p) > 2 and np.isfinite(p).all() for p in found)
    return found if good else None


def _read_table(location: str) -> dict[str, list[Polygon]]:
    rows = read_rows(location)
    path = next((name for name in rows.table.column_names if name.casefold() in PATH_COLUMNS), None)
    missing = [side for side in SIDES if side not in rows.table.column_names]
    if path is None or missing:
        raise RunError(
            f"{location} has the columns {rows.table.column_names}: expected path, left, top, right, bottom"
        )
    faults: list[str] = []
    polygons: dict[str, list[Polygon]] = {}
    for line, row in zip(rows.lines, rows.table.to_pylist(), strict=True):
        place = f"{rows.faults.unit} {line}"
        _add_box(polygons, row[path], [row[side] for side in SIDES], place, faults)
    _refuse(location, faults)
    return polygons


def _add_box(
    polygons: dict[str, list[Polygon]], name: Any, sides: list[Any], place: str, faults: list[str]
) -> None:
    """Adds a box as a polygon, or what is wrong with it to the faults."""
    try:
        left, top, right, bottom = (float(side) for side in sides)
    except (TypeError, ValueError):
        faults.append(f"{place}: left, top, right and bottom are {sides}: expected four numbers")
        return
    if not name or not isinstance(name, str):
        faults.append(f"{place}: path is {name!r}: expected the name of an image")
    elif not (left < right and top < bottom and np.isfinite(sides_of := [left, top, right, bottom]).all()):
        faults.append(
            f"{place}: left, top, right and bottom are {sides}: expected left < right, top < bottom"
        )
    else:
        left, top, right, bottom = sides_of
        corners = [(left, top), (right - 1, top), (right - 1, bottom - 1), (left, bottom - 1)]
        polygons.setdefault(name, []).append(np.array(corners))


def _refuse(location: str, faults: Sequence[str]) -> None:
    if faults:
        raise RunError(f"{location} has {len(faults)} fault{'s' * (len(faults) > 1)}:{list_faults(faults)}")
