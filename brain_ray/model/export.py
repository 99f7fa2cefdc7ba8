"""Make a bundle of trained weights, and refuse to if its two models do not agree."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.model.bundle import (
    KERAS_FILE,
    ONNX_FILE,
    BundleError,
    BundleInfo,
    Check,
    Facts,
    Input,
    ModelScores,
    ValidationScores,
    sha256,
    write_info,
)
from brain_ray.model.calibration import calibrate, expected_calibration_error, fit_temperature, log_loss
from brain_ray.model.predictor import open_session, run

BATCH = 32
"""Validation images per call of the ONNX model."""

PACKAGES = (
    "brain-ray",
    "ray",
    "tensorflow",
    "keras",
    "onnxruntime",
    "tf2onnx",
    "numpy",
    "opencv-python-headless",
)

QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",  # a GPU may be busy with another run, and would change the numbers
}


def export_bundle(
    destination: Path,
    config: Config,
    weights: Sequence[NDArray[Any]],
    valid_inputs: NDArray[np.uint8],
    valid_labels: NDArray[np.integer],
    facts: Facts | Mapping[str, Any],
) -> BundleInfo:
    """Write a bundle into a local folder, which appears whole or not at all.

    TensorFlow runs in processes of its own, on the CPU: the caller neither imports it nor takes a GPU.

    Args:
        destination: a folder that does not exist yet, or is empty. `<destination>.partial` is used meanwhile.
        config: the run's settings.
        weights: all weights, in the order of `model.weights` of `build_network`.
        valid_inputs: (n, height, width, 1), the validation images as `images.to_input` makes them. They are
            held in memory: of a large split, 5,000 images drawn at random are enough for the temperature.
        valid_labels: (n,) indices into the classes.
        facts: the `data` and `training` of bundle.json.

    Raises:
        BundleError: no usable validation images; the destination is in use; a model could not be made; the
            two models' probabilities differ by more than `config.export.tolerance`.
    """
    known = Facts.model_validate(facts)
    _check_inputs(config, valid_inputs, valid_labels)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise BundleError(f"{destination} exists already: remove it, or export to another folder")
    partial = destination.with_name(f"{destination.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by an export that was killed
    try:
        partial.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as folder:
            difference = _make_models(Path(folder), partial, config, weights, valid_inputs)
        models = {name: (partial / name).read_bytes() for name in (KERAS_FILE, ONNX_FILE)}
        temperature, scores = _judge(models[ONNX_FILE], config, valid_inputs, valid_labels)
        info = BundleInfo(
            name=config.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            classes=config.data.classes,
            input=Input(
                height=config.model.height,
                width=config.model.width,
                fit=config.model.fit,
                crop_size=config.model.crop_size,
                max_pixels=config.data.max_pixels,
            ),
            crop=config.data.crop,
            temperature=temperature,
            scores=ModelScores(validation=scores),
            data=known.data,
            training=known.training,
            versions=_versions() | known.versions,
            config=config.model_dump(mode="json"),
            files={name: sha256(data) for name, data in models.items()},
            check=difference,
        )
        write_info(str(partial), info)
        partial.replace(destination)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {destination}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return info


def _check_inputs(config: Config, inputs: NDArray[Any], labels: NDArray[Any]) -> None:
    expected = (len(labels), config.model.height, config.model.width, 1)
    if len(labels) == 0 or inputs.shape != expected or inputs.dtype != np.uint8:
        raise BundleError(
            f"the validation images are {inputs.dtype} {inputs.shape} with {len(labels)} labels: expected "
            f"uint8 {expected} and at least one image, to fit the temperature and to compare the models on"
        )


def _make_models(
    job: Path, folder: Path, config: Config, weights: Sequence[NDArray[Any]], inputs: NDArray[np.uint8]
) -> Check:
    """Write both models into a folder and compare them on images from all over the validation split."""
    (job / "config.json").write_text(config.model_dump_json())
    arrays: dict[str, Any] = {str(i): array for i, array in enumerate(weights)}
    np.savez(job / "weights.npz", **arrays)
    _run_module("brain_ray.model.convert", job, folder)
    chosen = np.linspace(0, len(inputs) - 1, min(config.export.verify_images, len(inputs))).astype(np.int64)
    np.save(job / "images.npy", inputs[chosen])
    output = _run_module("brain_ray.model.check", folder, job / "images.npy")
    check = Check.model_validate_json(output.strip().splitlines()[-1])
    if check.largest_difference > config.export.tolerance:
        raise BundleError(
            f"the Keras and the ONNX model disagree: a probability differs by {check.largest_difference:.1e} "
            f"on {check.images} validation images, export.tolerance is {config.export.tolerance:.1e}; no "
            "bundle was made. Try another export.opset, or the pinned versions of tensorflow and tf2onnx"
        )
    return check


def _judge(
    model: bytes, config: Config, inputs: NDArray[np.uint8], labels: NDArray[np.integer]
) -> tuple[float, ValidationScores]:
    """Fit the temperature and score the ONNX model on the validation images."""
    session = open_session(model, gpu=False)
    batches = [run(session, inputs[i : i + BATCH]) for i in range(0, len(inputs), BATCH)]
    probabilities = np.concatenate(batches)
    temperature = fit_temperature(probabilities, labels)
    scores = ValidationScores(
        images=len(labels),
        accuracy=float((probabilities.argmax(axis=1) == labels).mean()),
        log_loss=log_loss(probabilities, labels),
        log_loss_calibrated=log_loss(calibrate(probabilities, temperature), labels),
        ece=expected_calibration_error(probabilities, labels, config.evaluate.calibration_bins),
    )
    return temperature, scores


def _run_module(module: str, *arguments: Path) -> str:
    """Run a module in a fresh process and return what it printed; TensorFlow's own noise stays there."""
    root = str(Path(__file__).parents[2])  # this very package, also where Ray has brought it by itself
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["it said nothing"]
        raise BundleError(
            f"no bundle was made: {module} ended with code {done.returncode}: {last[0].strip()}"
        )
    return done.stdout


def _versions() -> dict[str, str]:
    """Versions of what made the bundle, without importing any of it."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:  # brain_ray itself, where Ray ships it as a working directory
            continue
    return found
