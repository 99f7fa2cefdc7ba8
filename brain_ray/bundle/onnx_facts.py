"""What an ONNX file says of itself, to whoever opens it without the bundle around it."""

import json
from collections.abc import Mapping

import onnx

from brain_ray.config import Config

BATCH = "batch"
"""Name of the dimension that has the number of images."""

PURPOSE = "Classifies single MR slices of a head. Research software, not for clinical use."


def name_batch(model: onnx.ModelProto) -> None:
    """Gives the first, open dimension of a model's inputs and outputs its name, in the graph as well."""
    dims = [value.type.tensor_type.shape.dim[0] for value in [*model.graph.input, *model.graph.output]]
    before = {dim.dim_param for dim in dims if not dim.HasField("dim_value")} - {""}
    for dim in dims:
        if not dim.HasField("dim_value"):
            dim.dim_param = BATCH
    for value in model.graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in before:
                dim.dim_param = BATCH


def describe(config: Config, temperature: float) -> dict[str, str]:
    """Returns the metadata of model.onnx: what goes in, what comes out, and how it is calibrated."""
    model = config.model
    found = {
        "name": config.name,
        "purpose": PURPOSE,
        "classes": json.dumps(list(config.data.classes)),
        "input": f"image: (batch, {model.height}, {model.width}, 1) float32, grey levels from 0 to 255, of a "
        f"slice that was cropped to the head and fitted to this size by '{model.fit}'",
        "outputs": "probabilities (batch, classes); feature_map, which explain.onnx takes; statistics, for "
        "the distance from the training images",
        "temperature": repr(temperature),
        "calibrated": "softmax(log(probabilities) / temperature)",
    }
    return found | ({"licence": config.export.licence} if config.export.licence else {})


def with_facts(data: bytes, facts: Mapping[str, str]) -> bytes:
    """Returns an ONNX file with metadata; those that it had stay."""
    model = onnx.load_from_string(data)
    onnx.helper.set_model_props(model, {prop.key: prop.value for prop in model.metadata_props} | dict(facts))
    model.doc_string = PURPOSE
    found: bytes = model.SerializeToString(deterministic=True)
    return found
