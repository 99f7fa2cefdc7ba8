"""Made-up slices of heads, and changes that leave them copies."""

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.data.copies.candidates import NUM_VIEWS
from brain_ray.data.copies.head_view import SIDE, view_head

Grey = NDArray[np.uint8]

UNDO = {
    "identity": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "flipped": lambda image: image[::-1],
    "turned": lambda image: image[::-1, ::-1],
    "turned left": lambda image: np.rot90(image, 1),
    "turned right": lambda image: np.rot90(image, -1),
    "transposed": lambda image: image.T,
    "transposed and turned": lambda image: np.rot90(image, 2).T,
}
"""How a second image becomes a first one, by the transform's name."""


def slice_of(seed: int, side: int = 200, height: float = 0.0) -> Grey:
    """A bright oval full of winding structures on black; slices of near heights are alike."""
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), side / 25) for _ in range(2)]
    mixed = np.cos(height) * fields[0] + np.sin(height) * fields[1]
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / side
    inside = (x / 0.33) ** 2 + (y / 0.42) ** 2
    picture = 110 + 45 * mixed / mixed.std()
    picture[inside > 0.85] = 200
    picture[inside > 1] = 4
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def ct_slice(seed: int, side: int = 224, window: float = 255) -> Grey:
    """A closed ring of bone as bright as the window allows, around a dim, nearly even brain."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / side
    wide, high, bone = rng.uniform(0.34, 0.4), rng.uniform(0.4, 0.46), rng.uniform(0.07, 0.14)
    depth = 1 - np.sqrt((x / wide) ** 2 + (y / high) ** 2)
    picture = np.where(depth > 0, rng.uniform(0.15, 0.25), 0)
    picture[depth > 0.03] = rng.uniform(1, 1.3)
    brain = depth > 0.03 + bone
    picture[brain] = rng.uniform(0.28, 0.45)
    for sign in (-1, 1):
        picture[((x - sign * 0.05) / 0.03) ** 2 + (y / 0.12) ** 2 < 1] = 0.1
    picture += rng.normal(0, 0.03, picture.shape) * (depth > 0)
    return np.asarray(window * np.clip(cv2.GaussianBlur(picture, (0, 0), side / 300), 0, 1), np.uint8)


def moved(image: Grey, degrees: float = 0, zoom: float = 1, right: float = 0, down: float = 0) -> Grey:
    """Turns an image counter-clockwise, zooms it about its middle, and shifts it by shares of its sides."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, zoom)
    matrix[:, 2] += (right * width, down * height)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height)), np.uint8)


def gamma(image: Grey, exponent: float) -> Grey:
    """Changes the grey levels by a power."""
    return np.asarray(255 * (image / 255) ** exponent, np.uint8)


def framed(image: Grey, share: float, level: int) -> Grey:
    """Adds a uniform margin, a share of each side."""
    rows, columns = (round(share * side) for side in image.shape)
    return np.pad(image, ((rows, rows), (columns, columns)), constant_values=level)


def views_of(images: list[Grey]) -> NDArray[np.uint8]:
    """The views of images, (n, 2, 64, 64), of which the crop shows the whole head."""
    found = np.stack([view_head(image).ranks for image in images])
    return np.repeat(found[:, None], NUM_VIEWS, axis=1).reshape(-1, NUM_VIEWS, SIDE, SIDE)
