"""Small settings, inputs and weights that the tests of the models are made of."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.bundle.build import MakeModels
from brain_ray.bundle.parity import compare_models
from brain_ray.config import Config, CropConfig, DataConfig, ModelConfig
from brain_ray.data.phantoms.files import draw
from brain_ray.data.transforms import prepare_image
from brain_ray.input_spec import InputSpec

SPLIT = {"images": 12, "rows": 16, "sha256": "ab" * 32}
FACTS: dict[str, Any] = {
    "data": {
        "train": SPLIT,
        "valid": SPLIT | {"images": 24},
        "test": SPLIT | {"images": 5},
        "audit": {
            "second_copies": 31,
            "across_splits": {"pairs": 17, "test_images": 13},
            "dropped_from_train": 19,
        },
    },
    "training": {"epochs": 7, "best_epoch": 6, "backbone": "tiny"},
}

SWEEP: dict[str, Any] = {
    "rule": "cheapest within noise",
    "sentence": "tiny 48x40 gap (trial 003) is chosen: it is the fastest within noise of the best.",
    "trials": 6,
    "by_status": {"finished": 4, "stopped": 2},
    "winner": "003",
    "contenders": [
        {
            "model": "EfficientNetB0 48x40 gap",
            "trial": "001",
            "repeats": 1,
            "cross_entropy": 0.0912,
            "spread": None,
            "accuracy": 0.9707,
            "accuracy_low": 0.9411,
            "accuracy_high": 0.9893,
            "latency_ms": 8.14,
            "parameters": 4054695,
            "gflops": 0.801,
            "within_noise": True,
        },
        {
            "model": "tiny 48x40 gap",
            "trial": "003",
            "repeats": 2,
            "cross_entropy": 0.0956,
            "spread": 0.0123,
            "accuracy": 0.9695,
            "accuracy_low": 0.9396,
            "accuracy_high": 0.9886,
            "latency_ms": 0.33,
            "parameters": 98355,
            "gflops": 0.004,
            "within_noise": True,
        },
    ],
    "noise": "Noise was judged by the bootstrap of 2000 resamples.",
}


def tiny(**changes: Any) -> ModelConfig:
    """Settings of the smallest network."""
    return ModelConfig(**{"backbone": "tiny", "weights": "none", "height": 48, "width": 40} | changes)


def noise(count: int, height: int = 48, width: int = 40, seed: int = 0) -> NDArray[np.uint8]:
    """Network inputs, (count, height, width, 1) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 1), dtype=np.uint8)


def phantom_inputs(height: int, width: int, indices: Iterable[int]) -> NDArray[np.uint8]:
    """Network inputs of phantoms of the four classes in turn."""
    classes = DataConfig().classes
    images = [draw(classes[index % 4], 11, index) for index in indices]
    grey = [image if image.ndim == 2 else image[..., 0] for image in images]
    return inputs_of(grey, height, width)


def inputs_of(images: Iterable[Grey], height: int, width: int) -> NDArray[np.uint8]:
    """Crop images to their heads, as the predictor does: (n, height, width, 1) uint8."""
    spec = InputSpec(height, width)
    return np.stack([prepare_image(np.asarray(image, np.uint8), CropConfig(), spec)[0] for image in images])


def no_heads(seed: int = 0) -> dict[str, list[Grey]]:
    """Pictures that are no MR slices, ten of each kind, as a user might send them."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Grey]] = {"noise": [], "smooth noise": [], "text": [], "blank": [], "ramp": []}
    for k in range(10):
        height, width = (int(side) for side in rng.integers(120, 500, 2))
        found["noise"].append(rng.integers(0, 256, (height, width), dtype=np.uint8))
        smooth = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 2 + k)
        found["smooth noise"].append(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8))
        page = np.full((height, width), 255, np.uint8)
        for row in range(20, height, 24):
            words = "".join(chr(c) for c in rng.integers(33, 122, 60))
            cv2.putText(page, words, (5, row), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0, 1)
        found["text"].append(page if k % 2 else 255 - page)
        found["blank"].append(np.full((height, width), 28 * k, np.uint8))
        ramp = np.linspace(0, 255, width)[None, :] * np.linspace(k / 10, 1, height)[:, None]
        found["ramp"].append(ramp.astype(np.uint8))
    return found


def changed_weights(model: Any, seed: int = 5) -> list[NDArray[Any]]:
    """Weights of a network that no initialiser gives, as training leaves them; variances stay positive."""
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(weight) for weight in model.weights]
    return [array * rng.uniform(0.8, 1.2, array.shape).astype(array.dtype) for array in arrays]


def settle(model: Any, images: NDArray[np.uint8]) -> None:
    """Give an untrained network's batch norms statistics; without, its activations fade to nothing.

    Also gives an EfficientNet the normalisation that ImageNet weights bring.
    """
    for layer in model.get_layer("backbone").layers:
        if type(layer).__name__ == "Normalization" and layer.input_mean is None:
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign([0.052, 0.050, 0.051])
            layer.finalize_state()
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.01
    model(images.astype(np.float32), training=True)


def models_of(bundle: Path) -> MakeModels:
    """Let a bundle's models stand in for the converted ones, and the check run in this process."""

    def make(job: Path, folder: Path) -> str:
        for name in ("model.keras", "model.onnx", "explain.onnx"):
            (folder / name).write_bytes((bundle / name).read_bytes())
        config = Config.model_validate_json((job / "config.json").read_bytes())
        images = np.load(job / "images.npy")
        return compare_models(folder, [config.model.backbone_spec], images, config.export).model_dump_json()

    return make
