"""The convolutional part of a network, and the weights it starts from."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brain_ray.config import Backbone, ModelConfig
from brain_ray.errors import RunError
from brain_ray.models.weights import _application, _check_loaded, _load_file, _load_imagenet

if TYPE_CHECKING:
    import keras

SMALLEST_SIDE = 32
"""Pixels that an EfficientNet needs on each side: it halves its input five times."""

NATIVE_SIDE: dict[Backbone, int] = {
    "EfficientNetB0": 224,
    "EfficientNetB1": 240,
    "EfficientNetB2": 260,
    "EfficientNetB3": 300,
    "EfficientNetB4": 380,
    "EfficientNetB5": 456,
    "EfficientNetB6": 528,
    "EfficientNetB7": 600,
    "EfficientNetV2B0": 224,
    "EfficientNetV2B1": 240,
    "EfficientNetV2B2": 260,
    "EfficientNetV2B3": 300,
    "EfficientNetV2S": 384,
    "EfficientNetV2M": 480,
    "EfficientNetV2L": 480,
    "tiny": 96,
}
"""Height and width of the input, in pixels, that each backbone was designed for.

The default sizes of keras.applications: of B0 to B7 those that depth and width were scaled with (Tan and Le
2019, arxiv.org/abs/1905.11946), of V2 those that it is evaluated at (2021, arxiv.org/abs/2104.00298). The one
of `tiny` is ours.
"""


def build_backbone(config: ModelConfig, weights_file: str | None = None) -> "keras.Model":
    """Build the backbone, without pooling and top, as a model named `backbone`.

    Input: (n, height, width, 3), raw 0..255; scaling and normalisation are inside. Output: the last feature
    map. The graph is always the one that Keras builds for `weights=None`: its `imagenet` graph has one more
    rescaling, by 1/sqrt(deviation), which is folded into the variance of the Normalization here. So the
    weights alone tell what a model computes, and it can be built again without a download.

    Args:
        config: the model's settings. `weights` counts only as far as `imagenet` and no `weights_file`.
        weights_file: local `.weights.h5` (Keras 3) or `.h5` (older) file of the backbone without its top.

    Raises:
        RunError: the input is too small, or the weights do not fit or were not taken over.
    """
    import keras

    if not keras.__version__.startswith("3.") or keras.backend.backend() != "tensorflow":
        raise RunError(
            f"found Keras {keras.__version__} on {keras.backend.backend()}, expected Keras 3 on TensorFlow: "
            "install brain_ray's pinned versions and unset KERAS_BACKEND"
        )
    shape = (config.height, config.width, 3)
    if config.backbone == "tiny":
        backbone = _tiny(shape)
    else:
        if min(config.height, config.width) < SMALLEST_SIDE:
            raise RunError(
                f"model.height x model.width is {config.height}x{config.width}: {config.backbone} needs "
                f"{SMALLEST_SIDE} px or more on each side"
            )
        # The name is set by wrapping: Keras picks preprocessing and files by the network's own name.
        plain = _application(config.backbone)(include_top=False, weights=None, input_shape=shape)
        backbone = keras.Model(plain.input, plain.output, name="backbone")
    before = [np.asarray(weight) for weight in backbone.weights]
    if weights_file is not None:
        _load_file(backbone, Path(weights_file), config.backbone)
        _check_loaded(backbone, before, weights_file, config.backbone)
    elif config.weights == "imagenet":
        _load_imagenet(backbone, config.backbone, shape)
        _check_loaded(backbone, before, "imagenet", config.backbone)
    if config.bn_momentum is not None:
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = config.bn_momentum
    return backbone


def _tiny(shape: tuple[int, int, int]) -> "keras.Model":
    """Five convolutions: builds and traces in a second, and tells phantoms apart (three see too little)."""
    import keras

    inputs = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    for i, filters in enumerate((16, 32, 64, 64, 64), start=1):
        conv = keras.layers.Conv2D(
            filters, 3, strides=2, padding="same", use_bias=False, name=f"block{i}_conv"
        )
        # Its momentum is low, since it is only ever trained for a few steps.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"block{i}_bn")(conv(x))
        x = keras.layers.Activation("relu")(x)
    return keras.Model(inputs, x, name="backbone")
