"""One worker's network and optimizer, and the compiled steps that train and validate them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.model.backbones import assign_weights
from brain_ray.model.network import Phase, build_network, penalties, set_trainable
from brain_ray.training.feed import Batch
from brain_ray.training.named import build_optimizer, loss_function
from brain_ray.training.reduction import Reduction

if TYPE_CHECKING:
    import tensorflow as tf

Arrays = list[NDArray[Any]]

STATISTICS = ("moving_mean", "moving_variance")
"""Names of the weights that batch norms set themselves, each worker from its own part of a batch."""


class Learner:
    """Network, optimizer and steps of one worker, which acts with its fellows as one.

    Every worker holds plain variables of its own, made outside the strategy's scope. The strategy only adds
    up what has to be the same everywhere: in each step the gradients, packed into one buffer; once an epoch
    the batch norms' statistics and the sums of the metrics. (Mirrored variables add up the statistics of
    each batch norm by themselves in every step. A moving average is linear: its mean over the workers at
    the end of the epoch is the same.) The optimizer sees the whole batch's gradient, as with one worker,
    and so does its clipping, which Keras would otherwise apply to each worker's part.
    """

    def __init__(
        self, config: Config, num_classes: int, strategy: "tf.distribute.Strategy", rank: int = 0
    ) -> None:
        import keras

        self.config = config
        self.rank = rank
        self.reduction = Reduction(strategy)
        self.num_classes = num_classes
        self.model: keras.Model = build_network(config.model, num_classes, config.seed)
        if self.reduction.num_replicas > 1:
            # The seed alone does not make them equal: Keras draws from Python's global generator, and so may
            # any other thread of a worker's process.
            assign_weights(self.model, self.reduction.of_first(self.weights(), rank))
        self._per_example = loss_function(config.train.loss)
        # Built over everything that will ever learn, so that a change of phase keeps the moments.
        set_trainable(self.model, "head" if config.model.trainable == "frozen" else "all")
        self.optimizer: keras.Optimizer = build_optimizer(config.train)
        self.optimizer.build(self.model.trainable_variables)
        self._fresh = [np.asarray(v).flat[0] for v in self.optimizer.variables]
        self._averaged = self._indices_of_averaged() if config.train.ema else []
        self._averages = self._build_averages()
        self._phase: Phase | None = None
        self._num_steps = 0
        self._train_step: Callable[..., tf.Tensor]
        self._valid_step: Callable[..., tf.Tensor]

    # --- an epoch

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, counted from 0: what learns in it, and what dropout draws.

        Dropout's seeds depend on seed, epoch and rank alone, so that a resumed run draws what it would have.
        """
        phase = phase_of(self.config, epoch)
        if phase != self._phase:
            set_trainable(self.model, phase)
            self._phase = phase
            self._train_step, self._valid_step = self._compile_steps()
        rng = np.random.default_rng([self.config.seed, epoch, self.rank])
        for variable in self.model.variables:
            if "seed_generator" in variable.path:
                variable.assign(rng.integers(0, 2**31, size=tuple(variable.shape)))

    def train(self, batch: Batch, rate: float) -> "tf.Tensor":
        """Take one step; returns this worker's sums: loss, cross-entropy, correct, rows. (4,) float64."""
        self._num_steps += 1
        # At a constant momentum, short runs would never leave the initial weights behind; the form is that
        # of tf.train.ExponentialMovingAverage with num_updates.
        momentum = min(self.config.train.ema or 0.0, (1 + self._num_steps) / (10 + self._num_steps))
        return self._train_step(
            batch.images,
            batch.labels,
            batch.weights,
            np.float32(batch.total),
            np.float32(rate),
            np.float32(momentum),
        )

    def finish_epoch(self) -> None:
        """Give every worker the same batch norm statistics: their mean over the workers."""
        own = [weight for weight in self.model.weights if weight.name in STATISTICS]
        own += [a for a, i in zip(self._averages, self._averaged, strict=True) if self._is_statistic(i)]
        if own and self.reduction.num_replicas > 1:
            means = self.reduction.mean([np.array(variable) for variable in own])
            for variable, mean in zip(own, means, strict=True):
                variable.assign(mean)

    def validate(self, batch: Batch) -> "tf.Tensor":
        """Score one batch; returns this worker's sums: loss, cross-entropy, correct, rows. (4,) float64."""
        return self._valid_step(batch.images, batch.labels, batch.weights)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Lend the network the moving average of its weights, if there is one."""
        weights = [self.model.weights[i] for i in self._averaged]
        held = [np.asarray(weight) for weight in weights]
        for weight, average in zip(weights, self._averages, strict=True):
            weight.assign(average)
        yield
        for weight, value in zip(weights, held, strict=True):
            weight.assign(value)

    # --- what is kept of it

    def weights(self) -> Arrays:
        """Copy the network's weights, in the order of `model.weights`."""
        return [np.array(weight) for weight in self.model.weights]

    def roll_back(self, weights: Sequence[NDArray[Any]], *, forget: bool) -> None:
        """Take these weights (and their moving average); `forget`: and the optimizer's initial state."""
        assign_weights(self.model, weights)
        for i, average in zip(self._averaged, self._averages, strict=True):
            average.assign(weights[i])
        if forget:
            for variable, value in zip(self.optimizer.variables, self._fresh, strict=True):
                variable.assign(np.full(tuple(variable.shape), value))

    def state(self) -> dict[str, Arrays]:
        """Copy everything that the next step depends on."""
        return {
            "weights": self.weights(),
            "optimizer": [np.array(variable) for variable in self.optimizer.variables],
            "averages": [np.array(average) for average in self._averages],
            "num_steps": [np.array(self._num_steps)],
        }

    def load(self, state: dict[str, Arrays]) -> None:
        """Go on from what `state` returned. To be called before the first step."""
        assign_weights(self.model, state["weights"])
        for variable, value in zip(self.optimizer.variables, state["optimizer"], strict=True):
            variable.assign(value)
        for average, value in zip(self._averages, state["averages"], strict=True):
            average.assign(value)
        self._num_steps = int(state["num_steps"][0])

    # --- compiled steps

    def _compile_steps(self) -> "tuple[Callable[..., tf.Tensor], Callable[..., tf.Tensor]]":
        import tensorflow as tf

        shape = (None, self.config.model.height, self.config.model.width, 1)
        batch = [tf.TensorSpec(shape, tf.uint8), tf.TensorSpec([None], tf.int64), tf.TensorSpec([None])]
        scalar = tf.TensorSpec([])
        # XLA is a trap on CPUs: many times slower. autograph would only slow down the tracing.
        options = {"jit_compile": False, "autograph": False}

        def train(*inputs: Any) -> Any:
            return self._train(*inputs)

        def validate(*inputs: Any) -> Any:
            return self._forward(*inputs, training=False)[1]

        return (
            tf.function(train, input_signature=[*batch, scalar, scalar, scalar], **options),
            tf.function(validate, input_signature=batch, **options),
        )

    def _train(self, images: Any, labels: Any, weights: Any, total: Any, rate: Any, momentum: Any) -> Any:
        import tensorflow as tf

        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss, sums = self._forward(images, labels, weights, training=True)
            # This worker's share of the mean over the global batch: the shares' gradients add up to its own.
            loss = loss / total
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply(self.reduction.sum_gradients(gradients), variables)
        for i, average in zip(self._averaged, self._averages, strict=True):
            average.assign_add((1 - momentum) * (self.model.weights[i] - average))
        return sums

    def _forward(self, images: Any, labels: Any, weights: Any, *, training: bool) -> tuple[Any, Any]:
        """Return the sum of the loss over a batch's rows, and (4,) float64: it, cross-entropy, correct, rows.

        Both penalties are means over the rows, so they count once for each of them: divided by the global
        batch and added up over the workers, they are what one worker would have computed.
        """
        import tensorflow as tf

        probabilities = self.model(tf.cast(images, tf.float32), training=training)
        targets = tf.one_hot(labels, self.num_classes)
        smoothing = self.config.train.label_smoothing if training else 0.0
        smoothed = targets * (1 - smoothing) + smoothing / self.num_classes
        rows = tf.reduce_sum(weights)
        on_weights, on_activities = penalties(self.model)
        loss = tf.reduce_sum(weights * self._per_example(smoothed, probabilities))
        loss += rows * (on_weights + on_activities)
        cross_entropy = loss_function("categorical_crossentropy")(targets, probabilities)
        correct = tf.cast(tf.equal(tf.argmax(probabilities, axis=-1), labels), tf.float32)
        sums = [loss, tf.reduce_sum(weights * cross_entropy), tf.reduce_sum(weights * correct), rows]
        return loss, tf.cast(tf.stack(sums), tf.float64)

    # --- the moving average

    def _is_statistic(self, index: int) -> bool:
        return self.model.weights[index].name in STATISTICS

    def _indices_of_averaged(self) -> list[int]:
        """Find what is averaged: what learns, and the statistics that go with it; no constants."""
        learns = {id(variable) for variable in self.model.trainable_variables}
        weights = self.model.weights
        return [i for i, weight in enumerate(weights) if id(weight) in learns or self._is_statistic(i)]

    def _build_averages(self) -> "list[tf.Variable]":
        import tensorflow as tf

        weights = self.model.weights
        return [tf.Variable(np.asarray(weights[i]), trainable=False) for i in self._averaged]


def phase_of(config: Config, epoch: int) -> Phase:
    """Tell what learns in an epoch, counted from 0."""
    match config.model.trainable:
        case "frozen":
            return "head"
        case "staged":
            return "head" if epoch < config.train.frozen_epochs else "all"
        case "all":
            return "all"
