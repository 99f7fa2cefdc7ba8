"""Drawing of phantoms: a head, a tumour in it, and the scan of both. Pure functions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
Points = NDArray[np.float64]

SIDE = 192
"""Side, in pixels, of the square on which a head is drawn before it is posed and scanned."""

_ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)


@dataclass(frozen=True)
class Tissue:
    """Brightness of each tissue, 0..1, in one weighting of the scanner."""

    scalp: float
    bone: float
    fluid: float
    grey: float
    white: float
    vessel: float
    tumour: float
    oedema: float
    necrosis: float


_T1_CONTRAST = Tissue(0.80, 0.10, 0.13, 0.38, 0.56, 0.80, 0.92, 0.27, 0.20)
_FLAIR = Tissue(0.70, 0.08, 0.12, 0.46, 0.36, 0.62, 0.86, 0.68, 0.24)


@dataclass(frozen=True)
class Head:
    """A head without a tumour, (SIDE, SIDE) float32 of 0..1, and the positions of its parts."""

    picture: Floats
    brain: Floats
    inside: Floats
    skull: Points
    sella: Points
    tissue: Tissue


def draw_head(rng: np.random.Generator) -> Head:
    """Draws a head without a tumour: no true anatomy, but its parts, in a view between axial and coronal."""
    weighting = _FLAIR if rng.random() < 0.3 else _T1_CONTRAST
    gamma = rng.uniform(0.8, 1.15)
    tissue = Tissue(*(value**gamma for value in astuple(weighting)))
    tall = rng.uniform(0.41, 0.455) * SIDE
    wide = tall * rng.uniform(0.78, 0.94)
    outline = _blob((0, 0), (wide, tall), 0.022, rng)
    scalp, bone, fluid = rng.uniform((0.11, 0.035, 0.015), (0.14, 0.06, 0.03))
    skull = outline * (1 - scalp - bone)
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    _fill(canvas, outline, tissue.scalp)
    _fill(canvas, outline * (1 - scalp), tissue.bone)
    _fill(canvas, skull, tissue.fluid)
    brain = _mask(skull * (1 - fluid))

    # Zero crossings of smooth noise are winding lines: the sulci near the surface, grey matter along them.
    depth = _floats(cv2.distanceTransform((brain > 0.5).astype(np.uint8), cv2.DIST_L2, 3))
    folds = np.abs(_smooth_noise(rng, int(rng.integers(18, 28))))
    white = np.clip(folds * 1.5 + depth / 10 - 1.4, 0, 1)
    matter = _floats(tissue.grey + (tissue.white - tissue.grey) * white)
    sulci = np.clip(1.2 - folds * 4, 0, 1) * np.clip(1.5 - depth / 18, 0, 1)
    _blend(matter, _floats(sulci), tissue.fluid)
    matter *= 1 + 0.05 * _smooth_noise(rng, 48)
    inner = (matter.clip(0, 1) * 255).astype(np.uint8)
    sella = _draw_middle(inner, rng, tissue, wide, tall)
    for spot in rng.uniform(-0.6, 0.6, (int(rng.integers(3, 9)), 2)):
        _fill(inner, _blob(spot * (wide, tall), rng.uniform(0.7, 1.8, 2)), tissue.vessel)
    picture = _unit(canvas)
    _blend(picture, brain, _unit(inner))
    return Head(picture, brain, _mask(skull), skull, sella, tissue)


def _draw_middle(inner: Image, rng: np.random.Generator, tissue: Tissue, wide: float, tall: float) -> Points:
    """Draws fissure, sinus, nuclei, ventricles and the cistern; returns the position of its gland, (2,)."""
    middle = rng.uniform(-0.02, 0.02) * wide
    fissure = np.stack([middle + rng.normal(0, 0.9, 9), np.linspace(-1, -0.35, 9) * tall], axis=1)
    _stroke(inner, fissure, 2, tissue.fluid)
    sinus = np.array([(middle + x, y * tall) for x, y in ((-4, -0.88), (4, -0.88), (0, -0.76))])
    _fill(inner, sinus, tissue.vessel)

    level = rng.uniform(-0.18, 0.0) * tall
    for side in (-1, 1):
        nucleus = (middle + side * 0.26 * wide, level + 0.16 * tall)
        _fill(inner, _blob(nucleus, (0.12 * wide, 0.17 * tall)), (2 * tissue.grey + tissue.white) / 3)
        along = np.linspace(-1, 1, 9)
        reach, start, bend = rng.uniform((0.14, 0.06, 0.06), (0.28, 0.10, 0.17)) * (tall, wide, wide)
        horn = np.stack([middle + side * (start + bend * along**2), level + along * reach], axis=1)
        _stroke(inner, horn, int(rng.integers(3, 9)), tissue.fluid)
    sella = np.array([middle, rng.uniform(0.58, 0.68) * tall])
    cistern = rng.uniform(0.058, 0.08) * SIDE
    _fill(inner, _blob(sella, (cistern * 1.3, cistern), 0.25, rng), tissue.fluid)
    _fill(inner, _blob(sella, rng.uniform(1.8, 3.2, 2)), tissue.vessel)  # a healthy gland is bright too
    return sella


def _no_tumour(head: Head, rng: np.random.Generator) -> None:
    """Draws no tumour."""


def _glioma(head: Head, rng: np.random.Generator) -> None:
    """Draws a glioma: irregular, in a hemisphere; a bright uneven rim, a dark core, fingers of oedema."""
    angle = rng.choice((0.0, np.pi)) + rng.uniform(-0.9, 0.9)
    centre = _along(head.skull, angle) * rng.uniform(0.40, 0.56)
    size = rng.uniform(0.075, 0.125) * SIDE * rng.uniform(0.8, 1.2, 2)
    swelling = _mask(_blob(centre, size * rng.uniform(1.6, 2.1), 0.35, rng), blur=2.0)
    swelling *= np.clip(1 + 0.6 * _smooth_noise(rng, 20), 0, 1)
    _blend(head.picture, swelling * head.brain, head.tissue.oedema)
    whole = _mask(_blob(centre, size, 0.30, rng), blur=0.7) * head.brain
    _blend(head.picture, whole, head.tissue.tumour * (1 + 0.12 * _smooth_noise(rng, 40)))
    core = centre + rng.uniform(-0.15, 0.15, 2) * size
    hollow = _mask(_blob(core, size * rng.uniform(0.45, 0.75), 0.30, rng), blur=1.0)
    _blend(head.picture, hollow * whole, head.tissue.necrosis)


def _meningioma(head: Head, rng: np.random.Generator) -> None:
    """Draws a meningioma: round, even and bright, broad on the skull, with a cleft of fluid and a tail."""
    angle = -np.pi / 2 + rng.uniform(-2.2, 2.2)  # all around but for the base, the pituitary's place
    edge = _along(head.skull, angle)
    reach = float(np.hypot(*edge))
    radius = rng.uniform(0.085, 0.135) * SIDE
    centre = edge * (1 - rng.uniform(0.55, 0.85) * radius / reach)
    mass = _blob(centre, radius * rng.uniform(0.9, 1.1, 2), 0.05, rng)
    cleft = centre + (mass - centre) * 1.13
    _blend(head.picture, _mask(cleft, blur=1.0) * head.inside, head.tissue.fluid)
    tail = np.linspace(-1, 1, 15) * rng.uniform(1.5, 2.0) * radius / reach
    line = np.zeros((SIDE, SIDE), np.uint8)
    _stroke(line, _along(head.skull, angle + tail), 4, 1.0)
    _blend(head.picture, np.maximum(_mask(mass), _unit(line)) * head.inside, head.tissue.tumour)


def _pituitary(head: Head, rng: np.random.Generator) -> None:
    """Draws a pituitary tumour: small, even and bright; it fills the cistern on the midline at the base."""
    centre = head.sella + rng.normal(0, 0.006, 2) * SIDE
    size = rng.uniform(0.048, 0.075) * SIDE * rng.uniform(0.88, 1.14, 2)
    _blend(head.picture, _mask(_blob(centre, size, 0.12, rng)), head.tissue.tumour * rng.uniform(0.9, 1.0))


TUMOURS: dict[str, Callable[[Head, np.random.Generator], None]] = {
    "glioma": _glioma,
    "meningioma": _meningioma,
    "notumor": _no_tumour,
    "pituitary": _pituitary,
}
"""Function by class that draws the tumour into a head's picture."""


def scan(picture: Floats, rng: np.random.Generator) -> Image:
    """Poses and samples a head, (SIDE, SIDE) of 0..1, with bias field and noise: (height, width) uint8."""
    height = round(float(np.exp(rng.uniform(np.log(128), np.log(512)))))
    aspect = rng.choice((1.0, rng.uniform(0.85, 1.2)))
    width = int(np.clip(round(height * aspect), 128, 512))
    # Scanners sample some 256 lines at most; larger pictures are interpolated, noise included.
    fine = min(1.0, 256 / max(height, width))
    rows, columns = round(height * fine), round(width * fine)

    angle = math.radians(rng.uniform(-18, 18))
    cos, sin = math.cos(angle), math.sin(angle)
    step = SIDE / rows / rng.uniform(0.88, 1.04)  # pixels of the picture for one of the matrix
    stretch = rng.uniform(0.94, 1.06)
    x = (np.arange(columns, dtype=np.float32) - (columns - 1) / 2)[None, :] * (step * stretch)
    y = (np.arange(rows, dtype=np.float32) - (rows - 1) / 2)[:, None] * (step / stretch)
    bend = 0.014 * SIDE * rng.standard_normal((2, 5, 5), dtype=np.float32)
    shift = (0.5 + rng.uniform(-0.03, 0.03, 2)).astype(np.float32) * SIDE
    map_x = _upscale(bend[0] + shift[0], rows, columns) + (cos * x + sin * y)
    map_y = _upscale(bend[1] + shift[1], rows, columns) + (cos * y - sin * x)
    signal = _floats(cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))

    signal *= _upscale(1 + 0.10 * rng.standard_normal((4, 4), dtype=np.float32), rows, columns)
    # A magnitude image of a complex signal: its noise is Rician (Gudbjartsson and Patz, 1995).
    noise = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(rng.uniform(0.012, 0.04))
    magnitude = cv2.magnitude(signal + noise, np.ascontiguousarray(noise[::-1, ::-1]))
    sampled = cv2.convertScaleAbs(magnitude, alpha=255 * rng.uniform(0.85, 1.1))
    image = np.asarray(cv2.resize(sampled, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.merge([image] * 3), np.uint8) if rng.random() < 0.4 else image


def _blob(
    centre: Sequence[float] | Points,
    radii: Sequence[float] | Points,
    uneven: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Points:
    """Returns an ellipse's outline, (72, 2) x, y from the head's centre, made uneven by five harmonics."""
    radius = np.ones(len(_ANGLES))
    if rng is not None:
        for k, phase in enumerate(rng.uniform(0, 2 * np.pi, 5), start=2):
            radius += uneven * rng.uniform(0.3, 1) / np.sqrt(k) * np.cos(k * _ANGLES + phase)
    unit = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    return np.asarray(centre + unit * radius[:, None] * np.asarray(radii), np.float64)


def _along(outline: Points, angles: float | NDArray[np.float64]) -> Points:
    """Returns the points of an outline at some angles, (..., 2)."""
    parts = [np.interp(angles, _ANGLES, outline[:, k], period=2 * np.pi) for k in (0, 1)]
    return np.asarray(np.stack(parts, axis=-1), np.float64)


def _fixed(points: Points) -> NDArray[np.int32]:
    """Converts points from the head's centre to pixels of the canvas, in OpenCV's sixteenths."""
    return np.rint((points + SIDE / 2) * 16).astype(np.int32)


def _fill(canvas: Image, points: Points, value: float) -> None:
    cv2.fillPoly(canvas, [_fixed(points)], round(value * 255), cv2.LINE_AA, 4)


def _stroke(canvas: Image, points: Points, width: int, value: float) -> None:
    cv2.polylines(canvas, [_fixed(points)], False, round(value * 255), width, cv2.LINE_AA, 4)


def _unit(canvas: Image) -> Floats:
    return canvas * np.float32(1 / 255)


def _mask(points: Points, blur: float = 0.0) -> Floats:
    """Returns the share of each pixel within an outline, (SIDE, SIDE), 0..1; `blur` is a Gaussian's sigma in
    pixels."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    _fill(canvas, points, 1.0)
    return _unit(np.asarray(cv2.GaussianBlur(canvas, (0, 0), blur), np.uint8) if blur else canvas)


def _blend(picture: Floats, share: Floats, value: float | Floats) -> None:
    """Blends `value` into a picture, in place, with a share for each pixel."""
    picture += (value - picture) * share


def _smooth_noise(rng: np.random.Generator, cells: int) -> Floats:
    """Returns smooth noise of about unit variance, (SIDE, SIDE), from cells x cells random values."""
    return _upscale(rng.standard_normal((cells, cells), dtype=np.float32), SIDE, SIDE)


def _upscale(coarse: Floats, rows: int, columns: int) -> Floats:
    return _floats(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC))


def _floats(array: object) -> Floats:
    return np.asarray(array, np.float32)
