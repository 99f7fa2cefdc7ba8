"""EfficientNet-Lite0: B0 without squeeze and excitation, with ReLU6; and its ImageNet weights."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brain_ray.models.torch_file import read_torch_file

if TYPE_CHECKING:
    import keras


class _Stage(NamedTuple):
    channels: int
    blocks: int
    kernel: int
    stride: int
    expansion: int


STAGES = (
    _Stage(16, 1, 3, 1, 1),
    _Stage(24, 2, 3, 2, 6),
    _Stage(40, 2, 5, 2, 6),
    _Stage(80, 3, 3, 2, 6),
    _Stage(112, 3, 5, 1, 6),
    _Stage(192, 4, 5, 2, 6),
    _Stage(320, 1, 3, 1, 6),
)
"""Stages of EfficientNet-B0 (Tan and Le 2019, arxiv.org/abs/1905.11946, table 1)."""

INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}
"""What Keras' EfficientNets are initialised with."""

INPUT_MEAN, INPUT_DEVIATION = 127 / 255, 128 / 255
"""What they were trained with: (x - 127) / 128, here of inputs that are divided by 255 first."""


def efficientnet_lite0(
    *, include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> "keras.Model":
    """Builds the network, with layers in the order and of the names of Keras' EfficientNetB0.

    Like that one it takes raw 0..255 and normalises inside. In training, images skip residual blocks at
    random: none the first, nearly a fifth of them the last.

    Takes the arguments of a network of keras.applications; it has no top, and loads no weights.
    """
    import keras

    assert not include_top
    assert weights is None
    inputs = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Normalization(name="normalization")(x)
    x = _norm(_conv(x, 32, "stem_conv", size=3, stride=2), "stem_bn")
    x = keras.layers.Activation("relu6", name="stem_activation")(x)
    blocks = [
        (f"block{number}{chr(ord('a') + i)}_", stage, stage.stride if i == 0 else 1)
        for number, stage in enumerate(STAGES, start=1)
        for i in range(stage.blocks)
    ]
    for i, (name, stage, stride) in enumerate(blocks):
        x = _block(x, name, stage, stride, 0.2 * i / len(blocks))
    x = _norm(_conv(x, 1280, "top_conv"), "top_bn")
    x = keras.layers.Activation("relu6", name="top_activation")(x)
    return keras.Model(inputs, x, name="efficientnetlite0")


def find_weights(package: str) -> Path | None:
    """Returns the file of ImageNet weights that an installed package has, or None if it is not installed."""
    found = find_spec(package)
    folders = found.submodule_search_locations if found is not None else None
    return next((file for folder in folders or () for file in Path(folder).glob("models/*.pth")), None)


def published_weights(file: Path) -> list[NDArray[Any]]:
    """Returns the weights of a file of `find_weights`, in the order of the network's own.

    They are the published ones (github.com/tensorflow/tpu, models/official/efficientnet/lite; Apache 2.0),
    which others converted for PyTorch.

    Raises:
        ValueError: it is no such file.
    """
    mean, variance = np.full(3, INPUT_MEAN), np.full(3, INPUT_DEVIATION**2)
    found: list[NDArray[Any]] = [mean, variance, np.zeros((), np.int64)]
    for name, array in read_torch_file(file).items():
        if name.endswith("num_batches_tracked") or name.startswith("_fc."):
            continue
        if array.ndim == 4:  # (filters, channels, rows, columns); depthwise, (channels, 1, rows, columns)
            depthwise = name.endswith("_depthwise_conv.weight")
            array = array.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))  # noqa: PLW2901
        found.append(array)
    return found


def _block(x: Any, name: str, stage: _Stage, stride: int, drop: float) -> Any:
    import keras

    before, channels = x, x.shape[-1]
    if stage.expansion != 1:
        x = _norm(_conv(x, channels * stage.expansion, f"{name}expand_conv"), f"{name}expand_bn")
        x = keras.layers.Activation("relu6", name=f"{name}expand_activation")(x)
    x = keras.layers.DepthwiseConv2D(
        stage.kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=INITIALIZER,
        name=f"{name}dwconv",
    )(x)
    x = keras.layers.Activation("relu6", name=f"{name}activation")(_norm(x, f"{name}bn"))
    x = _norm(_conv(x, stage.channels, f"{name}project_conv"), f"{name}project_bn")
    if stride == 1 and channels == stage.channels:
        if drop > 0:
            x = keras.layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
        x = keras.layers.Add(name=f"{name}add")([x, before])
    return x


def _conv(x: Any, filters: int, name: str, size: int = 1, stride: int = 1) -> Any:
    import keras

    return keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=INITIALIZER,
        name=name,
    )(x)


def _norm(x: Any, name: str) -> Any:
    import keras

    return keras.layers.BatchNormalization(name=name)(x)
