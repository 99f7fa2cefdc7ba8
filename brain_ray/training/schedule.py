"""Learning rate of every step."""

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import TrainConfig
from brain_ray.errors import RunError
from brain_ray.training.tensorflow.optimizer import FLOOR


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
