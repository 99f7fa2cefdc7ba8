"""Converts Keras weights to model.keras and its ONNX graphs, and compares them, in a separate process.

`python -m brain_ray.bundle.convert <job> <destination>`: <job> holds config.json, for each member a file
weights-<number>.npz with arrays "0", "1", ... in the order of `model.weights`, and images.npy, (n, height,
width, 1) uint8, validation images to choose from; <destination> is a folder that exists. Prints one line of
JSON, a `schema.Check`: the differences between the two models, each loaded from its file.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from brain_ray.bundle.bundle import EXPLAIN_FILE, KERAS_FILE, ONNX_FILE
from brain_ray.bundle.heat_maps import MAP_SHIFT, shift_text
from brain_ray.bundle.onnx_facts import name_batch
from brain_ray.bundle.parity import compare_models
from brain_ray.config import BackboneSpec, Config
from brain_ray.models.alignment import map_shift
from brain_ray.models.ensemble import heat_map, join_networks, members_of, served_model
from brain_ray.models.fused_layers import make_convertible
from brain_ray.models.keras_import import import_keras
from brain_ray.models.network import build_network
from brain_ray.models.weights import assign_weights, read_weights

if TYPE_CHECKING:
    import keras


def convert(config: Config, weights_files: Sequence[Path], destination: Path) -> None:
    """Writes model.keras, model.onnx and explain.onnx of the mean of networks with the given weights into a
    folder."""
    settings = config.model.model_copy(update={"weights": "none"})  # one graph, whatever the initial weights
    networks = []
    for file in weights_files:
        networks.append(build_network(settings, len(config.data.classes), config.seed))
        assign_weights(networks[-1], read_weights(file))
    model = join_networks(networks, mirrored=config.export.mirrored)
    model.save(destination / KERAS_FILE)
    convert_served(model, settings.backbone_spec, destination / ONNX_FILE, config.export.opset)
    convert_explanation(model, destination / EXPLAIN_FILE, config.export.opset)


def convert_served(model: "keras.Model", spec: BackboneSpec, target: Path, opset: int) -> None:
    """Writes a bundle's model.onnx of a model of `join_networks`.

    Changes some of the networks' layers (`make_convertible`): save it before.
    """
    import tensorflow as tf

    make_convertible(model)
    served = served_model(model, spec)

    def serve(image: Any) -> Any:
        return served(image, training=False)

    signature = [tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "image")]
    graph = _to_onnx(serve, served, signature, ["probabilities", "feature_map", "statistics"], opset)
    onnx.save(graph, target)


def convert_explanation(model: "keras.Model", target: Path, opset: int) -> None:
    """Writes a bundle's explain.onnx, which computes `heat_map`, of a model of `join_networks`; its metadata
    say where the cells of its map lie."""
    import tensorflow as tf

    members = members_of(model)
    *cells, channels = members[0].get_layer("pool").input.shape[1:]

    def explain(feature_map: Any, label: Any) -> Any:
        return [heat_map(model, feature_map, label)]

    signature = [
        tf.TensorSpec([None, *cells, len(members) * channels], tf.float32, "feature_map"),
        tf.TensorSpec([None], tf.int64, "label"),
    ]
    graph = _to_onnx(explain, model, signature, ["heatmap"], opset)
    onnx.helper.set_model_props(graph, {MAP_SHIFT: shift_text(map_shift(members[0]))})
    onnx.save(graph, target)


def _to_onnx(
    function: Callable[..., Any],
    model: "keras.Model",
    signature: Sequence[Any],
    outputs: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    """Converts a TensorFlow function to an ONNX model.

    The model's variables are constants from the start: tracing them first and freezing the graph later, as a
    SavedModel or `tf2onnx.convert.from_keras` would, takes several times as long for a large network.

    Args:
        function: a function of tensors, as in `signature`, to a list of tensors.
        model: the owner of all variables that the function uses.
        signature: `tf.TensorSpec`s, whose names become those of the ONNX model's inputs.
        outputs: names of the outputs.
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
    with _frequent_collection():
        converted, _ = tf2onnx.convert.from_graph_def(
            graph.as_graph_def(),
            input_names=[f"{name}:0" for name in inputs],
            output_names=[f"{name}:0" for name in outputs],
            tensors_to_rename={f"{name}:0": name for name in [*inputs, *outputs]},
            opset=opset,
        )
    name_batch(converted)
    return converted


@contextmanager
def _frequent_collection() -> Iterator[None]:
    """Lets Python's garbage collector run often within, on new objects only.

    Each pass of tf2onnx's optimiser copies the graph with its weights, and a copy is a cycle that only the
    collector frees. It looks seldom where TensorFlow has millions of objects: of EfficientNetB7 some forty
    copies lay about, 10 GB.
    """
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 4, 2)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if not frozen:  # else the caller's own objects would come back too
            gc.unfreeze()


def make_models(job: Path, destination: Path) -> str:
    """Does in this process what the command line does; returns the line of JSON."""
    config = Config.model_validate_json((job / "config.json").read_bytes())
    count = len(list(job.glob("weights-*.npz")))
    convert(config, [job / f"weights-{number}.npz" for number in range(count)], destination)
    images = np.load(job / "images.npy")
    check = compare_models(destination, config.model.backbone_spec, images, config.export)
    return check.model_dump_json()


def main() -> None:
    """Converts the network that the command line names, and compares the two models."""
    import_keras()
    print(make_models(*map(Path, sys.argv[1:])))


if __name__ == "__main__":
    main()
