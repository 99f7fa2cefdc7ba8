"""Heads without a tumour: no true anatomy, but its parts. Pure functions."""

from dataclasses import astuple, dataclass

import cv2
import numpy as np

from brain_ray.data.phantoms.shapes import (
    SIDE,
    Floats,
    Image,
    Level,
    Points,
    blend,
    blob,
    fill,
    floats,
    mask,
    stroke,
    unit,
    upscale,
)


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
    level: Level


def draw_head(rng: np.random.Generator, scanner: np.random.Generator, level: Level) -> Head:
    """Draws a slice of a head without a tumour, in a view between axial and coronal.

    Args:
        rng: stream that gives the head; equal streams at neighbouring levels give heads that are alike.
        scanner: stream that gives the contrast of its tissues. It may be that of the head, too.
        level: the slice.
    """
    weighting = _FLAIR if scanner.random() < 0.3 else _T1_CONTRAST
    gamma = scanner.uniform(0.8, 1.15)
    tissue = Tissue(*(value**gamma for value in astuple(weighting)))
    taller, wider, larger, further = level.changes(4).tolist()
    tall = rng.uniform(0.41, 0.455) * SIDE
    wide = tall * rng.uniform(0.78, 0.94) * (1 + 0.05 * wider)
    tall *= 1 + 0.05 * taller
    outline = blob((0, 0), (wide, tall), 0.022, rng)
    scalp, bone, fluid = rng.uniform((0.11, 0.035, 0.015), (0.14, 0.06, 0.03))
    skull = outline * (1 - scalp - bone)
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    fill(canvas, outline, tissue.scalp)
    fill(canvas, outline * (1 - scalp), tissue.bone)
    fill(canvas, skull, tissue.fluid)
    brain = mask(skull * (1 - fluid))

    # Zero crossings of smooth noise are winding lines: the sulci near the surface, grey matter along them.
    depth = floats(cv2.distanceTransform((brain > 0.5).astype(np.uint8), cv2.DIST_L2, 3))
    folds = np.abs(level.noise(rng, int(rng.integers(18, 28))))
    white = np.clip(folds * 1.5 + depth / 10 - 1.4, 0, 1)
    matter = floats(tissue.grey + (tissue.white - tissue.grey) * white)
    sulci = np.clip(1.2 - folds * 4, 0, 1) * np.clip(1.5 - depth / 18, 0, 1)
    blend(matter, floats(sulci), tissue.fluid)
    matter *= 1 + 0.05 * level.noise(rng, 48)
    matter *= 1 + 0.4 * upscale(level.changes(6, 6), SIDE, SIDE)
    inner = (matter.clip(0, 1) * 255).astype(np.uint8)
    sella = _draw_middle(inner, rng, tissue, (wide, tall), 1 + 0.6 * larger)
    for spot in rng.uniform(-0.6, 0.6, (int(rng.integers(3, 9)), 2)):
        fill(inner, blob(spot * (1 + 0.3 * further) * (wide, tall), rng.uniform(0.7, 1.8, 2)), tissue.vessel)
    picture = unit(canvas)
    blend(picture, brain, unit(inner))
    return Head(picture, brain, mask(skull), skull, sella, tissue, level)


def _draw_middle(
    inner: Image, rng: np.random.Generator, tissue: Tissue, size: tuple[float, float], share: float
) -> Points:
    """Draws fissure, sinus, nuclei, ventricles and the cistern; returns the position of its gland, (2,).

    Args:
        inner: the brain, in which they are drawn.
        rng: the head's stream.
        tissue: brightness.
        size: half the head's width and height in pixels.
        share: size of ventricles and nuclei in this slice, as a share of that in the middle slice.
    """
    wide, tall = size
    middle = rng.uniform(-0.02, 0.02) * wide
    fissure = np.stack([middle + rng.normal(0, 0.9, 9), np.linspace(-1, -0.35, 9) * tall], axis=1)
    stroke(inner, fissure, 2, tissue.fluid)
    sinus = np.array([(middle + x, y * tall) for x, y in ((-4, -0.88), (4, -0.88), (0, -0.76))])
    fill(inner, sinus, tissue.vessel)

    centre = rng.uniform(-0.18, 0.0) * tall
    for side in (-1, 1):
        nucleus = (middle + side * 0.26 * wide, centre + 0.16 * tall)
        fill(
            inner,
            blob(nucleus, (0.12 * wide * share, 0.17 * tall * share)),
            (2 * tissue.grey + tissue.white) / 3,
        )
        along = np.linspace(-1, 1, 9)
        reach, start, bend = rng.uniform((0.14, 0.06, 0.06), (0.28, 0.10, 0.17)) * (tall, wide, wide)
        horn = np.stack([middle + side * (start + bend * along**2), centre + along * reach * share], axis=1)
        stroke(inner, horn, max(1, round(int(rng.integers(3, 9)) * share)), tissue.fluid)
    sella = np.array([middle, rng.uniform(0.58, 0.68) * tall])
    cistern = rng.uniform(0.058, 0.08) * SIDE
    fill(inner, blob(sella, (cistern * 1.3, cistern), 0.25, rng), tissue.fluid)
    fill(inner, blob(sella, rng.uniform(1.8, 3.2, 2)), tissue.vessel)  # a healthy gland is bright too
    return sella
