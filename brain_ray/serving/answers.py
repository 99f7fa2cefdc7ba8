"""Puts a prediction into words: the one place where arrays become the answer that HTTP and files give."""

from typing import TYPE_CHECKING, Any

from brain_ray.serving.schemas import Answer, CropBox, ModelId

if TYPE_CHECKING:  # a client of the endpoint shares the words, and needs neither ONNX Runtime nor OpenCV
    from brain_ray.bundle.predictor import Prediction, Predictor
    from brain_ray.data.transforms import Box

DIGITS = 7
"""Decimals of a probability: what float32 holds of it."""


def make_answer(
    predictor: "Predictor",
    prediction: "Prediction",
    i: int,
    name: str,
    box: "Box",
    has_box: bool,
    width: int,
    height: int,
    milliseconds: float,
) -> Answer:
    """Return the answer for image i of a prediction.

    Args:
        predictor: the one that made the prediction.
        prediction: of n images.
        i: which of them.
        name: the image's, as its sender calls it.
        box: the part that the model saw, in pixels of the image.
        has_box: whether a head was found.
        width: of the image, in pixels, after its EXIF rotation.
        height: likewise.
        milliseconds: from the image's bytes to now.
    """
    calibrated = _by_class(predictor, prediction.calibrated[i])
    label = predictor.classes[int(prediction.calibrated[i].argmax())]
    return Answer(
        name=name,
        label=label,
        decision=predictor.decide(prediction)[i],
        confidence=calibrated[label],
        probabilities=_by_class(predictor, prediction.probabilities[i]),
        calibrated=calibrated,
        unlikeness=round(float(prediction.unlikeness[i]), DIGITS),
        box=CropBox(top=box.top, bottom=box.bottom, left=box.left, right=box.right),
        has_box=has_box,
        width=width,
        height=height,
        model=ModelId(name=predictor.name, sha256=predictor.sha256, id=predictor.id),
        milliseconds=round(milliseconds, 3),
    )


def _by_class(predictor: "Predictor", row: Any) -> dict[str, float]:
    """Name the columns of a row of probabilities; float32 sums stray above 1 in the last digit."""
    return {
        name: min(1.0, round(float(value), DIGITS))
        for name, value in zip(predictor.classes, row, strict=True)
    }
