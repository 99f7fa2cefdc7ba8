"""Phantom data set: images like brain MR slices, with and without a tumour, drawn without a download.

Every phantom is a function of (seed, index) and its class. Head, pose, contrast and noise come from random
streams separate from the tumour's: the same (seed, index) under two classes is the same scan of the same head
with another tumour, so that nothing but the tumour distinguishes the classes.

The pictures are invented, no patient's. They exercise the pipeline; a score on them says nothing on patients.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.config import PhantomConfig
from brain_ray.data.phantoms.drawing import TUMOURS, Image, draw_head, scan
from brain_ray.errors import RunError

Kind = Literal[
    "same bytes", "recompressed", "brighter", "mirrored", "turned", "flipped",
    "conflict",
    "corrupt", "truncated", "text", "one pixel", "blank", "16 bit",
]  # fmt: skip

COPIES: tuple[Kind, ...] = ("same bytes", "recompressed", "brighter", "mirrored", "turned", "flipped")
"""Kinds of planted copies, used in turn; the last three are left-right, by 180 degrees and top-bottom."""

FAULTS: tuple[Kind, ...] = ("corrupt", "truncated", "text", "one pixel", "blank", "16 bit")
"""Kinds of planted faults, used in turn; the last two are odd but usable."""

_FLIPS: dict[Kind, int] = {"mirrored": 1, "flipped": 0, "turned": -1}  # cv2.flip's codes


@dataclass(frozen=True)
class Planted:
    """A file planted on purpose: a copy, a copy under a wrong class, or a fault.

    `path` and `of` (the original of a copy) are relative to the tree; `usable` is whether it can be decoded
    and goes into a data set.
    """

    path: str
    kind: Kind
    of: str | None
    usable: bool


def draw(label_name: str, seed: int, index: int) -> Image:
    """Draws one phantom: (height, width), or (height, width, 3) with equal channels; uint8, sides 128..512.

    Raises:
        RunError: there is no phantom of that class.
    """
    _check([label_name])
    head = draw_head(np.random.default_rng([seed, index, 0]))
    TUMOURS[label_name](head, np.random.default_rng([seed, index, 1]))
    return scan(head.picture, np.random.default_rng([seed, index, 2]))


def write_tree(
    folder: Path,
    phantoms: PhantomConfig,
    classes: Sequence[str],
    seed: int,
    train_folder: str = "Training",
    test_folder: str = "Testing",
) -> list[Planted]:
    """Writes phantoms as `<train or test folder>/<class>/<name>`, mostly JPEG; a seed fixes their bytes.

    Planted files come on top of the counts in `phantoms` and are named by their kind: copies of training
    images among the test images, copies under another class's training folder (the same bytes), and faults
    among the training images. No image is the original of two plants.

    Raises:
        RunError: a class without phantoms, or more copies and conflicts than training images.
    """
    _check(classes)
    total = len(classes) * phantoms.train_per_class
    if phantoms.copies + phantoms.conflicts > total:
        raise RunError(
            f"{phantoms.copies} copies and {phantoms.conflicts} conflicts were asked of {total} training "
            "phantoms: lower --data.phantoms.copies or raise --data.phantoms.train-per-class"
        )
    names: list[tuple[str, str]] = []
    for top, prefix, count in (
        (train_folder, "Tr", phantoms.train_per_class),
        (test_folder, "Te", phantoms.test_per_class),
    ):
        for name in classes:
            (folder / top / name).mkdir(parents=True, exist_ok=True)
            names += [(name, f"{top}/{name}/{prefix}-{name[:2]}_{i:05d}") for i in range(count)]

    def write(index: int) -> str:
        name, stem = names[index]
        suffix = ".png" if index % 32 == 31 else ".jpg"  # real data sets seldom have one format only
        (folder / (stem + suffix)).write_bytes(encode(draw(name, seed, index), suffix))
        return stem + suffix

    with ThreadPoolExecutor() as pool:
        paths = list(pool.map(write, range(len(names))))
    rng = np.random.default_rng([seed, 0, 3])
    origins = [paths[i] for i in rng.permutation(total)]
    planted = [_plant_copy(folder, k, origins[k], test_folder) for k in range(phantoms.copies)]
    planted += [
        _plant_conflict(folder, k, origins[phantoms.copies + k], classes) for k in range(phantoms.conflicts)
    ]
    for k in range(phantoms.faults):
        spare = draw(classes[k % len(classes)], seed, len(names) + k)
        planted.append(_plant_fault(folder, k, f"{train_folder}/{classes[k % len(classes)]}", spare, rng))
    return planted


def _check(classes: Sequence[str]) -> None:
    for name in classes:
        if name not in TUMOURS:
            raise RunError(
                f"there is no phantom of class {name!r}: expected one of {list(TUMOURS)}; "
                "set --data.classes to these, or --data.source to a folder with images"
            )


def encode(image: Image | NDArray[np.uint16], suffix: str, quality: int = 92) -> bytes:
    """Returns an image as a file of the format that a suffix such as `.png` names."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    return cv2.imencode(suffix, image, options)[1].tobytes()


def _plant_copy(folder: Path, number: int, origin: str, test_folder: str) -> Planted:
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


def _plant_conflict(folder: Path, number: int, origin: str, classes: Sequence[str]) -> Planted:
    of = PurePosixPath(origin)
    others = [name for name in classes if name != of.parent.name]
    path = str(of.parent.parent / others[number % len(others)] / f"conflict-{number:03d}{of.suffix}")
    (folder / path).write_bytes((folder / origin).read_bytes())
    return Planted(path, "conflict", origin, usable=True)


def _plant_fault(folder: Path, number: int, where: str, spare: Image, rng: np.random.Generator) -> Planted:
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
