"""The drawn images that go into every bundle: samples for people, and a check that a model runs as it did."""

import cv2

from brain_ray.data.phantoms.drawing import TUMOURS
from brain_ray.data.phantoms.files import draw

SEED = 5
"""Of the drawings. They are the same in every bundle, whatever it was trained on."""


def draw_canaries() -> dict[str, bytes]:
    """Draw one phantom of each kind: PNG files by name."""
    images = {kind: draw(kind, SEED, index) for index, kind in enumerate(TUMOURS)}
    return {f"{kind}.png": cv2.imencode(".png", image)[1].tobytes() for kind, image in images.items()}
