"""Exponential moving average of the weights, which is validated and kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

STATISTICS = ("moving_mean", "moving_variance")
"""Names of the weights that batch norms set themselves, each worker from its own part of a batch."""


class MovingAverage:
    """Averages of a model's weights that learn, and of the statistics that go with them; no constants."""

    def __init__(self, model: "keras.Model", momentum: float | None) -> None:
        """Starts at the model's weights; `momentum` None: average nothing."""
        import tensorflow as tf

        self._model = model
        self._momentum = momentum or 0.0
        learns = {id(variable) for variable in model.trainable_variables}
        self._indices = [
            i
            for i, weight in enumerate(model.weights)
            if momentum and (id(weight) in learns or weight.name in STATISTICS)
        ]
        self.variables = [tf.Variable(np.asarray(model.weights[i]), trainable=False) for i in self._indices]
        """In the order of the model's weights."""

    def momentum(self, num_steps: int) -> float:
        """Returns the momentum of a step, counted from 1.

        At a constant one, short runs would never leave the initial weights behind; the form is that of
        tf.train.ExponentialMovingAverage with num_updates.
        """
        return min(self._momentum, (1 + num_steps) / (10 + num_steps))

    def update(self, momentum: Any, part: "keras.Model") -> None:
        """Moves the averages of a part of the model; within a compiled step."""
        moving = {id(weight) for weight in part.weights}
        for i, average in zip(self._indices, self.variables, strict=True):
            weight = self._model.weights[i]
            if id(weight) in moving:
                average.assign_add((1 - momentum) * (weight - average))

    def statistics(self) -> list[Any]:
        """Returns the averages of batch norms' statistics."""
        pairs = zip(self._indices, self.variables, strict=True)
        return [average for i, average in pairs if self._model.weights[i].name in STATISTICS]

    def restart(self, weights: Sequence[NDArray[Any]]) -> None:
        """Starts anew, from weights in the order of `model.weights`."""
        for i, average in zip(self._indices, self.variables, strict=True):
            average.assign(weights[i])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the averages in the place of the weights, for the time of the context."""
        weights = [self._model.weights[i] for i in self._indices]
        held = [np.asarray(weight) for weight in weights]
        for weight, average in zip(weights, self.variables, strict=True):
            weight.assign(average)
        yield
        for weight, value in zip(weights, held, strict=True):
            weight.assign(value)
