"""Outsiders: images unlike those that a model learns from, to measure what its out-of-distribution detector
refuses. Pure functions.

Far ones are drawn: noise, text, a blank image. Near ones are other body parts, drawn and scanned like the
phantoms, and changes of a given slice of a head. None is a real image of its kind: an image of `ct_like` has
the window and the bright skull of a CT, and is none.
"""

from collections.abc import Callable

import cv2
import numpy as np

from brain_ray.arrays import Grey
from brain_ray.config import CropConfig
from brain_ray.data.phantoms.scanner import draw_pose, scan
from brain_ray.data.phantoms.shapes import SIDE, Floats, Level, Points, blend, blob, fill, floats, mask, unit
from brain_ray.data.transforms import Box, find_box, find_contour

Rng = np.random.Generator


def noise(rng: Rng) -> Grey:
    """Draws noise, of one pixel's size or smooth: uint8, sides 120..499."""
    height, width = rng.integers(120, 500, 2)
    values = floats(rng.normal(size=(height, width)))
    if (blur := rng.uniform(-3, 15)) > 0:
        values = floats(cv2.GaussianBlur(values, (0, 0), blur))
    low, high = values.min(), values.max()
    return _grey((values - low) * (255 / (high - low)))


def text(rng: Rng) -> Grey:
    """Writes a page, dark on light or light on dark: uint8, sides 150..599."""
    height, width = rng.integers(150, 600, 2)
    page = np.full((height, width), 255, np.uint8)
    size = rng.uniform(0.4, 1.2)
    for row in range(20, int(height), int(36 * size)):
        words = "".join(chr(code) for code in rng.integers(33, 122, 60))
        cv2.putText(page, words, (5, row), cv2.FONT_HERSHEY_SIMPLEX, size, 0, 1)
    return page if rng.random() < 0.5 else np.asarray(255 - page, np.uint8)


def blank(rng: Rng) -> Grey:
    """Fills an image with one grey: uint8, sides 64..499."""
    height, width = rng.integers(64, 500, 2)
    return np.full((height, width), int(rng.integers(0, 256)), np.uint8)


def abdomen(rng: Rng) -> Grey:
    """Draws an axial slice of an abdomen: fat, muscle, liver, kidneys, bowel, vertebra and great vessels."""
    wide, tall = rng.uniform((0.42, 0.27), (0.47, 0.34)) * SIDE
    outline = blob((0, 0), (wide, tall), 0.03, rng)
    fat, muscle, organ, bone = rng.uniform((0.7, 0.3, 0.45, 0.5), (0.9, 0.4, 0.6, 0.65))
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    fill(canvas, outline, fat)
    fill(canvas, outline * rng.uniform(0.82, 0.92), muscle)
    fill(canvas, outline * rng.uniform(0.72, 0.79), fat * 0.9)
    right = -0.33 * wide  # the patient's right is on the left
    fill(canvas, blob((right, -0.12 * tall), (0.36 * wide, 0.52 * tall), 0.15, rng), organ)
    fill(canvas, blob((0.45 * wide, 0.05 * tall), (0.15 * wide, 0.25 * tall), 0.15, rng), organ * 0.9)
    for side in (-1, 1):
        kidney = np.array((side * rng.uniform(0.32, 0.4) * wide, rng.uniform(0.28, 0.42) * tall))
        fill(canvas, blob(kidney, (0.12 * wide, 0.17 * tall), 0.1, rng), organ * 0.8)
        fill(canvas, blob(kidney, (0.05 * wide, 0.08 * tall), 0.2, rng), fat)
    for _ in range(int(rng.integers(6, 12))):
        loop = rng.uniform((-0.1, -0.62), (0.6, 0.0)) * (wide, tall)
        radii = rng.uniform(0.04, 0.1, 2) * wide
        fill(canvas, blob(loop, radii, 0.2, rng), muscle)
        fill(canvas, blob(loop, radii * 0.6, 0.3, rng), rng.uniform(0.02, 0.8))
    _fill_bone(canvas, blob((0, 0.45 * tall), (0.13 * wide, 0.18 * tall), 0.08, rng), bone)
    fill(canvas, blob((0, 0.66 * tall), (0.04 * wide, 0.06 * tall), 0.1, rng), 0.1)
    for x in (-0.1, 0.1):
        fill(
            canvas, blob((x * wide, 0.2 * tall), rng.uniform(0.035, 0.055, 2) * wide), rng.uniform(0.02, 0.9)
        )
    return _scan(canvas, outline, rng)


def knee(rng: Rng) -> Grey:
    """Draws a sagittal slice of a knee: thigh bone, shin bone and kneecap with marrow, cartilage, muscle."""
    wide = rng.uniform(0.3, 0.38) * SIDE
    middle = rng.uniform(-0.05, 0.05) * SIDE
    edge = np.array([(-wide, -0.55 * SIDE), (wide, -0.55 * SIDE), (wide, 0.55 * SIDE), (-wide, 0.55 * SIDE)])
    fat, muscle, marrow, gap = rng.uniform((0.65, 0.25, 0.55, 0.7), (0.85, 0.4, 0.8, 0.95))
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    fill(canvas, edge, fat)
    fill(canvas, edge * (rng.uniform(0.8, 0.9), 1), muscle)
    fill(canvas, blob((0.1 * wide, middle), (0.75 * wide, 0.16 * SIDE), 0.1, rng), fat * 0.8)
    for end in (-1, 1):
        reach = np.array((rng.uniform(-0.05, 0.1) * wide, middle + end * 0.34 * SIDE))
        _fill_bone(canvas, blob(reach, (0.36 * wide, 0.3 * SIDE), 0.03, rng), marrow)
        head = np.array((reach[0] + 0.1 * wide, middle + end * rng.uniform(0.115, 0.13) * SIDE))
        size = (rng.uniform(0.55, 0.68) * wide, rng.uniform(0.09, 0.11) * SIDE)
        fill(canvas, blob(head - (0, end * 3), size, 0.06, rng), gap)
        _fill_bone(canvas, blob(head, size, 0.06, rng), marrow)
    cap = (-0.78 * wide, middle - rng.uniform(0.1, 0.2) * SIDE)
    _fill_bone(canvas, blob(cap, (0.12 * wide, 0.09 * SIDE), 0.1, rng), marrow)
    return _scan(canvas, edge, rng)


def ct_like(image: Grey, rng: Rng) -> Grey:
    """Makes a head look like a CT in a brain window: a white skull, and little contrast within it.

    The skull is drawn along the head's outline, as `find_contour` finds it; without one, along the border.
    """
    inside = _head(image)
    depth = floats(cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 5))[1:-1, 1:-1]
    depth /= max(float(depth.max()), 1.0)  # 0 at the outline, 1 in the middle
    scalp = rng.uniform(0.03, 0.08)
    bone = scalp + rng.uniform(0.08, 0.16)
    brain = depth > bone
    soft = floats(cv2.GaussianBlur(image, (0, 0), max(image.shape) / 200))
    level = soft[brain].mean() if brain.any() else 0.0
    window = rng.uniform(95, 130) + rng.uniform(0.15, 0.35) * (soft - level)
    found = np.where(brain, window, np.where(depth > scalp, 255, rng.uniform(70, 110)))
    grain = floats(cv2.GaussianBlur(floats(rng.normal(size=image.shape)), (0, 0), 0.7)) * rng.uniform(8, 16)
    return _grey(np.where(inside > 0, found + grain, 0))


def quarter_turn(image: Grey, rng: Rng) -> Grey:
    """Turns an image by 90 degrees, to either side."""
    return np.ascontiguousarray(np.rot90(image, int(rng.choice((1, 3)))))


def upside_down(image: Grey, _: Rng) -> Grey:
    """Turns an image by 180 degrees."""
    return np.ascontiguousarray(np.rot90(image, 2))


def inverted(image: Grey, _: Rng) -> Grey:
    """Inverts the grey levels, the background included."""
    return np.asarray(255 - image, np.uint8)


def cropped(image: Grey, rng: Rng) -> Grey:
    """Cuts a part out of the head's box: 35 to 55 % of its height and width."""
    part = (find_box(image, CropConfig()) or Box.whole(image)).crop(image)
    sides = [max(1, round(float(rng.uniform(0.35, 0.55)) * side)) for side in part.shape]
    top, left = (int(rng.integers(whole - side + 1)) for whole, side in zip(part.shape, sides, strict=True))
    return np.ascontiguousarray(part[top : top + sides[0], left : left + sides[1]])


def other_contrast(image: Grey, rng: Rng) -> Grey:
    """Inverts the brightness within the head's outline: T2 has fluid bright, T1 dark. The rest stays."""
    share = floats(image) / 255
    changed = 255 * (1 - share) ** rng.uniform(1.0, 1.8)
    return _grey(np.where(_head(image) > 0, changed, image))


FAR: dict[str, Callable[[Rng], Grey]] = {"noise": noise, "text": text, "blank": blank}
"""Function by kind that draws a far outsider."""

BODY_PARTS: dict[str, Callable[[Rng], Grey]] = {"abdomen": abdomen, "knee": knee}
"""Function by kind that draws another body part."""

CHANGES: dict[str, Callable[[Grey, Rng], Grey]] = {
    "CT-like": ct_like,
    "quarter turn": quarter_turn,
    "upside down": upside_down,
    "inverted": inverted,
    "cropped to a part": cropped,
    "other contrast": other_contrast,
}
"""Function by kind that changes a slice of a head, (height, width) uint8, into a near outsider."""


def _head(image: Grey) -> Grey:
    """Fills the head's outline: (height, width), 255 inside, else 0; without an outline, all is inside."""
    contour = find_contour(image, CropConfig())
    if contour is None:
        return np.full(image.shape, 255, np.uint8)
    return np.asarray(cv2.drawContours(np.zeros(image.shape, np.uint8), [contour], -1, 255, cv2.FILLED))


def _fill_bone(canvas: Grey, outline: Points, marrow: float) -> None:
    """Fills a bone, in place: marrow within a dark rim."""
    middle = outline.mean(axis=0)
    fill(canvas, outline, 0.05)
    fill(canvas, middle + (outline - middle) * 0.88, marrow)


def _scan(canvas: Grey, outline: Points, rng: Rng) -> Grey:
    """Gives a body part the texture of tissue, poses and samples it like a phantom's head."""
    picture: Floats = unit(canvas)
    texture = 1 + 0.08 * Level().noise(rng, 40) + 0.08 * Level().noise(rng, 12)
    blend(picture, mask(outline), floats(picture * texture))
    image = scan(picture, draw_pose(rng, rng), rng, rng, rng)
    return image if image.ndim == 2 else np.ascontiguousarray(image[..., 0])


def _grey(values: Floats) -> Grey:
    """Rounds values to uint8, those outside 0..255 to the nearer end."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
