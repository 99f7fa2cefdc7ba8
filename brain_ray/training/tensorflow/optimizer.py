"""What the settings call by its name in Keras: the loss, the optimizer, the schedule of the learning rate."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import TrainConfig
from brain_ray.runs import RunError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

FLOOR = 0.01
"""Share of the rate that PolynomialDecay and ExponentialDecay end at; CosineDecay ends at 0."""


def loss_function(name: str) -> "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]":
    """Return a Keras loss as a function of targets and probabilities, (n, classes), to one loss a row, (n,).

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
    """Make the optimizer that the settings name; in float16, one that scales the loss.

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


def planned_rates(config: TrainConfig, steps_per_epoch: int) -> NDArray[np.float64]:
    """Return the rate of each step of a run, (total_epochs * steps_per_epoch,), before the dwell's factor.

    First those of the frozen epochs, then those of the others. Each begin at their own rate and follow Keras'
    schedule over their own steps, times the warm-up (a straight line from 0 to 1, above 0 in the first step).

    Raises:
        RunError: the schedule's name is not one of those that the settings list.
    """
    frozen = _stage_rates(config, config.frozen_learning_rate, config.frozen_epochs, steps_per_epoch)
    return np.concatenate(
        [frozen, _stage_rates(config, config.learning_rate, config.epochs, steps_per_epoch)]
    )


def _stage_rates(config: TrainConfig, rate: float, epochs: int, steps_per_epoch: int) -> NDArray[np.float64]:
    num_steps = epochs * steps_per_epoch
    rates = rate * _schedule(config.schedule, num_steps)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if warmup_steps > 0:
        rates = rates * np.minimum(1.0, np.arange(1, num_steps + 1) / warmup_steps)
    return rates


def _schedule(name: str, num_steps: int) -> NDArray[np.float64]:
    """Return the factors of a schedule, (num_steps,), that starts at 1."""
    if name == "constant" or not num_steps:
        return np.ones(num_steps)
    from keras.optimizers import schedules

    match name:
        case "CosineDecay":
            schedule = schedules.CosineDecay(1.0, num_steps)
        case "PolynomialDecay":
            schedule = schedules.PolynomialDecay(1.0, num_steps, end_learning_rate=FLOOR)
        case "ExponentialDecay":
            schedule = schedules.ExponentialDecay(1.0, num_steps, decay_rate=FLOOR)
        case _:
            raise RunError(
                f"train.schedule is {name!r}: expected constant, CosineDecay, PolynomialDecay or "
                "ExponentialDecay"
            )
    return np.asarray(schedule(np.arange(num_steps, dtype=np.float32)), np.float64)
