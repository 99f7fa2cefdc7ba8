"""Whether the images that an export is given can be used."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.bundle.bundle import BundleError
from brain_ray.config import Config


def check_validation(config: Config, inputs: NDArray[Any], labels: NDArray[Any]) -> None:
    """Checks the validation images and their labels.

    Raises:
        BundleError: there is none, or they are of another type or shape than the model's input.
    """
    expected = (len(labels), config.model.height, config.model.width, 1)
    if len(labels) == 0 or inputs.shape != expected or inputs.dtype != np.uint8:
        raise BundleError(
            f"the validation images are {inputs.dtype} {inputs.shape} with {len(labels)} labels: expected "
            f"uint8 {expected} and at least one image, to fit the temperature and to compare the models on"
        )


def check_training(config: Config, inputs: NDArray[Any]) -> None:
    """Checks the training images.

    Raises:
        BundleError: there are fewer than two, or they are of another type or shape than the model's input.
    """
    expected = (len(inputs), config.model.height, config.model.width, 1)
    if len(inputs) < 2 or inputs.shape != expected or inputs.dtype != np.uint8:
        raise BundleError(
            f"the training images are {inputs.dtype} {inputs.shape}: expected uint8 {expected} and at least "
            "two images, to tell what is unlike them"
        )
