"""Canary images: drawings in every bundle, and what its model answers to them."""

from collections.abc import Mapping

import cv2
import onnxruntime

from brain_ray.bundle.session import run
from brain_ray.config import Config
from brain_ray.data.decoding import decode
from brain_ray.data.phantoms.files import draw
from brain_ray.data.phantoms.tumours import TUMOURS
from brain_ray.data.transforms import prepare_image

CANARY_SEED = 5
"""Seed of the drawings: they are the same in every bundle."""


def draw_canaries() -> dict[str, bytes]:
    """Draws one phantom of each kind; returns encoded PNG files by name."""
    images = {kind: draw(kind, CANARY_SEED, index) for index, kind in enumerate(TUMOURS)}
    return {f"{kind}.png": cv2.imencode(".png", image)[1].tobytes() for kind, image in images.items()}


def canary_probabilities(
    session: onnxruntime.InferenceSession, config: Config, canaries: Mapping[str, bytes]
) -> dict[str, tuple[float, ...]]:
    """Returns the model's probabilities of encoded images, by name."""
    spec = config.model.input_spec
    read, crop = config.data.read_spec, config.data.crop
    inputs = {name: prepare_image(decode(data, read=read), crop, spec)[0] for name, data in canaries.items()}
    return {name: tuple(run(session, image[None])[0][0].tolist()) for name, image in inputs.items()}
