"""Placement of one image of a pair on the other: orientation, shift, angle and zoom, from aligned views."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.copies.head_view import COVER, SIDE

Floats = NDArray[np.float32]
Level = TypeVar("Level", bound=np.generic)

TRANSFORMS = (
    "identity", "mirrored", "flipped", "turned",
    "turned left", "turned right", "transposed", "transposed and turned",
)  # fmt: skip
"""Transforms from the second image of a pair to the first: none, left-right, top-bottom, by 180 degrees; by
90 degrees counter-clockwise, by 90 degrees clockwise, about the main diagonal, about the other one."""

VIEWS = ("whole", "head", "aligned")
"""How two images are alike: as whole images, one on the other; as heads, in other places or of other sizes in
their images; only after alignment."""

TURNS = np.array(
    [
        [[1, 0], [0, 1]], [[-1, 0], [0, 1]], [[1, 0], [0, -1]], [[-1, 0], [0, -1]],
        [[0, -1], [1, 0]], [[0, 1], [-1, 0]], [[0, 1], [1, 0]], [[0, -1], [-1, 0]],
    ]
)  # fmt: skip
"""Matrices from (x, y) in the first image to (x, y) in the second, y downwards, for each transform."""

_STEPS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (-1, 1), (1, -1), (1, 1), (-1, -1))
"""Steps through rows and columns, after transposing for the last four transforms."""


def nearest_turns(transforms: Floats) -> NDArray[np.int64]:
    """Returns the positions in `TRANSFORMS` that (n, 2, 3) transforms are nearest to."""
    return np.asarray(np.einsum("nij,kij->nk", transforms[:, :, :2], TURNS).argmax(axis=1), np.int64)


def turn(images: NDArray[Level], transform: int) -> NDArray[Level]:
    """Applies one of `TRANSFORMS` to (..., height, width) images: second ones then lie as first ones."""
    if transform >= 4:
        images = np.swapaxes(images, -1, -2)
    down, across = _STEPS[transform]
    return images[..., ::down, ::across]


def combine(transform: int, then: int) -> int:
    """Returns the position in `TRANSFORMS` of two of them, applied one after the other."""
    return int(np.einsum("ij,kij->k", TURNS[transform] @ TURNS[then], TURNS).argmax())


def reverse(transform: int) -> int:
    """Returns the position in `TRANSFORMS` of the one that undoes another."""
    return int(np.einsum("ji,kij->k", TURNS[transform], TURNS).argmax())


WHOLE = 0.01
"""Largest shift, and change of size, at which two images still lie one on the other."""


@dataclass(frozen=True)
class Placement:
    """How the second images of pairs show what the first ones show, (n,) each."""

    transform: NDArray[np.int64]
    """Position in `TRANSFORMS`."""
    shift: Floats
    """Distance between the middles of the images, as a share of the second one's size, the square root of its
    area."""
    angle: Floats
    """Degrees, -45 to 45, by which the second image is turned clockwise beyond the transform."""
    zoom: Floats
    """Size of the head in the second image relative to the first, in proportion to the images' sizes."""

    def views(self, aligned: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Returns each pair's position in `VIEWS`; `aligned`: (n,), whether it is alike only after
        alignment."""
        whole = (self.shift <= WHOLE) & (np.abs(np.log(self.zoom)) <= WHOLE)
        return np.where(aligned, 2, np.where(whole, 0, 1))


def place(
    transforms: Floats, first: Floats, second: Floats, first_sizes: Floats, second_sizes: Floats
) -> Placement:
    """Returns how pairs of images lie on each other.

    Args:
        transforms: (n, 2, 3) from pixels (x, y) of the first views to pixels of the second ones.
        first: (n, 3) x, y and size of the heads of the first views, in pixels of their images.
        second: (n, 3) the same of the second ones.
        first_sizes: (n, 2) width and height of the first images.
        second_sizes: (n, 2) width and height of the second images.
    """
    linear = transforms[:, :, :2].astype(np.float64)
    middle = (SIDE - 1) / 2
    turn = nearest_turns(transforms)
    rest = linear @ np.swapaxes(TURNS[turn], 1, 2)
    angle = np.degrees(np.arctan2(rest[:, 1, 0] - rest[:, 0, 1], rest[:, 0, 0] + rest[:, 1, 1]))
    # A pixel of a view is this many pixels of its image.
    steps = COVER * np.stack([first[:, 2], second[:, 2]]) / SIDE
    spans = np.sqrt(np.stack([first_sizes.prod(axis=1), second_sizes.prod(axis=1)]).astype(np.float64))
    zoom = np.sqrt(np.abs(np.linalg.det(linear))) * steps[1] / steps[0] * spans[0] / spans[1]
    centre = ((first_sizes - 1) / 2 - first[:, :2]) / steps[0][:, None] + middle
    moved = np.einsum("nij,nj->ni", linear, centre) + transforms[:, :, 2]
    moved = (moved - middle) * steps[1][:, None] + second[:, :2]
    shift = np.linalg.norm(moved - (second_sizes - 1) / 2, axis=1) / spans[1]
    return Placement(turn, shift.astype(np.float32), angle.astype(np.float32), zoom.astype(np.float32))
