"""Learning rate of every step."""

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import TrainConfig
from brain_ray.errors import RunError

FLOOR = 0.01
"""Share of the rate that PolynomialDecay and ExponentialDecay end at; CosineDecay ends at 0."""


def planned_rates(config: TrainConfig, steps_per_epoch: int) -> NDArray[np.float64]:
    """Returns the rate of each step of a run, (total_epochs * steps_per_epoch,), before the dwell's factor,
    with the settings' `batch_factor`.

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
    rates = rate * config.batch_factor * _schedule(config.schedule, num_steps)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if warmup_steps > 0:
        rates = rates * np.minimum(1.0, np.arange(1, num_steps + 1) / warmup_steps)
    return rates


def _schedule(name: str, num_steps: int) -> NDArray[np.float64]:
    """Returns the factors of one of Keras' schedules, (num_steps,), from 1 on; a test compares the two."""
    if name == "constant" or not num_steps:
        return np.ones(num_steps)
    done = np.arange(num_steps) / num_steps
    match name:
        case "CosineDecay":
            return 0.5 * (1 + np.cos(np.pi * done))
        case "PolynomialDecay":
            return 1 - (1 - FLOOR) * done
        case "ExponentialDecay":
            return np.asarray(FLOOR**done)
    raise RunError(
        f"train.schedule is {name!r}: expected constant, CosineDecay, PolynomialDecay or ExponentialDecay"
    )
