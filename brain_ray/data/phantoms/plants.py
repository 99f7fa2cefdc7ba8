"""Plants: copies, conflicts, further slices and faults among the files of a phantom data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.data.phantoms.shapes import Image

Kind = Literal[
    "same bytes", "recompressed", "brighter", "mirrored", "turned", "flipped",
    "conflict", "shared patient",
    "corrupt", "truncated", "text", "one pixel", "blank", "16 bit",
]  # fmt: skip

COPIES: tuple[Kind, ...] = ("same bytes", "recompressed", "brighter", "mirrored", "turned", "flipped")
"""Kinds of planted copies, used in turn; the last three are left-right, by 180 degrees and top-bottom."""

FAULTS: tuple[Kind, ...] = ("corrupt", "truncated", "text", "one pixel", "blank", "16 bit")
"""Kinds of planted faults, used in turn; the last two are odd but usable."""

_FLIPS: dict[Kind, int] = {"mirrored": 1, "flipped": 0, "turned": -1}  # cv2.flip's codes


@dataclass(frozen=True)
class Planted:
    """A file planted on purpose: a copy, a copy under a wrong class, a test patient's other slice, or a
    fault.

    `path` and `of` (the original of a copy, or a test image of the same patient) are relative to the tree;
    `usable` is whether it can be decoded and goes into a data set.
    """

    path: str
    kind: Kind
    of: str | None
    usable: bool


def encode(image: Image | NDArray[np.uint16], suffix: str, quality: int = 92) -> bytes:
    """Returns an image as a file of the format that a suffix such as `.png` names."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    return cv2.imencode(suffix, image, options)[1].tobytes()


def plant_copy(folder: Path, number: int, origin: str, test_folder: str) -> Planted:
    """Writes a copy of a training image among the test images; its kind goes by its number."""
    kind = COPIES[number % len(COPIES)]
    of = PurePosixPath(origin)
    suffix = of.suffix if kind == "same bytes" else ".jpg"
    path = f"{test_folder}/{of.parent.name}/copy-{number:03d}-{kind.replace(' ', '-')}{suffix}"
    data = (folder / origin).read_bytes()
    if kind != "same bytes":
        image = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)
        if kind == "brighter":
            image = np.asarray(cv2.convertScaleAbs(image, alpha=0.85, beta=24), np.uint8)
        elif kind in _FLIPS:
            image = np.asarray(cv2.flip(image, _FLIPS[kind]), np.uint8)
        data = encode(image, ".jpg", quality=60 if kind == "recompressed" else 92)
    (folder / path).write_bytes(data)
    return Planted(path, kind, origin, usable=True)


def plant_conflict(folder: Path, number: int, origin: str, classes: Sequence[str]) -> Planted:
    """Writes a copy of a training image under another class."""
    of = PurePosixPath(origin)
    others = [name for name in classes if name != of.parent.name]
    path = str(of.parent.parent / others[number % len(others)] / f"conflict-{number:03d}{of.suffix}")
    (folder / path).write_bytes((folder / origin).read_bytes())
    return Planted(path, "conflict", origin, usable=True)


def plant_slice(folder: Path, number: int, of: str, train_folder: str, image: Image) -> Planted:
    """Writes another slice of a test image's patient among the training images of its class."""
    path = f"{train_folder}/{PurePosixPath(of).parent.name}/shared-{number:03d}.jpg"
    (folder / path).write_bytes(encode(image, ".jpg"))
    return Planted(path, "shared patient", of, usable=True)


def plant_fault(folder: Path, number: int, where: str, spare: Image, rng: np.random.Generator) -> Planted:
    """Writes a fault into a class's folder, made of a phantom if need be; its kind goes by its number."""
    kind = FAULTS[number % len(FAULTS)]
    if kind == "corrupt":
        suffix, data = ".jpg", rng.bytes(4096)
    elif kind == "truncated":
        suffix, data = ".jpg", encode(spare, ".jpg")
        data = data[: len(data) // 2]
    elif kind == "text":
        suffix, data = ".txt", b"Notes on the images of this folder.\n"
    elif kind == "one pixel":
        suffix, data = ".png", encode(spare[:1, :1], ".png")
    elif kind == "blank":  # each of another size, so that none is a copy of another
        suffix, data = ".jpg", encode(np.zeros((128, 128 + number), np.uint8), ".jpg")
    else:
        grey = spare if spare.ndim == 2 else spare[..., 0]
        suffix, data = ".png", encode(grey.astype(np.uint16) * 16, ".png")  # 12 bits, as scanners store
    path = f"{where}/fault-{number:03d}-{kind.replace(' ', '-')}{suffix}"
    (folder / path).write_bytes(data)
    return Planted(path, kind, None, usable=kind in ("blank", "16 bit"))
