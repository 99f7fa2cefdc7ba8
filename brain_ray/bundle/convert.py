"""Converts Keras weights to model.keras and its ONNX graphs, and compares them, in a separate process.

`python -m brain_ray.bundle.convert <job> <destination>`: <job> holds config.json, weights.npz with arrays
"0", "1", ... in the order of `model.weights`, and images.npy, (n, height, width, 1) uint8; <destination> is a
folder that exists. Prints one line of JSON: the number of images and the largest difference of a probability
between the two models, each loaded from its file.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_ray.bundle.bundle import EXPLAIN_FILE, KERAS_FILE, ONNX_FILE
from brain_ray.bundle.parity import largest_difference
from brain_ray.config import BackboneSpec, Config
from brain_ray.errors import RunError
from brain_ray.models.fused_layers import make_convertible
from brain_ray.models.keras_import import import_keras
from brain_ray.models.network import block_outputs, build_network, split_network
from brain_ray.models.weights import assign_weights

if TYPE_CHECKING:
    import keras


def convert(config: Config, weights_file: Path, destination: Path) -> None:
    """Writes model.keras, model.onnx and explain.onnx of a network with the given weights into a folder."""
    settings = config.model.model_copy(update={"weights": "none"})  # one graph, whatever the initial weights
    model = build_network(settings, len(config.data.classes), config.seed)
    with np.load(weights_file) as arrays:
        assign_weights(model, [arrays[str(i)] for i in range(len(arrays.files))])
    model.save(destination / KERAS_FILE)
    convert_served(model, settings.backbone_spec, destination / ONNX_FILE, config.export.opset)
    convert_explanation(model, destination / EXPLAIN_FILE, config.export.opset)


def convert_served(model: "keras.Model", spec: BackboneSpec, target: Path, opset: int) -> None:
    """Writes a bundle's model.onnx of a network of `build_network`."""
    import tensorflow as tf

    served = with_maps(model, spec)

    def serve(image: Any) -> Any:
        return served(image, training=False)

    signature = [tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "image")]
    _to_onnx(serve, served, signature, ["probabilities", "feature_map", "statistics"], target, opset)


def convert_explanation(model: "keras.Model", target: Path, opset: int) -> None:
    """Writes a bundle's explain.onnx, which computes `grad_cam`, of a network of `build_network`."""
    import tensorflow as tf

    shape = model.get_layer("pool").input.shape

    def explain(feature_map: Any, label: Any) -> Any:
        return [grad_cam(model, feature_map, label)]

    signature = [
        tf.TensorSpec([None, *shape[1:]], tf.float32, "feature_map"),
        tf.TensorSpec([None], tf.int64, "label"),
    ]
    _to_onnx(explain, model, signature, ["heatmap"], target, opset)


RATIOS = (4, 8)
"""Sizes of the maps whose statistics a bundle's detector uses: the input's side by the map's. The rule is the
same for every network and data set; no image plays a part in it. At these sizes a network still distinguishes
textures; its last map holds little beyond what separates the classes. `benchmarks/outsiders.py --layers`
compares other rules, on training and validation images only."""


def with_maps(model: "keras.Model", spec: BackboneSpec, ratios: Sequence[int] = RATIOS) -> "keras.Model":
    """Returns the network with two more outputs: the backbone's last feature map, and `statistics`.

    The statistics are mean and standard deviation over each map of the last blocks at some sizes:
    (n, 2 * channels of all).

    Both networks share their layers, some of which are changed (`make_convertible`): save the network before.

    Args:
        model: a network of `build_network`.
        spec: its backbone.
        ratios: the sizes, each the input's side by the map's.

    Raises:
        RunError: the backbone has no block at one of these sizes.
    """
    import keras

    make_convertible(model)
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


def _to_onnx(
    function: Callable[..., Any],
    model: "keras.Model",
    signature: Sequence[Any],
    outputs: Sequence[str],
    target: Path,
    opset: int,
) -> None:
    """Writes a TensorFlow function as an ONNX file.

    The model's variables are constants from the start: tracing them first and freezing the graph later, as a
    SavedModel or `tf2onnx.convert.from_keras` would, takes several times as long for a large network.

    Args:
        function: a function of tensors, as in `signature`, to a list of tensors.
        model: the owner of all variables that the function uses.
        signature: `tf.TensorSpec`s, whose names become those of the ONNX model's inputs.
        outputs: names of the outputs.
        target: the file to write.
        opset: version of the ONNX operators.
    """
    import keras
    import tensorflow as tf
    import tf2onnx.convert

    values = [(variable, np.asarray(variable)) for variable in model.variables]

    def traced(*inputs: Any) -> None:
        with keras.StatelessScope([(variable, tf.constant(value)) for variable, value in values]):
            for output, name in zip(function(*inputs), outputs, strict=True):
                tf.identity(output, name=name)

    graph = tf.function(traced, input_signature=signature, autograph=False).get_concrete_function().graph
    inputs = [spec.name for spec in signature]
    tf2onnx.convert.from_graph_def(
        graph.as_graph_def(),
        input_names=[f"{name}:0" for name in inputs],
        output_names=[f"{name}:0" for name in outputs],
        tensors_to_rename={f"{name}:0": name for name in [*inputs, *outputs]},
        opset=opset,
        output_path=str(target),
    )


def make_models(job: Path, destination: Path) -> str:
    """Does in this process what the command line does; returns the line of JSON."""
    convert(Config.model_validate_json((job / "config.json").read_bytes()), job / "weights.npz", destination)
    images = np.load(job / "images.npy")
    return json.dumps({"images": len(images), "largest_difference": largest_difference(destination, images)})


def main() -> None:
    """Converts the network that the command line names, and compares the two models."""
    import_keras()
    print(make_models(*map(Path, sys.argv[1:])))


if __name__ == "__main__":
    main()
