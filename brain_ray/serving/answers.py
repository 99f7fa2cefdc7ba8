"""Prediction -> Answer: the one place where arrays become what HTTP and files give."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brain_ray.serving.schemas import Answer, CropBox, ModelId

if TYPE_CHECKING:  # a client of the endpoint shares the words, and needs neither ONNX Runtime nor OpenCV
    import numpy as np
    from numpy.typing import NDArray

    from brain_ray.arrays import Grey
    from brain_ray.bundle.predictor import Prediction, Predictor
    from brain_ray.data.transforms import Box

DIGITS = 7
"""Decimals of a probability: what float32 holds of it."""


@dataclass(frozen=True)
class Prepared:
    """An image that waits for the model: its input and what its answer tells, without its pixels."""

    name: str
    """As its sender calls it."""
    start: float
    """When its bytes were there, in seconds of `time.perf_counter`."""
    input: "NDArray[np.uint8]"
    """(height, width, 1) of the network."""
    box: "Box"
    """The part that the model sees, in pixels of the image."""
    has_box: bool
    """Whether a head was found."""
    width: int
    """Of the image, in pixels, after its EXIF rotation."""
    height: int
    crop: "Grey | None" = None
    """What the box holds, shrunk to be shown; None unless it was asked for."""


def make_answer(predictor: "Predictor", prediction: "Prediction", i: int, prepared: Prepared) -> Answer:
    """Returns the answer for an image, now that the model has answered.

    Args:
        predictor: the one that made the prediction.
        prediction: of n images.
        i: which of them.
        prepared: that image.
    """
    milliseconds = 1000 * (time.perf_counter() - prepared.start)
    box = prepared.box
    calibrated = _by_class(predictor, prediction.calibrated[i])
    label = predictor.classes[int(prediction.calibrated[i].argmax())]
    return Answer(
        name=prepared.name,
        label=label,
        decision=prediction.decisions[i],
        confidence=calibrated[label],
        probabilities=_by_class(predictor, prediction.probabilities[i]),
        calibrated=calibrated,
        unlikeness=round(float(prediction.unlikeness[i]), DIGITS),
        box=CropBox(top=box.top, bottom=box.bottom, left=box.left, right=box.right),
        has_box=prepared.has_box,
        width=prepared.width,
        height=prepared.height,
        model=ModelId(name=predictor.name, sha256=predictor.sha256, id=predictor.id),
        milliseconds=round(milliseconds, 3),
    )


def _by_class(predictor: "Predictor", row: Any) -> dict[str, float]:
    """Names the columns of a row of probabilities; float32 sums stray above 1 in the last digit."""
    return {
        name: min(1.0, round(float(value), DIGITS))
        for name, value in zip(predictor.classes, row, strict=True)
    }
