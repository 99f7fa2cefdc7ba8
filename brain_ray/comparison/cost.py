"""Cost of serving a model: parameters, FLOPs, latency on this machine.

`python -m brain_ray.comparison.cost <config.json> <model.onnx>` writes the network of a config in its served
form and prints one line of JSON, `parameters` and `gflops`. `measure` runs it in a subprocess, and measures
the times.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brain_ray.bundle.convert import convert_served
from brain_ray.bundle.isolated import run_module
from brain_ray.bundle.session import OUTPUTS, open_session, run
from brain_ray.config import Config
from brain_ray.errors import RunError, first_line
from brain_ray.input_spec import batch_of
from brain_ray.models.keras_import import import_keras
from brain_ray.models.network import build_network
from brain_ray.models.outputs import with_maps

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 32
"""Number of images of a batch whose speed is measured."""


@dataclass(frozen=True)
class Cost:
    """Cost of serving a model."""

    parameters: int
    """Number of parameters of the whole network, including its head and its batch norms' statistics."""
    gflops: float
    """1e9 floating-point operations for one image; a multiply-add counts as two."""
    latency_ms: float
    """Median milliseconds for one image, from the network's input on, in ONNX Runtime on all cores of this
    machine."""
    images_per_second: float
    """Images per second in batches of 32, or of fewer if images are large (`input_spec.batch_of`)."""


def measure(config: Config) -> Cost:
    """Measures the cost of a config's model, which does not depend on its weights.

    The measured model equals a bundle's model.onnx, with all its outputs, in a session like `Predictor`'s on
    a CPU: one thread for each core. Nothing else should compute meanwhile. Takes half a minute, and longer
    for a model that needs seconds for a batch; TensorFlow runs in a separate process, on the CPU.

    Raises:
        RunError: the network cannot be built, converted or run.
    """
    model = config.model
    with tempfile.TemporaryDirectory() as folder:
        settings, file = Path(folder) / "config.json", Path(folder) / "model.onnx"
        settings.write_text(config.model_dump_json())
        try:
            output = run_module("brain_ray.comparison.cost", settings, file)
            counts = json.loads(output.strip().splitlines()[-1])
            latency, speed = _time(file.read_bytes(), model.height, model.width)
        except Exception as error:  # ONNX Runtime's own errors have no common base
            raise RunError(
                f"cannot tell what {model.backbone} at {model.height}x{model.width} costs: "
                f"{first_line(error)}"
            ) from error
    return Cost(counts["parameters"], counts["gflops"], 1000 * latency, speed)


def count_flops(model: "keras.Model") -> float:
    """Returns the floating-point operations for one image, from TensorFlow's profiler; a multiply-add counts
    as two.

    The profiler counts convolutions and matrix products, and sums and products that an optimiser may yet fold
    into these: the result is some 3 % above twice the multiply-adds that papers state.
    """
    import tensorflow as tf

    signature = tf.TensorSpec([1, *model.input_shape[1:]], tf.float32)
    graph = tf.function(lambda image: model(image, training=False)).get_concrete_function(signature).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    return float(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)


def _time(model: bytes, height: int, width: int) -> tuple[float, float]:
    """Returns the median seconds for one image, and images/s in batches."""
    session = open_session(model, gpu=False)
    size = batch_of(height, width, BATCH_SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (size, height, width, 1), np.uint8)
    latency = _median_seconds(lambda: run(session, pixels[:1], OUTPUTS), seconds=3, most=100)
    batch = _median_seconds(lambda: run(session, pixels, OUTPUTS), seconds=5, most=20)
    return latency, size / batch


def _median_seconds(work: Callable[[], object], seconds: float, most: int) -> float:
    """Returns the median duration in seconds of as many calls as fit into `seconds`, one to `most`, after one
    to warm up."""
    work()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or (len(taken) < most and time.perf_counter() < end):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    """Converts the network that the command line names, and counts its parameters and operations."""
    settings, file = map(Path, sys.argv[1:])
    import_keras()
    config = Config.model_validate_json(settings.read_bytes())
    plain = config.model.model_copy(update={"weights": "none"})
    network = build_network(plain, len(config.data.classes), config.seed)
    spec = plain.backbone_spec
    convert_served(network, [spec], file, config.export.opset)
    counts = {"parameters": network.count_params(), "gflops": count_flops(with_maps(network, spec)) / 1e9}
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
