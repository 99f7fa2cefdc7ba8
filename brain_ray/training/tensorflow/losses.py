"""Keras losses by name, and the loss of a batch with what is counted of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import TrainConfig
from brain_ray.errors import RunError
from brain_ray.models.network import penalties

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class BatchLoss:
    """Loss of a worker's part of a batch, summed over its rows, and the sums that metrics are made of.

    Raises:
        RunError: as `loss_function`.
    """

    def __init__(self, config: TrainConfig, class_weights: NDArray[np.float32]) -> None:
        """Takes the settings and the factor of each class, (classes,), in the training loss."""
        self._per_example = loss_function(config.loss)
        self._smoothing = config.label_smoothing
        self._class_weights = class_weights

    def __call__(
        self, probabilities: Any, targets: Any, weights: Any, called: "keras.Model", *, training: bool
    ) -> "tuple[tf.Tensor, tf.Tensor]":
        """Returns the sum of the loss over the rows; (4,) float64: it, cross-entropy, correct, rows.

        Both penalties are means over the rows, so they count once for each of them: divided by the global
        batch and added up over the workers, they are what one worker would have computed.

        Args:
            probabilities: (n, classes).
            targets: (n, classes), one-hot or mixed.
            weights: (n,), 0 for a row that does not count.
            called: the model that was just called, which knows its penalties.
            training: whether labels are smoothed and classes weighted.
        """
        import keras
        import tensorflow as tf

        smoothing = self._smoothing if training else 0.0
        smoothed = targets * (1 - smoothing) + smoothing / targets.shape[-1]
        rows = tf.reduce_sum(weights)
        on_weights, on_activities = penalties(called)
        of_class = tf.reduce_sum(targets * self._class_weights, axis=-1) if training else 1.0
        loss = tf.reduce_sum(weights * of_class * self._per_example(smoothed, probabilities))
        loss += rows * (on_weights + on_activities)
        cross_entropy = keras.losses.categorical_crossentropy(targets, probabilities)
        correct = tf.equal(tf.argmax(probabilities, axis=-1), tf.argmax(targets, axis=-1))
        counted = tf.reduce_sum(weights * tf.cast(correct, tf.float32))
        sums = [loss, tf.reduce_sum(weights * cross_entropy), counted, rows]
        return loss, tf.cast(tf.stack(sums), tf.float64)


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
