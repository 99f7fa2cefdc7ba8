"""Comparison of a bundle's Keras and ONNX models, each loaded from its file, in all their outputs."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from brain_ray.bundle.bundle import EXPLAIN_FILE, KERAS_FILE, ONNX_FILE, BundleError
from brain_ray.bundle.differences import Compute, LargestDifferences, Outputs, rounding_of
from brain_ray.bundle.schema import Check
from brain_ray.bundle.session import OUTPUTS, open_session, run
from brain_ray.config import BackboneSpec, ExportConfig
from brain_ray.errors import first_line
from brain_ray.input_spec import batch_of
from brain_ray.models.ensemble import heat_map, served_model

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 16
"""Largest number of images per call of a model."""

ODD_BATCH_SIZE = 7
"""Number of images in the batch of awkward inputs and the two least certain validation images."""


def compare_models(
    folder: Path, specs: Sequence[BackboneSpec], candidates: NDArray[np.uint8], export: ExportConfig
) -> Check:
    """Compares the models of a folder in all outputs; returns the largest difference of each.

    Compared are `export.verify_images` validation images, half of them the least certain ones and half spread
    over the others, and, in probabilities and logits, `awkward_inputs`. ONNX Runtime computes the awkward
    inputs and the two least certain images both as one batch and one by one. Large images make smaller
    batches (`batch_of`).

    A trained network may multiply rounding errors where an input is unlike all that it has seen. So where an
    awkward input differs by more than its tolerance, it is asked how far the last bits of the weights move
    the Keras model's own answer (`rounding_of`); up to `ROUNDINGS` times that is listed as `Check.magnified`,
    and counts as no difference.

    Args:
        folder: the folder of model.keras, model.onnx and explain.onnx.
        specs: the rows of the averaged networks' backbones; or one.
        candidates: (n, height, width, 1) uint8, at least one: validation images to choose from, by what
            model.onnx makes of them.
        export: number of validation images to compare, and tolerances.

    Raises:
        BundleError: a file is missing, damaged or unsafe to load, or a model's output is not finite.
    """
    height, width = candidates.shape[1:3]
    size = batch_of(height, width, BATCH_SIZE)
    model = _load_keras(folder / KERAS_FILE)
    session = open_session((folder / ONNX_FILE).read_bytes(), gpu=False)
    explain = open_session((folder / EXPLAIN_FILE).read_bytes(), gpu=False)
    expected_of, plain, found_of = _of_keras(model, specs), _of_plain_keras(model), _of_onnx(session, explain)
    confidence = [run(session, batch)[0].max(axis=1) for batch in _batches(candidates, size)]
    images = candidates[choose(np.concatenate(confidence), export.verify_images)]
    names = [f"validation image {k + 1} of {len(images)} by rising certainty" for k in range(len(images))]
    awkward = awkward_inputs(height, width)
    probe = np.concatenate([np.stack(list(awkward.values())), images[:2]])
    largest = LargestDifferences(folder, frozenset(awkward), export, partial(rounding_of, model, expected_of))
    for name, batch in zip(_batches(names, size), _batches(images, size), strict=True):
        largest.add(name, batch, expected_of(batch), found_of(batch))
    size = min(ODD_BATCH_SIZE, size)
    for name, batch in zip(_batches([*awkward, *names[:2]], size), _batches(probe, size), strict=True):
        expected = expected_of(batch)
        largest.add(name, batch, expected, found_of(batch))
        largest.add(name, batch, plain(batch), found_of(batch))
        for k in range(len(batch)):
            one = {output: values[k : k + 1] for output, values in expected.items()}
            largest.add(name[k : k + 1], batch[k : k + 1], one, found_of(batch[k : k + 1]))
    return Check(
        images=len(images),
        largest_difference=largest.found["probabilities"].largest,
        outputs=largest.found,
        magnified=tuple(largest.magnified.values()),
        awkward_inputs=tuple(awkward),
        batch_sizes=tuple(sorted(largest.batch_sizes)),
    )


def awkward_inputs(height: int, width: int) -> dict[str, NDArray[np.uint8]]:
    """Returns network inputs that are unlike any slice, (height, width, 1) each, by name."""
    rows, columns = np.indices((height, width))
    images = {
        "noise": np.random.default_rng(0).integers(0, 256, (height, width)),
        "black": np.zeros((height, width)),
        "white": np.full((height, width), 255),
        "checkerboard": 255 * ((rows // 8 + columns // 8) % 2),
        "gradient": 255 * (rows + columns) / max(1, height + width - 2),
    }
    return {name: image.astype(np.uint8)[..., None] for name, image in images.items()}


def choose(confidence: NDArray[np.floating], count: int) -> NDArray[np.integer]:
    """Chooses up to `count` of n images: half of them the least certain ones, half spread over the others.

    Args:
        confidence: (n,), the largest probability of each image.
        count: number of images to choose.

    Returns:
        Their indices, the least certain image first.
    """
    order = np.argsort(confidence, kind="stable")
    if len(order) <= count:
        return order
    least, others = np.split(order, [(count + 1) // 2])
    spread = np.linspace(0, len(others) - 1, count // 2).astype(np.int64)
    return np.concatenate([least, others[spread]])


def _load_keras(file: Path) -> "keras.Model":
    import keras

    if not zipfile.is_zipfile(file):  # Keras reports a damaged file as missing
        raise BundleError(f"{file} is missing or damaged: expected a zip archive made by Keras")
    try:
        return keras.models.load_model(file, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError) as error:  # a Lambda layer, an unknown class
        raise BundleError(f"{file} cannot be loaded safely: {first_line(error)}") from error


def _of_keras(model: "keras.Model", specs: Sequence[BackboneSpec]) -> Compute:
    import tensorflow as tf

    served, num_classes = served_model(model, specs), model.output_shape[-1]

    def compute(image: Any) -> dict[str, Any]:
        outputs = dict(zip(OUTPUTS, served(image, training=False), strict=True))
        labels = [tf.fill(tf.shape(image)[:1], tf.constant(k, tf.int64)) for k in range(num_classes)]
        heat = [heat_map(model, outputs["feature_map"], label) for label in labels]
        return outputs | {"heatmap": tf.stack(heat, axis=1)}

    return _traced(compute, model)


def _of_plain_keras(model: "keras.Model") -> Compute:
    """Returns the model's own probabilities, not those of what `served_model` makes of its parts."""
    return _traced(lambda image: {"probabilities": model(image, training=False)}, model)


def _traced(function: Callable[[Any], dict[str, Any]], model: "keras.Model") -> Compute:
    """Traces a function of the model's input.

    A plain call of a Keras model keeps every layer's output until its end: 0.7 GB an image for
    EfficientNetB0 at 600 px, instead of 0.08. `predict` would compile with XLA, which is slower on a CPU.
    """
    import tensorflow as tf

    signature = [tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)]
    traced = tf.function(function, input_signature=signature, autograph=False)
    return lambda images: {
        name: np.asarray(values) for name, values in traced(tf.constant(images, tf.float32)).items()
    }


def _of_onnx(session: onnxruntime.InferenceSession, explain: onnxruntime.InferenceSession) -> Compute:
    def compute(images: NDArray[np.uint8]) -> Outputs:
        outputs = dict(zip(OUTPUTS, run(session, images, OUTPUTS), strict=True))
        shape = outputs["probabilities"].shape
        fed = [
            {"feature_map": outputs["feature_map"], "label": np.full(shape[0], k)} for k in range(shape[1])
        ]
        heat = [explain.run(["heatmap"], each)[0] for each in fed]
        return outputs | {"heatmap": np.stack(heat, axis=1)}

    return compute


def _batches(values: Any, size: int) -> Iterator[Any]:
    """Yields slices of up to `size` values of a sequence or an array."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
