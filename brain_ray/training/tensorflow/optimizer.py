"""Keras losses and optimizers by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from brain_ray.config import TrainConfig
from brain_ray.errors import RunError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def loss_function(name: str) -> "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]":
    """Returns a Keras loss as a function of targets and probabilities, (n, classes), to one loss a row, (n,).

    Raises:
        RunError: Keras has no loss of that name.
    """
    import keras

    try:
        loss = keras.losses.get(name)
    except ValueError as error:
        raise RunError(
            f"train.loss is {name!r}: expected a Keras loss such as categorical_crossentropy"
        ) from error
    # Called as a whole, a Loss returns the mean over the rows.
    found: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = loss.call if isinstance(loss, keras.Loss) else loss
    return found


def build_optimizer(config: TrainConfig) -> "keras.Optimizer":
    """Makes the optimizer that the settings name; in float16, one that scales the loss.

    Raises:
        RunError: Keras has no optimizer of that name.
    """
    import keras

    settings: dict[str, Any] = {"learning_rate": config.learning_rate, "global_clipnorm": config.clip_norm}
    # AdamW decays by 0.004 if nothing is said, and does not take None.
    if config.weight_decay > 0 or config.optimizer.lower() == "adamw":
        settings["weight_decay"] = config.weight_decay
    try:
        optimizer = keras.optimizers.get({"class_name": config.optimizer, "config": settings})
    except ValueError as error:
        raise RunError(
            f"train.optimizer is {config.optimizer!r}: expected a Keras optimizer such as Adamax"
        ) from error
    if keras.config.dtype_policy().name == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)  # small gradients would become 0
    return optimizer
