"""From the bytes of an image to probabilities, with a bundle and ONNX Runtime: what evaluates and serves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from brain_ray.data.images import Box, InputSpec, decode, find_box, to_input
from brain_ray.model.bundle import ONNX_FILE, load_bundle
from brain_ray.model.calibration import calibrate

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """Probabilities of n images, (n, classes) float32: the network's own, and those with the temperature."""

    probabilities: Floats
    calibrated: Floats


class Predictor:
    """A bundle's ONNX model, ready to run. Neither TensorFlow nor Keras is imported."""

    def __init__(self, bundle: str | Path, threads: int = 0) -> None:
        """Open a bundle.

        Args:
            bundle: path or URI of the bundle's folder.
            threads: threads of one prediction; 0: one for each core of the machine.

        Raises:
            BundleError: no bundle there, of another format, or its model is not the one that was exported.
        """
        opened = load_bundle(bundle)
        info = opened.info
        self.info: dict[str, Any] = info.model_dump(mode="json")
        """The content of bundle.json."""
        self.classes = info.classes
        self.crop = info.crop
        self.temperature = info.temperature
        self.spec = InputSpec(info.input.height, info.input.width, info.input.fit, info.input.crop_size)
        self._max_pixels = info.input.max_pixels
        self._session = open_session(opened.read(ONNX_FILE), threads)

    def prepare(self, data: bytes) -> tuple[NDArray[np.uint8], Box, bool]:
        """Decode and crop an encoded image: (height, width, 1) uint8, the box, whether one was found.

        Where no head is found, the box is the whole image.

        Raises:
            ImageError: it cannot be used.
        """
        image = decode(data, self._max_pixels)
        found = find_box(image, self.crop)
        box = Box.whole(image) if found is None else found
        return to_input(image, box, self.spec), box, found is not None

    def predict(self, inputs: NDArray[np.uint8] | Floats) -> Prediction:
        """Classify (n, height, width, 1) images, raw 0..255 grey, in one call of the model.

        Raises:
            ValueError: another shape.
        """
        if inputs.ndim != 4 or inputs.shape[1:] != (self.spec.height, self.spec.width, 1):
            raise ValueError(
                f"inputs have shape {inputs.shape}: expected (n, {self.spec.height}, {self.spec.width}, 1)"
            )
        if len(inputs) == 0:
            nothing = np.empty((0, len(self.classes)), np.float32)
            return Prediction(nothing, nothing)
        probabilities = run(self._session, inputs)
        return Prediction(probabilities, calibrate(probabilities, self.temperature).astype(np.float32))


def open_session(model: bytes, threads: int = 0, gpu: bool = True) -> onnxruntime.InferenceSession:
    """Load an ONNX model; on a GPU if ONNX Runtime has one and `gpu` is set.

    Its threads sleep while they wait: they share their cores with other replicas, and spinning ones would
    take the time from those that compute.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only
    wanted = ["CUDAExecutionProvider"] * gpu + ["CPUExecutionProvider"]
    present = onnxruntime.get_available_providers()
    return onnxruntime.InferenceSession(model, options, providers=[p for p in wanted if p in present])


def run(session: onnxruntime.InferenceSession, inputs: NDArray[Any]) -> Floats:
    """Run a model on (n, height, width, 1) images: (n, classes) float32."""
    return np.asarray(session.run(["probabilities"], {"image": inputs.astype(np.float32)})[0], np.float32)
