"""Largest difference between a bundle's Keras and ONNX models, each loaded from its file."""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brain_ray.bundle.bundle import KERAS_FILE, ONNX_FILE, BundleError
from brain_ray.bundle.session import open_session, run
from brain_ray.errors import first_line

PARITY_BATCH_SIZE = 16
"""Images per call of a model."""


def largest_difference(folder: Path, images: NDArray[np.uint8]) -> float:
    """Runs both models of a folder on (n, height, width, 1) images; returns the largest difference, 0..1.

    Raises:
        BundleError: a file is missing, damaged or unsafe to load, or a model's output is not finite.
    """
    import keras

    if not zipfile.is_zipfile(folder / KERAS_FILE):  # Keras reports a damaged file as missing
        raise BundleError(
            f"{folder / KERAS_FILE} is missing or damaged: expected a zip archive made by Keras"
        )
    try:
        model = keras.models.load_model(folder / KERAS_FILE, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError) as error:  # a Lambda layer, an unknown class
        raise BundleError(f"{folder / KERAS_FILE} cannot be loaded safely: {first_line(error)}") from error
    session = open_session((folder / ONNX_FILE).read_bytes(), gpu=False)
    largest = 0.0
    for start in range(0, len(images), PARITY_BATCH_SIZE):
        batch = images[start : start + PARITY_BATCH_SIZE].astype(np.float32)
        # A plain call: `predict` would compile with XLA, which is several times slower on a CPU.
        difference = np.abs(np.asarray(model(batch, training=False)) - run(session, batch)[0])
        if not np.isfinite(difference).all():
            raise BundleError(f"{folder}: a model's output is not finite: the weights are unusable")
        largest = max(largest, float(difference.max()))
    return largest
