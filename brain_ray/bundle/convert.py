"""Converts Keras weights to model.keras and its ONNX graphs, and compares them, in a separate process.

`python -m brain_ray.bundle.convert <job> <destination>`: <job> holds config.json, what `write_members` writes
of the networks, and images.npy, (n, height, width, 1) uint8, validation images to choose from; <destination>
is a folder that exists. Prints one line of JSON, a `schema.Check`: the differences between the two models,
each loaded from its file.
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
from brain_ray.bundle.members import models_in, networks_in
from brain_ray.bundle.onnx_facts import name_batch
from brain_ray.bundle.parity import compare_models
from brain_ray.config import BackboneSpec, Config
from brain_ray.errors import RunError
from brain_ray.models.alignment import map_shift
from brain_ray.models.ensemble import heat_map, join_networks, networks_of, served_model
from brain_ray.models.fused_layers import make_convertible
from brain_ray.models.keras_import import import_keras

if TYPE_CHECKING:
    import keras


def convert(config: Config, job: Path, destination: Path) -> None:
    """Writes model.keras, model.onnx and explain.onnx of the mean of the networks in a folder of
    `write_members` into another folder."""
    model = join_networks(networks_in(job, config), mirrored=config.export.mirrored)
    model.save(destination / KERAS_FILE)
    convert_served(model, specs_in(job), destination / ONNX_FILE, config.export.opset)
    convert_explanation(model, destination / EXPLAIN_FILE, config.export.opset)


def specs_in(job: Path) -> list[BackboneSpec]:
    """Returns the rows of the networks' backbones."""
    return [model.backbone_spec for model in models_in(job)]


def convert_served(model: "keras.Model", specs: Sequence[BackboneSpec], target: Path, opset: int) -> None:
    """Writes a bundle's model.onnx of a model of `join_networks`, of networks with these backbones.

    Changes some of the networks' layers (`make_convertible`): save it before.
    """
    import tensorflow as tf

    make_convertible(model)
    served = served_model(model, specs)

    def serve(image: Any) -> Any:
        return served(image, training=False)

    signature = [tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "image")]
    graph = _to_onnx(serve, served, signature, ["probabilities", "feature_map", "statistics"], opset)
    onnx.save(graph, target)


def convert_explanation(model: "keras.Model", target: Path, opset: int) -> None:
    """Writes a bundle's explain.onnx, which computes `heat_map`, of a model of `join_networks`; its metadata
    say where the cells of its map lie."""
    import tensorflow as tf

    members = networks_of(model)
    maps = [member.get_layer("pool").input.shape[1:] for member in members]
    places = {(*cells, map_shift(member)) for member, (*cells, _) in zip(members, maps, strict=True)}
    if len(places) > 1:
        raise RunError(
            f"the last maps of the averaged networks look at different places of the image, {sorted(places)} "
            "(rows, columns, shift of their middle in pixels): they have no common heat map"
        )
    *cells, _ = maps[0]

    def explain(feature_map: Any, label: Any) -> Any:
        return [heat_map(model, feature_map, label)]

    signature = [
        tf.TensorSpec([None, *cells, sum(each[-1] for each in maps)], tf.float32, "feature_map"),
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
    convert(config, job, destination)
    images = np.load(job / "images.npy")
    check = compare_models(destination, specs_in(job), images, config.export)
    return check.model_dump_json()


def main() -> None:
    """Converts the network that the command line names, and compares the two models."""
    import_keras()
    print(make_models(*map(Path, sys.argv[1:])))


if __name__ == "__main__":
    main()
