"""Small settings, inputs and weights that the tests of the models are made of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import ModelConfig

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


def tiny(**changes: Any) -> ModelConfig:
    """Settings of the smallest network."""
    return ModelConfig(**{"backbone": "tiny", "weights": "none", "height": 48, "width": 40} | changes)


def noise(count: int, height: int = 48, width: int = 40, seed: int = 0) -> NDArray[np.uint8]:
    """Network inputs, (count, height, width, 1) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 1), dtype=np.uint8)


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
        if type(layer).__name__ == "Normalization":
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign([0.052, 0.050, 0.051])
            layer.finalize_state()
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.01
    model(images.astype(np.float32), training=True)
