"""Temperature, abstention and out-of-distribution thresholds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from brain_ray.bundle.out_of_distribution import OutOfDistributionDetector, threshold
from brain_ray.bundle.schema import Decision, PatientRule, ValidationScores
from brain_ray.bundle.session import run
from brain_ray.config import Config, ExportConfig
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.input_spec import batch_of
from brain_ray.scoring.aggregation import RULES, Units, choose_rule
from brain_ray.scoring.calibration import (
    calibrate,
    expected_calibration_error,
    fit_temperature,
    log_loss,
)
from brain_ray.scoring.conformal import candidate_floors
from brain_ray.scoring.cross_fitting import cross_calibrate
from brain_ray.scoring.cross_validation import calibrate_across
from brain_ray.scoring.risk import risk_threshold

ONNX_BATCH_SIZE = 32
"""Largest number of images per call of the ONNX model."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """What was fitted on the validation images, and the model's answers to them."""

    temperature: float
    scores: ValidationScores
    decision: Decision
    patients: PatientRule
    detector: OutOfDistributionDetector
    confidence: Floats
    """(n,), largest calibrated probability."""
    unlikeness: Floats
    """(n,), as in `Prediction`."""
    answers: NDArray[np.intp]
    """(n,), index of the most probable class."""


def fit_thresholds(
    session: onnxruntime.InferenceSession,
    config: Config,
    inputs: NDArray[np.uint8],
    labels: NDArray[np.integer],
    train_inputs: NDArray[np.uint8],
    groups: ArrayLike | None = None,
    models: int = 1,
    out_of_fold: OutOfFold | None = None,
    valid_ids: NDArray[np.int64] | None = None,
) -> Fitted:
    """Fits the temperature and the thresholds on the validation images, and scores the ONNX model on them.

    With out-of-fold answers, temperature, thresholds and scores are of these; the model's own images only
    tell from which unlikeness on it refuses. Which of the other folds' images it would refuse is not known,
    and all of them count as passed.

    Args:
        session: the ONNX model.
        config: the run's settings.
        inputs: (n, height, width, 1) validation images.
        labels: (n,) indices into the classes.
        train_inputs: (m, height, width, 1) training images, to which the detector is fitted.
        groups: (n,) groups of the validation images (of patients and copies). None: each image is its own.
        models: number of models (epochs, of all trials) that the images chose this one from.
        out_of_fold: answers of models of the same settings to images that they did not see.
        valid_ids: (n,) `image_id`s of the validation images, if there are such answers.
    """
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    own_groups, folds = groups, None
    if out_of_fold is None:
        own = probabilities = run_all(session, inputs, "probabilities")
        crossed = cross_calibrate(probabilities, labels, groups)
    else:
        assert valid_ids is not None, "out-of-fold answers are found by the images' ids"
        own = out_of_fold.of(valid_ids)  # of several averaged models, most have learned these images
        probabilities, labels, groups = out_of_fold.probabilities, out_of_fold.label, out_of_fold.group
        folds = len(np.unique(out_of_fold.fold))
        crossed = calibrate_across(probabilities, labels, out_of_fold.fold, groups)
    temperature = fit_temperature(probabilities, labels)
    correct = probabilities.argmax(axis=1) == labels
    bins = config.evaluate.calibration_bins
    scores = ValidationScores(
        images=len(labels),
        groups=len(np.unique(groups)),
        folds=folds,
        accuracy=float(correct.mean()),
        log_loss=log_loss(probabilities, labels),
        log_loss_calibrated=log_loss(crossed, labels),
        ece=expected_calibration_error(probabilities, labels, bins),
        ece_calibrated=expected_calibration_error(crossed, labels, bins),
    )
    calibrated = calibrate(probabilities, temperature).astype(np.float32)  # as the predictor has it
    detector = OutOfDistributionDetector.fit(run_all(session, train_inputs, "statistics"))
    distances = detector.distance(run_all(session, inputs, "statistics"))
    furthest = threshold(distances, config.export.keep_share, own_groups)
    kept = distances <= furthest  # as in `Predictor.decide`: refused images are never answered
    passes = kept if out_of_fold is None else np.ones(len(labels), bool)
    export = config.export
    sensitivities = export.sensitivities(len(config.data.classes))
    decision = Decision(
        **_fit_answers(calibrated, labels, groups, export, sensitivities, models, passes),
        max_error=export.max_error,
        confidence=export.confidence,
        folds=folds,
        sensitivities=sensitivities,
        unlikeness_threshold=furthest,
        keep_share=export.keep_share,
        kept=float(kept.mean()),
        learned_from=len(train_inputs),
    )
    patients = fit_patient_rule(
        calibrated[passes], labels[passes], groups[passes], export, sensitivities, models
    )
    certainty = calibrate(own, temperature).astype(np.float32).max(axis=1)
    return Fitted(
        temperature,
        scores,
        decision,
        patients,
        detector,
        certainty,
        unlikeness=distances / np.float32(furthest),
        answers=own.argmax(axis=1),
    )


def fit_patient_rule(
    calibrated: Floats,
    labels: NDArray[np.integer],
    groups: ArrayLike,
    export: ExportConfig,
    sensitivities: tuple[float, ...],
    models: int,
) -> PatientRule:
    """Chooses how the answers to a patient's images become one, and when that one is withheld.

    Args:
        calibrated: (n, k) calibrated probabilities of images that the network has not learned from.
        labels: (n,) indices into the classes.
        groups: (n,) groups of the images.
        export: allowed error, and the confidence that it is no more.
        sensitivities: k shares of the patients of a class that shall have it among their candidates.
        models: as in `fit_thresholds`; the rules that are compared count as well.
    """
    units = Units.of(labels, groups)
    found = choose_rule(units, calibrated)
    return PatientRule(
        **_fit_answers(found.chances, units.labels, units.groups, export, sensitivities, models * len(RULES)),
        rule=found.rule,
        temperature=found.temperature,
        units=len(units.labels),
        images=len(labels),
        accuracy=float((found.chances.argmax(axis=1) == units.labels).mean()),
        log_losses=found.losses,
    )


def _fit_answers(
    chances: NDArray[np.floating],
    labels: NDArray[np.integer],
    groups: NDArray[Any],
    export: ExportConfig,
    sensitivities: tuple[float, ...],
    models: int,
    passes: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Returns what `Decision` and `PatientRule` have in common: from which probability on there is an answer,
    what is shown of its error, and the candidates.

    Args:
        chances: (n, k) calibrated probabilities.
        labels: (n,) indices into the classes.
        groups: (n,).
        export: allowed error, and the confidence that it is no more.
        sensitivities: k shares.
        models: number of models and rules that these answers chose from.
        passes: (n,), which are like the training images, and may be answered; None: all.
    """
    likely = np.ones(len(labels), bool) if passes is None else passes
    chance, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    risk = risk_threshold(
        chance[likely], right[likely], groups[likely], export.max_error, export.confidence, models
    )
    answered = likely & (chance >= risk.threshold)
    return {
        "abstain_below": risk.threshold,
        "error_bound": risk.bound,
        "answers": risk.answers,
        "answers_needed": risk.needed,
        "models": models,
        "candidate_floors": tuple(candidate_floors(chances, labels, groups, sensitivities).tolist()),
        "error": float((~right[answered]).mean()) if answered.any() else 0.0,
        "answered": float(answered.mean()),
    }


def run_all(session: onnxruntime.InferenceSession, inputs: NDArray[np.uint8], output: str) -> Floats:
    """Runs the ONNX model on (n, height, width, 1) images in batches; returns one of its outputs, (n,
    ...)."""
    height, width = inputs.shape[1:3]
    size = batch_of(height, width, ONNX_BATCH_SIZE)
    batches = [run(session, inputs[i : i + size], [output])[0] for i in range(0, len(inputs), size)]
    return np.concatenate(batches)
