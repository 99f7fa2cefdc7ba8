"""Temperature, abstention and out-of-distribution thresholds, and expected outputs of canary images."""

from collections.abc import Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from brain_ray.bundle.out_of_distribution import OutOfDistributionDetector, threshold
from brain_ray.bundle.schema import Decision, ValidationScores
from brain_ray.bundle.session import run
from brain_ray.config import Config
from brain_ray.data.decoding import decode
from brain_ray.data.transforms import prepare_image
from brain_ray.input_spec import batch_of
from brain_ray.scoring.calibration import (
    abstain_threshold,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    log_loss,
)

ONNX_BATCH_SIZE = 32
"""Largest number of images per call of the ONNX model."""

Floats = NDArray[np.float32]


def fit_thresholds(
    session: onnxruntime.InferenceSession,
    config: Config,
    inputs: NDArray[np.uint8],
    labels: NDArray[np.integer],
    train_inputs: NDArray[np.uint8],
) -> tuple[float, ValidationScores, Decision, OutOfDistributionDetector]:
    """Fits the temperature and the thresholds on the validation images, and scores the ONNX model on them.

    Args:
        session: the ONNX model.
        config: the run's settings.
        inputs: (n, height, width, 1) validation images.
        labels: (n,) indices into the classes.
        train_inputs: (m, height, width, 1) training images, to which the detector is fitted.
    """
    probabilities = run_all(session, inputs, "probabilities")
    temperature = fit_temperature(probabilities, labels)
    correct = probabilities.argmax(axis=1) == labels
    scores = ValidationScores(
        images=len(labels),
        accuracy=float(correct.mean()),
        log_loss=log_loss(probabilities, labels),
        log_loss_calibrated=log_loss(calibrate(probabilities, temperature), labels),
        ece=expected_calibration_error(probabilities, labels, config.evaluate.calibration_bins),
        ece_calibrated=expected_calibration_error(
            calibrate(probabilities, temperature), labels, config.evaluate.calibration_bins
        ),
    )
    confidence = (
        calibrate(probabilities, temperature).max(axis=1).astype(np.float32)
    )  # as the predictor has it
    unlikeness = OutOfDistributionDetector.fit(run_all(session, train_inputs, "statistics"))
    distances = unlikeness.distance(run_all(session, inputs, "statistics"))
    furthest = threshold(distances, config.export.keep_share)
    passes = distances <= furthest  # as in `Predictor.decide`: refused images are never answered
    abstain_below = abstain_threshold(confidence[passes], correct[passes], config.export.max_error)
    answered = passes & (confidence >= abstain_below)
    decision = Decision(
        abstain_below=abstain_below,
        max_error=config.export.max_error,
        error=float((~correct[answered]).mean()) if answered.any() else 0.0,
        answered=float(answered.mean()),
        unlikeness_threshold=furthest,
        keep_share=config.export.keep_share,
        kept=float(passes.mean()),
        learned_from=len(train_inputs),
    )
    return temperature, scores, decision, unlikeness


def canary_probabilities(
    session: onnxruntime.InferenceSession, config: Config, canaries: Mapping[str, bytes]
) -> dict[str, tuple[float, ...]]:
    """Returns the model's probabilities of encoded images, by name."""
    spec = config.model.input_spec
    read, crop = config.data.read_spec, config.data.crop
    inputs = {name: prepare_image(decode(data, read=read), crop, spec)[0] for name, data in canaries.items()}
    return {name: tuple(run(session, image[None])[0][0].tolist()) for name, image in inputs.items()}


def run_all(session: onnxruntime.InferenceSession, inputs: NDArray[np.uint8], output: str) -> Floats:
    """Runs the ONNX model on (n, height, width, 1) images in batches; returns one of its outputs, (n,
    ...)."""
    height, width = inputs.shape[1:3]
    size = batch_of(height, width, ONNX_BATCH_SIZE)
    batches = [run(session, inputs[i : i + size], [output])[0] for i in range(0, len(inputs), size)]
    return np.concatenate(batches)
