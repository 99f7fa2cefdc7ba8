"""Tumours, drawn into a head. Pure functions."""

import math
from collections.abc import Callable

import numpy as np

from brain_ray.data.phantoms.heads import Head
from brain_ray.data.phantoms.shapes import SIDE, Floats, along, blend, blob, floats, mask, stroke, unit


def _section(head: Head) -> float:
    """Returns the size of a tumour in a slice, as a share of that in the middle slice; it never vanishes."""
    return 1 - 0.3 * math.tanh(head.level.height) ** 2


def _no_tumour(head: Head, rng: np.random.Generator) -> Floats:
    """Draws no tumour."""
    return np.zeros_like(head.picture)


def _glioma(head: Head, rng: np.random.Generator) -> Floats:
    """Draws a glioma: irregular, in a hemisphere; a bright uneven rim, a dark core, fingers of oedema."""
    angle = rng.choice((0.0, np.pi)) + rng.uniform(-0.9, 0.9)
    centre = along(head.skull, angle) * rng.uniform(0.40, 0.56)
    size = rng.uniform(0.075, 0.125) * SIDE * rng.uniform(0.8, 1.2, 2) * _section(head)
    turn = head.level.height
    swelling = mask(blob(centre, size * rng.uniform(1.6, 2.1), 0.35, rng, turn), blur=2.0)
    swelling *= np.clip(1 + 0.6 * head.level.noise(rng, 20), 0, 1)
    blend(head.picture, swelling * head.brain, head.tissue.oedema)
    whole = floats(mask(blob(centre, size, 0.30, rng, turn), blur=0.7) * head.brain)
    blend(head.picture, whole, head.tissue.tumour * (1 + 0.12 * head.level.noise(rng, 40)))
    core = centre + rng.uniform(-0.15, 0.15, 2) * size
    hollow = mask(blob(core, size * rng.uniform(0.45, 0.75), 0.30, rng, turn), blur=1.0)
    blend(head.picture, hollow * whole, head.tissue.necrosis)
    return whole


def _meningioma(head: Head, rng: np.random.Generator) -> Floats:
    """Draws a meningioma: round, even and bright, broad on the skull, with a cleft of fluid and a tail."""
    angle = -np.pi / 2 + rng.uniform(-2.2, 2.2)  # all around but for the base, the pituitary's place
    edge = along(head.skull, angle)
    reach = float(np.hypot(*edge))
    radius = rng.uniform(0.085, 0.135) * SIDE * _section(head)
    centre = edge * (1 - rng.uniform(0.55, 0.85) * radius / reach)
    mass = blob(centre, radius * rng.uniform(0.9, 1.1, 2), 0.05, rng, head.level.height)
    cleft = centre + (mass - centre) * 1.13
    blend(head.picture, mask(cleft, blur=1.0) * head.inside, head.tissue.fluid)
    tail = np.linspace(-1, 1, 15) * rng.uniform(1.5, 2.0) * radius / reach
    line = np.zeros((SIDE, SIDE), np.uint8)
    stroke(line, along(head.skull, angle + tail), 4, 1.0)
    tumour = mask(mass)
    blend(head.picture, np.maximum(tumour, unit(line)) * head.inside, head.tissue.tumour)
    return floats(tumour * head.inside)


def _pituitary(head: Head, rng: np.random.Generator) -> Floats:
    """Draws a pituitary tumour: small, even and bright; it fills the cistern on the midline at the base."""
    centre = head.sella + rng.normal(0, 0.006, 2) * SIDE
    size = rng.uniform(0.048, 0.075) * SIDE * rng.uniform(0.88, 1.14, 2) * _section(head)
    tumour = mask(blob(centre, size, 0.12, rng, head.level.height))
    blend(head.picture, tumour, head.tissue.tumour * rng.uniform(0.9, 1.0))
    return tumour


TUMOURS: dict[str, Callable[[Head, np.random.Generator], Floats]] = {
    "glioma": _glioma,
    "meningioma": _meningioma,
    "notumor": _no_tumour,
    "pituitary": _pituitary,
}
"""Function by class that draws the tumour into a head's picture; returns the share of each pixel within it,
(SIDE, SIDE), without oedema, cleft and tail."""
