"""Backbones: builds the feature extractor of a network."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from brain_ray.config import BackboneSpec, ModelConfig
from brain_ray.errors import RunError
from brain_ray.models.weights import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    check_loaded,
    factory_of,
    load_file,
    load_imagenet,
)

if TYPE_CHECKING:
    import keras


def build_backbone(config: ModelConfig, weights_file: str | None = None) -> "keras.Model":
    """Builds the backbone, without pooling and top, as a model named `backbone`.

    Input: (n, height, width, 3), raw 0..255, the same in each channel; scaling and normalisation are inside.
    Output: the last feature map. The graph is always the one that Keras builds for `weights=None`. Keras'
    `imagenet` graph of an EfficientNet has one more rescaling, by 1/sqrt(deviation); here it is folded into
    the variance of the Normalization. So the weights alone determine what a model computes, and it can be
    built again without a download.

    Args:
        config: the model's settings; of `weights` only `imagenet` matters, without a `weights_file`.
        weights_file: local `.weights.h5` (Keras 3) or `.h5` (older) file of the backbone without its top.

    Raises:
        RunError: the input is too small, or the weights do not fit or were not loaded.
    """
    import keras

    if not keras.__version__.startswith("3.") or keras.backend.backend() != "tensorflow":
        raise RunError(
            f"found Keras {keras.__version__} on {keras.backend.backend()}, expected Keras 3 on TensorFlow: "
            "install brain_ray's pinned versions and unset KERAS_BACKEND"
        )
    shape = (config.height, config.width, 3)
    spec = config.backbone_spec
    if min(config.height, config.width) < spec.smallest_side:
        raise RunError(
            f"model.height x model.width is {config.height}x{config.width}: {config.backbone} needs "
            f"{spec.smallest_side} px or more on each side"
        )
    # The name is set by wrapping: Keras picks preprocessing and files by the network's own name.
    plain = factory_of(spec)(include_top=False, weights=None, **_input(spec, shape))
    (inputs,) = plain.inputs  # `input` is a list of one where the factory was given a tensor
    backbone = keras.Model(inputs, plain.output, name="backbone")
    before = [np.asarray(weight) for weight in backbone.weights]
    if weights_file is not None:
        load_file(backbone, Path(weights_file), config.backbone, spec)
        check_loaded(backbone, before, weights_file, config.backbone)
    elif config.weights == "imagenet":
        load_imagenet(backbone, config.backbone, spec, shape)
        check_loaded(backbone, before, "imagenet", config.backbone)
    if config.bn_momentum is not None:
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = config.bn_momentum
    return backbone


def _input(spec: BackboneSpec, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Returns the arguments for a factory of keras.applications that define the network's input."""
    import keras

    if spec.preprocessing == "inside":
        return {"input_shape": shape}
    inputs = keras.Input(shape)
    return {"input_tensor": preprocessing_layer(spec.preprocessing)(inputs)}


def preprocessing_layer(mode: Literal["caffe", "tf", "torch"]) -> "keras.Layer":
    """Returns a layer without weights that does the same as keras.applications' `preprocess_input` in a mode.

    Only for inputs with three equal channels. `caffe` also swaps red and blue, which changes nothing for
    these; its means are in the order of the swapped channels, as the weights are.
    """
    import keras

    if mode == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0)
    if mode == "caffe":
        return keras.layers.Normalization(mean=(103.939, 116.779, 123.68), variance=(1.0, 1.0, 1.0))
    mean, deviation = 255 * np.array(IMAGENET_MEAN), 255 * np.array(IMAGENET_DEVIATION)
    return keras.layers.Normalization(mean=mean.tolist(), variance=np.square(deviation).tolist())


def tiny(*, include_top: bool, weights: str | None, input_shape: tuple[int, int, int]) -> "keras.Model":
    """Builds a network of five convolutions; it traces in a second and can classify phantoms (three cannot).

    Takes the arguments of a network of keras.applications; it has neither a top nor a file of weights.
    """
    import keras

    assert not include_top
    assert weights is None
    inputs = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    for i, filters in enumerate((16, 32, 64, 64, 64), start=1):
        conv = keras.layers.Conv2D(
            filters, 3, strides=2, padding="same", use_bias=False, name=f"block{i}_conv"
        )
        # Its momentum is low, since it is only ever trained for a few steps.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"block{i}_bn")(conv(x))
        x = keras.layers.Activation("relu")(x)
    return keras.Model(inputs, x)
