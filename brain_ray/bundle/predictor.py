"""Predictor: encoded images -> probabilities and decisions, by ONNX Runtime, for evaluation and serving."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.bundle.bundle import (
    CANARY_FOLDER,
    EXPLAIN_FILE,
    ONNX_FILE,
    UNLIKENESS_FILE,
    BundleError,
    load_bundle,
    render_card,
)
from brain_ray.bundle.heat_maps import shift_of
from brain_ray.bundle.out_of_distribution import OutOfDistributionDetector
from brain_ray.bundle.reference import reference_of
from brain_ray.bundle.session import OUTPUTS, open_file, run
from brain_ray.data.decoding import decode
from brain_ray.data.transforms import Box, prepare_image
from brain_ray.input_spec import InputSpec, ReadSpec
from brain_ray.scoring.aggregation import RULES, Rule
from brain_ray.scoring.calibration import calibrate
from brain_ray.scoring.conformal import candidates

Floats = NDArray[np.float32]
Verdict = Literal["answer", "abstain", "not_mr"]

CANARY_TOLERANCE = 1e-3
"""Largest difference between a canary image's probability and the one in the bundle."""


@dataclass(frozen=True)
class Prediction:
    """A model's outputs for n images; all arrays are float32."""

    probabilities: Floats
    """(n, classes), raw."""
    calibrated: Floats
    """(n, classes), after temperature scaling."""
    feature_maps: Floats
    """(n, rows, columns, channels), the backbone's last feature maps: an input of `Predictor.explain`."""
    unlikeness: Floats
    """(n,), distance from the training images as a multiple of the threshold."""
    decisions: Sequence[Verdict] = ()
    """Decision for each of the n images; filled in by `Predictor.predict`."""
    candidates: NDArray[np.bool_] | None = None
    """(n, classes), which classes are candidates; None: a bundle of an earlier version, which has none."""


@dataclass(frozen=True)
class PatientPrediction:
    """One answer to several slices of a patient."""

    calibrated: Floats
    """(classes,) float32, by the bundle's rule for patients."""
    decision: Verdict
    candidates: NDArray[np.bool_] | None
    """(classes,), which classes are candidates; None: an earlier version's bundle."""


class Predictor:
    """A bundle's ONNX model, ready to run. Neither TensorFlow nor Keras is imported."""

    def __init__(
        self, bundle: str | Path, threads: int = 0, gpu: bool = True, threads_alone: int | None = None
    ) -> None:
        """Opens a bundle.

        Args:
            bundle: path or URI of the bundle's folder.
            threads: threads of one prediction; 0: one for each core of the machine.
            gpu: whether to use a GPU if ONNX Runtime has one; `provider` says what it uses.
            threads_alone: threads of a prediction that is made alone; None: as many. With another number the
                model is held twice.

        Raises:
            BundleError: no bundle there, another format, a file that is not the exported one, or a model that
                refers to weights in files beside it.
        """
        opened = load_bundle(bundle)
        info = opened.info
        self.info: dict[str, Any] = info.model_dump(mode="json")
        """The content of bundle.json."""
        self.name = info.name
        self.sha256 = info.files[ONNX_FILE]
        self.id = opened.id
        self.classes = info.classes
        self.crop = info.crop
        self.volumes = info.volumes
        """How a volume is cut into slices, and which of them are left out."""
        self.read_spec = ReadSpec(info.input.window, info.volumes.plane)
        """How the pixels of a file become grey."""
        self.temperature = info.temperature
        self.abstain_below = info.decision.abstain_below
        self._floors = info.decision.candidate_floors
        self._patients = info.patients
        self.card = render_card(info)
        """The model card in Markdown."""
        self.canaries = {name: opened.read(f"{CANARY_FOLDER}/{name}") for name in info.canaries}
        """The bundle's phantoms, encoded, by name."""
        fed = info.input
        self.spec = InputSpec(fed.height, fed.width, fed.fit, fed.crop_size, fed.background)
        self._where = opened.folder.uri()
        self.max_pixels = fed.max_pixels
        """Largest number of pixels of an image."""
        self._expected = info.canaries
        self._threshold = info.decision.unlikeness_threshold
        self._unlikeness = OutOfDistributionDetector.from_bytes(opened.read(UNLIKENESS_FILE))
        self.reference = reference_of(opened)
        """Quantities of its validation images; None: an earlier version's bundle."""
        numbers = [threads] if threads_alone in (None, threads) else [threads, threads_alone]
        sessions = open_file(opened, ONNX_FILE, numbers, gpu)
        self._session, self._alone = sessions[0], sessions[-1]
        self.provider = self._session.get_providers()[0]
        """What ONNX Runtime computes with: `session.CPU`, or `session.GPU`."""
        (self._explain,) = open_file(opened, EXPLAIN_FILE, [threads], gpu=False)  # not worth the transfer
        self.map_shift = shift_of(self._explain.get_modelmeta().custom_metadata_map)
        """How far heat maps are to be moved down and right, in pixels of the input: see `over_crop`."""

    def prepare(self, data: bytes) -> tuple[NDArray[np.uint8], Box, bool]:
        """Decodes and crops an encoded image; returns uint8 (height, width, 1), the box, whether one was
        found.

        If no head is found, the box is the whole image.

        Raises:
            ImageError: the image cannot be used.
        """
        return self.prepare_image(decode(data, self.max_pixels, read=self.read_spec))

    def prepare_image(self, image: Grey) -> tuple[NDArray[np.uint8], Box, bool]:
        """Crops a decoded (height, width) image; returns uint8 (height, width, 1), the box, whether one was
        found."""
        return prepare_image(image, self.crop, self.spec)

    def predict(self, inputs: NDArray[np.uint8] | Floats, alone: bool = False) -> Prediction:
        """Classifies (n, height, width, 1) images, raw 0..255 grey, in one call of the model.

        Args:
            inputs: the images.
            alone: whether no other prediction is being made; it then takes `threads_alone`.

        Raises:
            ValueError: another shape.
        """
        if inputs.ndim != 4 or inputs.shape[1:] != (self.spec.height, self.spec.width, 1):
            raise ValueError(
                f"inputs have shape {inputs.shape}: expected (n, {self.spec.height}, {self.spec.width}, 1)"
            )
        if len(inputs) == 0:
            nothing = np.empty((0, len(self.classes)), np.float32)
            shape = self._explain.get_inputs()[0].shape[1:]
            return Prediction(nothing, nothing, np.empty((0, *shape), np.float32), nothing[:, 0])
        probabilities, maps, statistics = run(self._alone if alone else self._session, inputs, OUTPUTS)
        calibrated = calibrate(probabilities, self.temperature).astype(np.float32)
        unlikeness = self._unlikeness.distance(statistics) / np.float32(self._threshold)
        found = Prediction(probabilities, calibrated, maps, unlikeness)
        chosen = None if self._floors is None else candidates(calibrated, self._floors)
        return replace(found, decisions=self.decide(found), candidates=chosen)

    def decide(self, prediction: Prediction) -> list[Verdict]:
        """Returns the decision for each of n images.

        `not_mr`: further from the training images than the threshold; `abstain`: the most probable class is
        less probable than the threshold from which on the allowed share of wrong answers was shown to hold.
        """
        strange = prediction.unlikeness > 1
        unsure = prediction.calibrated.max(axis=1) < self.abstain_below
        return [
            "not_mr" if far else "abstain" if low else "answer"
            for far, low in zip(strange, unsure, strict=True)
        ]

    @property
    def patient_rule(self) -> Rule:
        """Name of the rule of `answer_patient`, one of `aggregation.RULES`."""
        return "mean" if self._patients is None else self._patients.rule

    def answer_patient(self, calibrated: NDArray[np.floating]) -> PatientPrediction:
        """Makes one answer of the answers to a patient's slices, by the bundle's rule.

        A bundle of a version without such a rule takes the mean, and abstains.

        Args:
            calibrated: (n, classes) calibrated probabilities of the slices, n at least 1; without those that
                are unlike the training images.
        """
        rule = self._patients
        made = RULES[self.patient_rule](calibrated.astype(np.float64))
        chances = calibrate(made[None], 1.0 if rule is None else rule.temperature).astype(np.float32)
        answered = rule is not None and chances.max() >= np.float32(rule.abstain_below)
        chosen = None if rule is None else candidates(chances, rule.candidate_floors)[0]
        return PatientPrediction(chances[0], "answer" if answered else "abstain", chosen)

    def explain(self, feature_maps: Floats, labels: Sequence[int] | NDArray[np.integer]) -> Floats:
        """Computes Grad-CAM (Selvaraju et al. 2017, arxiv.org/abs/1610.02391) of a class's score before the
        softmax.

        Args:
            feature_maps: (n, rows, columns, channels), from `predict`.
            labels: (n,) index of the class to explain for each image.

        Returns:
            (n, rows, columns) float32, each scaled to 0..1 by its maximum, or all 0 if nothing supports the
                class.
        """
        if len(feature_maps) == 0:
            return np.empty(feature_maps.shape[:3], np.float32)
        fed = {"feature_map": feature_maps, "label": np.asarray(labels, np.int64)}
        heat = np.asarray(self._explain.run(["heatmap"], fed)[0], np.float32)
        largest = heat.max(axis=(1, 2), keepdims=True)
        return np.asarray(heat / np.where(largest > 0, largest, 1), np.float32)

    def check_canaries(self) -> None:
        """Runs the bundle's phantoms, to check that the model computes here as it did at export.

        Raises:
            BundleError: a probability differs by more than `CANARY_TOLERANCE`.
        """
        for k, (name, data) in enumerate(self.canaries.items()):  # each session gets half of them
            found = self.predict(self.prepare(data)[0][None], alone=k % 2 == 1).probabilities[0]
            expected = self._expected[name]
            if not np.allclose(found, expected, rtol=0, atol=CANARY_TOLERANCE):
                raise BundleError(
                    f"{self._where}: the canary image {name} has the probabilities {_short(found)}, expected "
                    f"{_short(expected)}: export the bundle again, or run it with the versions that it names"
                )


def _short(values: Sequence[float] | Floats) -> str:
    return "[" + ", ".join(f"{value:.4f}" for value in values) + "]"
