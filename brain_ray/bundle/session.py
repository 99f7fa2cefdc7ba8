"""ONNX Runtime: models are loaded, on the CPU or on a GPU, and run."""

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from brain_ray.bundle.bundle import Bundle, BundleError

Floats = NDArray[np.float32]

OUTPUTS = ("probabilities", "feature_map", "statistics")
"""Names of model.onnx's outputs."""


CPU, GPU = "CPUExecutionProvider", "CUDAExecutionProvider"
"""Names of what ONNX Runtime computes with."""


def open_session(model: bytes, threads: int = 0, gpu: bool = True) -> onnxruntime.InferenceSession:
    """Loads an ONNX model; on a GPU if ONNX Runtime has one and `gpu` is set.

    Its threads sleep while they wait: they share their cores with other replicas, and spinning ones would
    slow down those that compute. A GPU computes in float32, not in the shorter TF32: the canary images have
    to come out as they did at export.

    Raises:
        BundleError: the bytes are no ONNX model, or refer to files with weights (external data), which ONNX
            Runtime would look for in the current folder.
    """
    _refuse_external_data(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # It plans the memory of a batch ahead, and keeps a plan and its block for each size of a batch.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # the format that was just checked
    options.log_severity_level = 3  # errors only
    providers: list[Any] = [CPU]
    if gpu and GPU in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls(directory="")  # of NVIDIA's wheels, which its own search path misses
        providers.insert(0, (GPU, {"use_tf32": "0"}))
    return onnxruntime.InferenceSession(model, options, providers=providers)


def open_file(
    bundle: Bundle, name: str, threads: Sequence[int], gpu: bool
) -> list[onnxruntime.InferenceSession]:
    """Loads a file of a bundle as `open_session` does, for each number of threads; an error names the file.

    The sessions share the file's bytes, which ONNX Runtime's Python class keeps.
    """
    try:
        model = bundle.read(name)
        return [open_session(model, number, gpu) for number in threads]
    except BundleError as error:
        raise BundleError(f"{bundle.folder.uri(name)}: {error}") from error


def check_provider(provider: str, gpus: float, setting: str) -> None:
    """Checks that a model that was given a GPU computes on it.

    Args:
        provider: what it computes with (`Predictor.provider`).
        gpus: GPUs that it was given.
        setting: name of the setting that gave them.

    Raises:
        BundleError: it computes on the CPU, and was given a GPU.
    """
    if gpus > 0 and provider != GPU:
        raise BundleError(
            f"{setting} is {gpus:g}, and ONNX Runtime computes with {provider} on {socket.gethostname()}: "
            "install onnxruntime-gpu in place of onnxruntime there, and NVIDIA's libraries for it, or set "
            f"{setting} to 0"
        )


def _refuse_external_data(model: bytes) -> None:
    try:
        parsed = onnx.ModelProto.FromString(model)
    except Exception as error:  # protobuf's DecodeError; protobuf is no dependency of ours
        raise BundleError("no ONNX model; export the bundle again") from error
    for message in _messages(parsed):
        if isinstance(message, onnx.TensorProto) and (
            message.external_data or message.data_location == onnx.TensorProto.EXTERNAL
        ):
            raise BundleError(
                "weights in files beside the model (ONNX external data), which an exported bundle never has; "
                "export the bundle again"
            )


def _messages(message: Any) -> Iterator[Any]:
    """Yields a protobuf message and all messages within it: weights may be in constants and branches, too."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from _messages(inner)


def run(
    session: onnxruntime.InferenceSession, inputs: NDArray[Any], outputs: Sequence[str] = ("probabilities",)
) -> list[Floats]:
    """Runs a model on (n, height, width, 1) images; returns the named outputs, each (n, ...) float32."""
    found = session.run(list(outputs), {"image": inputs.astype(np.float32)})
    return [np.asarray(output, np.float32) for output in found]
