"""Prediction -> Answer: the only conversion from arrays to the content of HTTP answers and files."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brain_ray.serving.schemas import Answer, CropBox, ModelId

if TYPE_CHECKING:  # clients import this module, and need neither ONNX Runtime nor OpenCV
    import numpy as np
    from numpy.typing import NDArray

    from brain_ray.arrays import Grey
    from brain_ray.bundle.predictor import Prediction, Predictor
    from brain_ray.data.transforms import Box

DIGITS = 7
"""Decimals of a probability, within the precision of float32."""


@dataclass(frozen=True)
class Prepared:
    """A prepared image that waits for the model: its input and the facts for its answer, without its
    pixels."""

    name: str
    """Name given by its sender."""
    start: float
    """Time when its bytes were received, in seconds of `time.perf_counter`."""
    input: "NDArray[np.uint8]"
    """(height, width, 1) uint8, the network's input."""
    box: "Box"
    """Crop box in pixels of the image."""
    has_box: bool
    """Whether a head was found."""
    width: int
    """Width of the image in pixels, after its EXIF rotation."""
    height: int
    grey: Mapping[str, float]
    """Quantities of the input's grey levels, by the names of `reference.QUANTITIES`."""
    crop: "Grey | None" = None
    """(height, width) uint8, the content of the box, shrunk for display; None unless it was asked for."""


def make_answer(predictor: "Predictor", prediction: "Prediction", i: int, prepared: Prepared) -> Answer:
    """Returns the answer for an image from the model's prediction.

    Args:
        predictor: the predictor that made the prediction.
        prediction: prediction for n images.
        i: index of the image among them.
        prepared: the prepared image.
    """
    milliseconds = 1000 * (time.perf_counter() - prepared.start)
    box = prepared.box
    chosen = None if prediction.candidates is None else prediction.candidates[i]
    calibrated = by_class(predictor.classes, prediction.calibrated[i])
    label = predictor.classes[int(prediction.calibrated[i].argmax())]
    return Answer(
        name=prepared.name,
        label=label,
        decision=prediction.decisions[i],
        candidates=names_of(predictor.classes, chosen),
        confidence=calibrated[label],
        probabilities=by_class(predictor.classes, prediction.probabilities[i]),
        calibrated=calibrated,
        unlikeness=round(float(prediction.unlikeness[i]), DIGITS),
        box=CropBox(top=box.top, bottom=box.bottom, left=box.left, right=box.right),
        has_box=prepared.has_box,
        width=prepared.width,
        height=prepared.height,
        model=ModelId(name=predictor.name, sha256=predictor.sha256, id=predictor.id),
        milliseconds=round(milliseconds, 3),
    )


def names_of(classes: Sequence[str], chosen: "NDArray[np.bool_] | None") -> list[str] | None:
    """Returns the classes that are chosen, (k,) bool; None for None."""
    if chosen is None:
        return None
    return [name for name, is_chosen in zip(classes, chosen, strict=True) if is_chosen]


def by_class(classes: Sequence[str], row: Any) -> dict[str, float]:
    """Returns a row of probabilities by class, limited to 1: float32 sums exceed it in the last digit."""
    return {name: min(1.0, round(float(value), DIGITS)) for name, value in zip(classes, row, strict=True)}


def rounded(confidence: float) -> str:
    """Rounds a probability to four digits, but never up to a certainty."""
    text = f"{confidence:.4f}"
    return ">0.9999" if confidence < 1 and text == "1.0000" else text
