"""Changes of images that leave them copies, for benchmarks/audit.py: what is done, by kind and name."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.config import CropConfig
from brain_ray.data.transforms import Box, find_box

Grey = NDArray[np.uint8]
Change = Callable[[Grey, np.random.Generator], Grey]


def moved(
    image: Grey, degrees: float = 0, zoom: float = 1, right: float = 0, down: float = 0, black: bool = False
) -> Grey:
    """Turn and zoom an image about its middle, and shift it by shares of its sides."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, zoom)
    matrix[:, 2] += (right * width, down * height)
    border = cv2.BORDER_CONSTANT if black else cv2.BORDER_REPLICATE
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=border), np.uint8)


def shifted(share: float) -> Change:
    """Shift an image both ways, to a random side; edges are repeated, or black."""

    def change(image: Grey, rng: np.random.Generator) -> Grey:
        right, down = share * rng.choice([-1, 1], 2)
        return moved(image, right=right, down=down, black=bool(rng.integers(2)))

    return change


def turned(degrees: float) -> Change:
    """Turn an image to a random side; edges are repeated, or black."""
    return lambda image, rng: moved(image, degrees * rng.choice([-1, 1]), black=bool(rng.integers(2)))


def zoomed(factor: float) -> Change:
    """Zoom an image about its middle; edges are repeated."""
    return lambda image, _: moved(image, zoom=factor)


def gamma(exponent: float) -> Change:
    """Change the grey levels by a power."""
    return lambda image, _: np.asarray(255 * (image / 255) ** exponent, np.uint8)


def levels(gain: float, offset: float) -> Change:
    """Change brightness and contrast; what is too bright is clipped."""
    return lambda image, _: np.asarray(np.clip(gain * image + offset, 0, 255), np.uint8)


def margin(share: float, level: int) -> Change:
    """Add a uniform margin, a share of each side."""

    def change(image: Grey, _: np.random.Generator) -> Grey:
        rows, columns = (round(share * side) for side in image.shape)
        return np.pad(image, ((rows, rows), (columns, columns)), constant_values=level)

    return change


def framed(share: float, brightness: float) -> Change:
    """Shrink an image into a white frame of its own size, darker than before."""

    def change(image: Grey, _: np.random.Generator) -> Grey:
        rows, columns = (int(share * side) for side in image.shape)
        inner = (image.shape[1] - 2 * columns, image.shape[0] - 2 * rows)
        small = brightness * cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
        return np.pad(small.astype(np.uint8), ((rows, rows), (columns, columns)), constant_values=255)

    return change


def saved(image: Grey, _: np.random.Generator) -> Grey:
    """Save as JPEG of quality 30 and read it again."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def cropped(image: Grey, _: np.random.Generator) -> Grey:
    """Cut to the head, as training does."""
    return (find_box(image, CropConfig()) or Box.whole(image)).crop(image)


def oriented(quarters: int, mirrored: bool) -> Change:
    """Turn by multiples of 90 degrees, and mirror."""

    def change(image: Grey, _: np.random.Generator) -> Grey:
        other = np.rot90(image, quarters)
        return np.ascontiguousarray(other[:, ::-1] if mirrored else other)

    return change


def augmented(image: Grey, rng: np.random.Generator) -> Grey:
    """Turn up to 10 degrees, shift up to 10 %, flip both ways, darken: augmented before a split is drawn."""
    other = moved(image, rng.uniform(-10, 10), 1, *rng.uniform(-0.1, 0.1, 2))
    other = other[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    return np.asarray(rng.uniform(0.3, 1) * other, np.uint8)


SAME = "eight orientations, JPEG of quality 30, brightness, contrast, cut to the head, margins up to 20 %"
SMALL = "shifts of 3 %, turns of 3 degrees, zooms of 5 %, gamma of 0.6 and 1.6"
BOTH = "two of these at once"

CHANGES: dict[str, dict[str, Change]] = {
    SAME: {
        **{
            f"turned by {90 * k} degrees{', mirrored' * mirrored}": oriented(k, mirrored)
            for mirrored in (False, True)
            for k in range(4)
        },
        "JPEG, quality 30": saved,
        "darker, flatter": levels(0.6, 30),
        "brighter": levels(1.25, 10),
        "more contrast": levels(1.2, -15),
        "cut to the head": cropped,
        **{f"black margin of {share:.0%}": margin(share, 0) for share in (0.05, 0.1, 0.2)},
        "grey margin of 10 %": margin(0.1, 128),
        "white margin of 20 %": margin(0.2, 255),
    },
    SMALL: {
        "shift": shifted(0.03),
        "turn": turned(3),
        "zoom 0.95": zoomed(0.95),
        "zoom 1.05": zoomed(1.05),
        "gamma 0.6": gamma(0.6),
        "gamma 1.6": gamma(1.6),
    },
}


def both(first: Change, second: Change) -> Change:
    """One change after the other."""
    return lambda image, rng: second(first(image, rng), rng)


CHANGES[BOTH] = {
    f"{one}, {other}": both(first, second)
    for one, first in CHANGES[SMALL].items()
    for other, second in CHANGES[SMALL].items()
    if one.split()[0] > other.split()[0]
}

FRAMES = {
    "5 % of white, a quarter as bright": framed(0.05, 0.25),
    "10 % of white, half as bright": framed(0.1, 0.5),
    "30 % of white": framed(0.3, 1),
}
