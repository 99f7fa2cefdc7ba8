"""Reference of a bundle: a few numbers of its validation images, which others are held against."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.bundle.bundle import REFERENCE_FILE, Bundle
from brain_ray.data.grey_levels import DARK, measure_grey
from brain_ray.scoring.intervals import group_weights

Floats = NDArray[np.float32]

QUANTITIES: Mapping[str, str] = {
    "grey_mean": "mean grey level of the network's input, 0..255",
    "grey_spread": "standard deviation of its grey levels",
    "grey_dark": f"share of its pixels below grey level {DARK}",
    "grey_detail": "mean difference of neighbouring pixels, in grey levels: noise, sharpness",
    "box_share": "share of the image in the head's box",
    "box_aspect": "height of the head's box by its width",
    "unlikeness": "distance from the training images, as a multiple of the threshold of not_mr",
    "confidence": "largest calibrated probability",
}
"""Name and meaning of each quantity of an image."""

ANSWER = "answer"
"""Name under which a reference also has the index of each image's most probable class; one of an earlier
version has none."""


def grey_quantities(inputs: NDArray[np.uint8]) -> dict[str, Floats]:
    """Returns the quantities of (n, height, width, 1) network inputs that are of their grey levels, each
    (n,)."""
    rows = [measure_grey(image[..., 0]) for image in inputs]
    names = [name for name in QUANTITIES if name.startswith("grey_")]
    return {name: np.array([row[name] for row in rows], np.float32) for name in names}


def box_quantities(boxes: ArrayLike, sizes: ArrayLike) -> dict[str, Floats]:
    """Returns the quantities of heads' boxes, each (n,).

    Args:
        boxes: (n, 4), top, bottom, left and right in pixels.
        sizes: (n, 2), height and width of the images.
    """
    top, bottom, left, right = np.asarray(boxes, np.float32).reshape(-1, 4).T
    height, width = np.asarray(sizes, np.float32).reshape(-1, 2).T
    rows, columns = bottom - top, right - left
    return {"box_share": rows * columns / (height * width), "box_aspect": rows / columns}


@dataclass(frozen=True)
class Reference:
    """Quantities of validation images."""

    groups: NDArray[np.int64]
    """(n,) number of each image's group, from 0 in the order of the images: no name of a patient."""
    quantities: Mapping[str, Floats]
    """(n,) values by the name of the quantity."""

    @classmethod
    def of(cls, groups: ArrayLike, quantities: Mapping[str, ArrayLike]) -> Self:
        """Makes one of (n,) groups of any kind, and (n,) values of each quantity."""
        _, first, place = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
        numbers = np.argsort(np.argsort(first))[place]
        return cls(numbers, {name: np.asarray(values, np.float32) for name, values in quantities.items()})

    def answer_shares(self, number: int) -> Floats | None:
        """Returns how often each of so many classes is the most probable, (number,); each group has the same
        say. None: it does not have the answers."""
        if ANSWER not in self.quantities:
            return None
        found = self.quantities[ANSWER].astype(np.int64)
        weights = group_weights(self.groups)
        return np.asarray(np.bincount(found, weights, number) / weights.sum(), np.float32)

    def to_bytes(self) -> bytes:
        """Encodes it as a .npz file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, groups=self.groups, **self.quantities)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decodes the bytes of `to_bytes`."""
        with np.load(io.BytesIO(data)) as stored:
            named = {name: stored[name] for name in stored.files}
        return cls(named.pop("groups"), named)


def reference_of(bundle: Bundle) -> Reference | None:
    """Returns the reference of an opened bundle; None: the bundle is of an earlier version, and has none."""
    if REFERENCE_FILE not in bundle.info.files:
        return None
    return Reference.from_bytes(bundle.read(REFERENCE_FILE))
