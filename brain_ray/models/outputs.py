"""Outputs of a network besides its probabilities: feature map, statistics of early maps, Grad-CAM."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from brain_ray.config import BackboneSpec
from brain_ray.errors import RunError
from brain_ray.models.network import block_outputs, split_network

if TYPE_CHECKING:
    import keras


RATIOS = (4, 8)
"""Sizes of the maps whose statistics a bundle's detector uses: the input's side by the map's. The rule is the
same for every network and data set; no image plays a part in it. At these sizes a network still distinguishes
textures; its last map holds little beyond what separates the classes. `benchmarks/outsiders.py --layers`
compares other rules, on training and validation images only."""


def with_maps(model: "keras.Model", spec: BackboneSpec, ratios: Sequence[int] = RATIOS) -> "keras.Model":
    """Returns the network with two more outputs: the backbone's last feature map, and `statistics`.

    The statistics are mean and standard deviation over each map of the last blocks at some sizes:
    (n, 2 * channels of all).

    Both networks share their layers.

    Args:
        model: a network of `build_network`.
        spec: its backbone.
        ratios: the sizes, each the input's side by the map's.

    Raises:
        RunError: the backbone has no block at one of these sizes.
    """
    import keras

    backbone = model.get_layer("backbone")
    by_size = {output.shape[1:3]: output for output in block_outputs(backbone, spec)}
    side = backbone.input.shape[1:3]
    inner = keras.Model(backbone.input, [backbone.output, *(_at(by_size, side, ratio) for ratio in ratios)])
    feature_map, *maps = inner(model.get_layer("repeat").output)
    _, head = split_network(model)
    probabilities = head(model.get_layer("pool")(feature_map))
    moments = [moment(x, axis=(1, 2)) for x in maps for moment in (keras.ops.mean, keras.ops.std)]
    return keras.Model(model.input, [probabilities, feature_map, keras.ops.concatenate(moments, axis=-1)])


def _at(by_size: dict[tuple[int, int], Any], side: tuple[int, int], ratio: int) -> Any:
    """Returns the map at one `ratio`-th of the input's size: most networks round odd sides up, some down."""
    for rounded in (math.ceil, math.floor):
        found = by_size.get((rounded(side[0] / ratio), rounded(side[1] / ratio)))
        if found is not None:
            return found
    raise RunError(
        f"the backbone has no block whose output is 1/{ratio} of its input, {side[0]}x{side[1]}; found "
        + ", ".join(f"{rows}x{columns}" for rows, columns in by_size)
    )


def grad_cam(model: "keras.Model", feature_map: Any, label: Any) -> Any:
    """Computes Grad-CAM (Selvaraju et al. 2017, arxiv.org/abs/1610.02391) of the score before the softmax.

    The gradient is taken at the pooled features. Average pooling passes 1/(rows * columns) of it to each
    position of a map; max pooling passes all of it to the largest one, or shares it among equals. Its mean
    over the map, which is the map's weight, is the same for both, and needs no gradient of a pooling layer.

    Args:
        model: a network of `build_network`.
        feature_map: (n, rows, columns, channels), the input of the layer `pool`.
        label: (n,) indices of the classes to explain.

    Returns:
        (n, rows, columns), 0 or more.
    """
    import tensorflow as tf

    _, head = split_network(model)
    *hidden, last = head.layers[1:]  # the first is the input
    pooled = model.get_layer("pool")(feature_map)
    with tf.GradientTape() as tape:
        tape.watch(pooled)
        x = pooled
        for layer in hidden:
            if layer.name == "head_dense":  # tf2onnx knows no gradient of Relu
                x = tf.matmul(x, layer.kernel) + layer.bias
                x *= tf.cast(x > 0, tf.float32)
            else:
                x = layer(x, training=False)
        scores = tf.matmul(x, last.kernel) + last.bias
    _, rows, columns, _ = feature_map.shape
    chosen = tf.one_hot(label, scores.shape[-1])
    weights = tape.gradient(scores, pooled, output_gradients=chosen) / (rows * columns)
    return tf.nn.relu(tf.reduce_sum(feature_map * weights[:, None, None, :], axis=-1))
