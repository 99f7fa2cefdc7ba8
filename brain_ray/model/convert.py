"""Turn trained weights into model.keras and model.onnx; run in a process of its own by the exporter.

`python -m brain_ray.model.convert <job> <destination>`: <job> holds config.json and weights.npz, with arrays
"0", "1", ... in the order of `model.weights`; <destination> is a folder that exists.
"""

import logging
import runpy
import sys
import tempfile
from pathlib import Path

import numpy as np

from brain_ray.config import Config
from brain_ray.model.backbones import assign_weights
from brain_ray.model.bundle import KERAS_FILE, ONNX_FILE
from brain_ray.model.network import build_network


def convert(config: Config, weights_file: Path, destination: Path) -> None:
    """Write model.keras and model.onnx of a network with the given weights into a folder.

    The ONNX model goes through a SavedModel and tf2onnx: Keras' own ONNX export makes the constants of an
    EfficientNet's normalisation into required inputs.
    """
    settings = config.model.model_copy(update={"weights": "none"})  # one graph, whatever it started from
    model = build_network(settings, len(config.data.classes), config.seed)
    with np.load(weights_file) as arrays:
        assign_weights(model, [arrays[str(i)] for i in range(len(arrays.files))])
    model.save(destination / KERAS_FILE)
    with tempfile.TemporaryDirectory() as saved:
        model.export(saved, verbose=False)
        _to_onnx(Path(saved), destination / ONNX_FILE, config.export.opset)


def _to_onnx(saved_model: Path, target: Path, opset: int) -> None:
    """Run tf2onnx's command line in this process: importing TensorFlow once more would take seconds."""
    logging.getLogger().setLevel(logging.WARNING)
    names = ["--rename-inputs", "image", "--rename-outputs", "probabilities"]
    files = ["--saved-model", str(saved_model), "--output", str(target), "--opset", str(opset)]
    signature = ["--tag", "serve", "--signature_def", "serving_default"]
    sys.argv = ["tf2onnx.convert", *files, *names, *signature]
    runpy.run_module("tf2onnx.convert", run_name="__main__")


def main() -> None:
    """Convert what the command line names."""
    job, destination = map(Path, sys.argv[1:])
    convert(Config.model_validate_json((job / "config.json").read_bytes()), job / "weights.npz", destination)


if __name__ == "__main__":
    main()
