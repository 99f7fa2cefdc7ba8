"""Builds a bundle in a folder, completely or not at all; refuses one whose Keras and ONNX models differ."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.bundle.bundle import (
    CANARY_FOLDER,
    EXPLAIN_FILE,
    KERAS_FILE,
    ONNX_FILE,
    REFERENCE_FILE,
    UNLIKENESS_FILE,
    BundleError,
    sha256,
    write_info,
)
from brain_ray.bundle.canaries import canary_probabilities, draw_canaries
from brain_ray.bundle.differences import TOLERANCES
from brain_ray.bundle.isolated import run_module
from brain_ray.bundle.members import Member, write_members
from brain_ray.bundle.onnx_facts import describe, with_facts
from brain_ray.bundle.reference import ANSWER, Reference, grey_quantities
from brain_ray.bundle.schema import BundleInfo, Check, Facts, Input, ModelScores
from brain_ray.bundle.session import open_session
from brain_ray.bundle.thresholds import fit_thresholds
from brain_ray.bundle.usable import check_training, check_validation
from brain_ray.config import Config
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.errors import RunError
from brain_ray.versions import versions

CANDIDATES = 8
"""Number of validation images for each compared one, from which the least certain are chosen."""

PACKAGES = (
    "ray",
    "tensorflow",
    "keras",
    "onnxruntime",
    "tf2onnx",
    "numpy",
    "opencv-python-headless",
)


MakeModels = Callable[[Path, Path], str]
"""Function that makes a bundle's models and returns the JSON of a `Check`; its arguments are those of
`bundle.convert`."""


def run_conversion(job: Path, folder: Path) -> str:
    """Runs `bundle.convert` in a separate process; returns its output.

    Raises:
        BundleError: the process failed.
    """
    try:
        return run_module("brain_ray.bundle.convert", job, folder)
    except RunError as error:
        raise BundleError(f"no bundle was made: {error}") from error


def export_bundle(
    destination: Path,
    config: Config,
    weights: Sequence[NDArray[Any]],
    valid_inputs: NDArray[np.uint8],
    valid_labels: NDArray[np.integer],
    train_inputs: NDArray[np.uint8],
    facts: Facts | Mapping[str, Any],
    make_models: MakeModels = run_conversion,
    valid_groups: ArrayLike | None = None,
    valid_boxes: Mapping[str, ArrayLike] | None = None,
    out_of_fold: OutOfFold | None = None,
    valid_ids: NDArray[np.int64] | None = None,
    more_members: Sequence[Member] = (),
) -> BundleInfo:
    """Writes a bundle into a local folder, completely or not at all.

    TensorFlow runs in a separate process, on the CPU: the caller neither imports it nor takes a GPU.

    Args:
        destination: a folder that does not exist yet, or is empty. `<destination>.partial` is used meanwhile.
        config: the run's settings.
        weights: all weights, in the order of `model.weights` of `build_network`.
        valid_inputs: (n, height, width, 1) uint8, validation images from `transforms.to_input`. They are held
            in memory: of a large split, 5,000 images drawn at random are enough for the temperature.
        valid_labels: (n,) indices into the classes.
        train_inputs: (m, height, width, 1) uint8, training images without augmented copies, to which
            `OutOfDistributionDetector` is fitted. A sample of some thousand is enough.
        facts: `data`, `training` and, if any, `sweep` of bundle.json.
        make_models: function that writes and compares the models.
        valid_groups: (n,) groups of the validation images (of patients and copies), for the thresholds. None:
            each image is its own.
        valid_boxes: `box_quantities` of the validation images, for the bundle's reference.
        out_of_fold: answers of models of these settings to images that they did not see, for temperature and
            thresholds; the validation images are then those of the fold that this model did not see. None:
            its own answers to the validation images.
        valid_ids: (n,) `image_id`s of the validation images, by which their out-of-fold answers are found.
        more_members: further networks, with which this one's probabilities are averaged.

    Raises:
        BundleError: no usable images; the destination is in use; a model could not be made; an output of the
            two models differs by more than its tolerance in `config.export`.
    """
    known = Facts.model_validate(facts)
    check_validation(config, valid_inputs, valid_labels)
    check_training(config, train_inputs)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise BundleError(f"{destination} exists already: remove it, or export to another folder")
    partial = destination.with_name(f"{destination.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by an export that was killed
    try:
        partial.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as folder:
            members = [Member(weights, config.model), *more_members]
            difference = _check_models(make_models, Path(folder), partial, config, members, valid_inputs)
        models = {name: (partial / name).read_bytes() for name in (KERAS_FILE, ONNX_FILE, EXPLAIN_FILE)}
        session = open_session(models[ONNX_FILE], gpu=False)
        fitted = fit_thresholds(
            session,
            config,
            valid_inputs,
            valid_labels,
            train_inputs,
            valid_groups,
            _models_tried(known, chose_epoch=out_of_fold is None and config.train.keep_epoch == "best"),
            out_of_fold,
            valid_ids,
        )
        models[ONNX_FILE] = with_facts(models[ONNX_FILE], describe(config, fitted.temperature))
        (partial / ONNX_FILE).write_bytes(models[ONNX_FILE])
        session = open_session(models[ONNX_FILE], gpu=False)
        canaries = draw_canaries()
        reference = Reference.of(
            np.arange(len(valid_labels)) if valid_groups is None else valid_groups,
            {
                **grey_quantities(valid_inputs),
                **(valid_boxes or {}),
                "unlikeness": fitted.unlikeness,
                "confidence": fitted.confidence,
                ANSWER: fitted.answers,
            },
        )
        extras = {UNLIKENESS_FILE: fitted.detector.to_bytes(), REFERENCE_FILE: reference.to_bytes()}
        extras |= {f"{CANARY_FOLDER}/{name}": data for name, data in canaries.items()}
        (partial / CANARY_FOLDER).mkdir()
        for name, data in extras.items():
            (partial / name).write_bytes(data)
        info = BundleInfo(
            name=config.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            classes=config.data.classes,
            input=Input(
                height=config.model.height,
                width=config.model.width,
                fit=config.model.fit,
                crop_size=config.model.crop_size,
                background=config.model.background,
                max_pixels=config.data.max_pixels,
                window=config.data.window,
            ),
            crop=config.data.crop,
            volumes=config.data.volumes,
            temperature=fitted.temperature,
            decision=fitted.decision,
            patients=fitted.patients,
            canaries=canary_probabilities(session, config, canaries),
            scores=ModelScores(validation=fitted.scores),
            data=known.data,
            training=known.training,
            versions={name.replace("-", "_"): found for name, found in versions(PACKAGES).items()}
            | known.versions,
            config=config.model_dump(mode="json"),
            files={name: sha256(data) for name, data in (models | extras).items()},
            check=difference,
            sweep=known.sweep,
        )
        write_info(str(partial), info)
        partial.replace(destination)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {destination}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return info


def _models_tried(facts: Facts, *, chose_epoch: bool) -> int:
    """Returns from how many models the images chose this one: trials of a sweep and, if so, epochs."""
    trials: int = (facts.sweep or {}).get("trials", 1)
    return max(1, trials * (facts.training.epochs if chose_epoch else 1))


def _check_models(
    make_models: MakeModels,
    job: Path,
    folder: Path,
    config: Config,
    members: Sequence[Member],
    inputs: NDArray[np.uint8],
) -> Check:
    """Writes the models into a folder and compares them; returns the comparison if they agree."""
    (job / "config.json").write_text(config.model_dump_json())
    write_members(job, members)
    most = CANDIDATES * config.export.verify_images
    spread = np.linspace(0, len(inputs) - 1, min(most, len(inputs))).astype(np.int64)
    np.save(job / "images.npy", inputs[spread])
    output = make_models(job, folder)
    check = Check.model_validate_json(output.strip().splitlines()[-1])
    _refuse_differences(check, config)
    return check


def _refuse_differences(check: Check, config: Config) -> None:
    """Raises a BundleError if an output differs by more than its tolerance; it names the furthest beyond."""
    allowed = {name: getattr(config.export, setting) for name, (setting, _) in TOLERANCES.items()}
    name, worst = max(check.outputs.items(), key=lambda item: item[1].largest / allowed[item[0]])
    if worst.largest > allowed[name]:
        setting, unit = TOLERANCES[name]
        raise BundleError(
            f"the Keras and the ONNX model disagree: their {name} differ by {worst.largest:.1e}{unit} on "
            f"{worst.input} in a batch of {worst.batch_size}, export.{setting} is {allowed[name]:.1e}; no "
            "bundle was made. Try another export.opset, or the pinned versions of tensorflow and tf2onnx; or "
            f"allow so much by export.{setting}: the trained weights are kept, and the same command goes on"
        )
