"""Keras losses and optimizers by name."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_ray.config import TrainConfig
from brain_ray.errors import RunError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def loss_function(name: str) -> "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]":
    """Returns a Keras loss as a function of targets and probabilities, (n, classes), to one loss a row, (n,).

    Raises:
        RunError: Keras has no loss of that name, or it does not give each row a loss of its own.
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
    check_rows(name, found)
    return found


def check_rows(name: str, loss: "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]") -> None:
    """Tries a loss on three rows of four classes: they must have a loss each, that of the row alone.

    Class weights, and the shares of several workers, multiply and add up the rows' losses.

    Raises:
        RunError: the loss gives anything else, or fails.
    """
    targets = np.eye(4, dtype=np.float32)[[0, 1, 1]]
    probabilities = np.array([[0.7, 0.1, 0.1, 0.1], [0.2, 0.4, 0.3, 0.1], [0.1, 0.2, 0.3, 0.4]], np.float32)
    try:
        together = np.asarray(loss(targets, probabilities))
        shape = together.shape
        gave = f"an array of shape {shape}" if shape else "one number"
        if shape == (3,):
            first = np.asarray(loss(targets[:1], probabilities[:1]))
            if first.shape == (1,) and np.allclose(first, together[:1], rtol=1e-4):
                return
            gave = "losses that depend on the other rows"
    except Exception as error:  # what Keras raises depends on the loss
        first_line = (str(error).strip() or "no message").splitlines()[0]
        gave = f"{type(error).__name__}: {first_line[:200]}"
    raise RunError(
        f"train.loss is {name!r}, which gave {gave} for 3 rows: expected a loss for each row, such as "
        "categorical_crossentropy or categorical_focal_crossentropy; losses of whole batches (dice, tversky) "
        "would ignore class weights and depend on how rows fall to workers"
    )


def build_optimizer(config: TrainConfig, variables: "Sequence[keras.Variable]" = ()) -> "keras.Optimizer":
    """Makes the optimizer that the settings name, for some variables; in float16, one that scales the loss.

    Weight decay leaves out what `decayed_weights` does: biases, gammas and betas have one dimension (timm's
    `param_groups_weight_decay` tells them by it, too).

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
    if config.decayed_weights == "kernels":
        optimizer.exclude_from_weight_decay(var_list=[each for each in variables if len(each.shape) < 2])
    if keras.config.dtype_policy().name == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)  # small gradients would become 0
    if variables:
        optimizer.build(variables)
    return optimizer
