"""One worker's network, optimizer, and compiled training and validation steps."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.data.outline_masks import mask_size
from brain_ray.loading.loader import Batch
from brain_ray.models.fused_layers import fuse
from brain_ray.models.network import build_network, rate_factors, set_trainable
from brain_ray.models.weights import assign_weights
from brain_ray.training.framework import Arrays
from brain_ray.training.tensorflow.allreduce import BUCKET, GPU_BUCKET, Reduction
from brain_ray.training.tensorflow.draws import Draws
from brain_ray.training.tensorflow.ema import STATISTICS, MovingAverage
from brain_ray.training.tensorflow.forward import Forward
from brain_ray.training.tensorflow.mixing import Mixture, draw_mixture
from brain_ray.training.tensorflow.one_shape import fill
from brain_ray.training.tensorflow.optimizer import build_optimizer

if TYPE_CHECKING:
    import tensorflow as tf


class Learner:
    """Network, optimizer and steps of one worker, which acts with the other workers as one.

    Every worker holds plain variables of its own, made outside the strategy's scope. The strategy only adds
    up what has to be the same everywhere: in each step the gradients, packed into one buffer; once an epoch
    the batch norms' statistics and the sums of the metrics. (Mirrored variables add up the statistics of
    each batch norm by themselves in every step. A moving average is linear: its mean over the workers at
    the end of the epoch is the same.) The optimizer sees the whole batch's gradient, as with one worker,
    and so does its clipping, which Keras would otherwise apply to each worker's part.
    """

    def __init__(
        self,
        config: Config,
        num_classes: int,
        strategy: "tf.distribute.Strategy",
        rank: int = 0,
        class_weights: NDArray[np.float32] | None = None,
    ) -> None:
        import keras
        import tensorflow as tf

        self.config = config
        self.rank = rank
        self.reduction = Reduction(strategy, GPU_BUCKET if config.train.use_gpu else BUCKET)
        self.num_workers = self.reduction.num_replicas
        self.num_classes = num_classes
        # Compiled by XLA, a step is many times slower on CPUs.
        self._xla = bool(config.train.xla) and bool(tf.config.list_logical_devices("GPU"))
        self.model: keras.Model = build_network(config.model, num_classes, config.seed)
        fuse(self.model)
        if self.num_workers > 1:
            # The seed alone does not make them equal: Keras draws from Python's global generator, and so may
            # any other thread of a worker's process.
            assign_weights(self.model, self.reduction.of_first(self.weights(), rank))
        self.forward = Forward(self.model, config, num_classes, class_weights)
        # Built over everything that any epoch trains: a run has the same state in all of its epochs.
        self._set_trainable(config.train.total_epochs)
        rates = rate_factors(self.model, config.model.backbone_spec, config.train.layer_decay or 1.0)
        rates += [1.0] * len(self.forward.extra_variables)
        self.optimizer: keras.Optimizer = build_optimizer(config.train, self._learning, rates)
        self._fresh = [np.asarray(v).flat[0] for v in self.optimizer.variables]
        self.average = MovingAverage(self.model, config.train.ema)
        self._draws = Draws(self.model)
        self._drawn: Arrays = []  # of the epoch within which the state was kept that was loaded
        self._num_steps = 0
        self.train_step: Any  # a `tf.function`, of the phase that `start_epoch` began
        self._valid_step: Any

    @property
    def _learning(self) -> list[Any]:
        """Variables that the optimizer changes in this phase; before the first, in any."""
        extra = self.forward.phase is None or self.forward.learns_outlines
        return [*self.model.trainable_variables, *(self.forward.extra_variables if extra else ())]

    # --- an epoch

    def start_epoch(self, epoch: int, step: int = 0) -> None:
        """Prepares for an epoch, counted from 0, or for the rest of one after so many of its steps: which
        layers train, and what dropout draws.

        That depends on seed, epoch, rank and how often it was drawn in the epoch, so that a resumed run draws
        what it would have.
        """
        phase = self.config.train.phase(epoch)
        if phase != self.forward.phase:
            self._set_trainable(epoch)
            self.forward.phase = phase
            self.train_step, self._valid_step = self._compile_steps()
            # Traced here, and not by the first batch: loading, whose threads slow that down, begins later.
            self.train_step.get_concrete_function()
        self._draws.start([self.config.seed, epoch, self.rank], self._drawn if step else None)

    def train(self, batch: Batch, rate: float) -> "tf.Tensor":
        """Takes one step; returns this worker's sums: loss, cross-entropy, correct, rows. (4,) float64."""
        self._num_steps += 1
        seed = self.config.seed, self._num_steps, self.rank
        mixture = draw_mixture(self.config.train, len(batch.labels), *seed)
        if self._xla:
            batch, partner = fill(batch, mixture.partner)
            mixture = mixture._replace(partner=partner)
        sums: tf.Tensor = self.train_step(
            batch.inputs,
            batch.labels,
            batch.sample_weight,
            *mixture,
            np.float32(batch.total),
            *self.forward.masks_of(batch),
            np.float32(rate),
            np.float32(self.average.momentum(self._num_steps)),
        )
        return sums

    def finish_epoch(self) -> None:
        """Gives every worker the same batch norm statistics: their mean over the workers."""
        own = [weight for weight in self.model.weights if weight.name in STATISTICS]
        own += self.average.statistics()
        if own and self.num_workers > 1:
            means = self.reduction.mean([np.array(variable) for variable in own])
            for variable, mean in zip(own, means, strict=True):
                variable.assign(mean)

    def validate(self, batch: Batch) -> "tuple[tf.Tensor, tf.Tensor]":
        """Scores one batch; returns this worker's sums, as `train`, and its (n, classes) probabilities."""
        sums, probabilities = self._valid_step(batch.inputs, batch.labels, batch.sample_weight)
        return sums, probabilities

    def averaged(self) -> AbstractContextManager[None]:
        """Puts the moving average in the place of the weights, for the time of the context."""
        return self.average.in_place()

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """Returns the sum of an array over the workers."""
        return self.reduction.sum(values)

    # --- weights and state

    def weights(self) -> Arrays:
        """Copies the network's weights, in the order of `model.weights`."""
        return [np.array(weight) for weight in self.model.weights]

    def restore(self, weights: Sequence[NDArray[Any]], *, reset: bool) -> None:
        """Takes these weights, also as moving average; `reset`: and the optimizer as at the start."""
        assign_weights(self.model, weights)
        self.average.restart(weights)
        if reset:
            self._num_steps = 0
            for variable, value in zip(self.optimizer.variables, self._fresh, strict=True):
                variable.assign(np.full(tuple(variable.shape), value))

    def state(self) -> dict[str, Arrays]:
        """Copies everything that the next step depends on."""
        return {
            "weights": self.weights(),
            "optimizer": [np.array(variable) for variable in self.optimizer.variables],
            "averages": [np.array(average) for average in self.average.variables],
            "num_steps": [np.array(self._num_steps)],
            "draws": self._draws.counts(),
            "outlines": [np.array(variable) for variable in self.forward.extra_variables],
        }

    def load(self, state: dict[str, Arrays]) -> None:
        """Goes on from what `state` returned. To be called before the first step."""
        assign_weights(self.model, state["weights"])
        for variable, value in zip(self.optimizer.variables, state["optimizer"], strict=True):
            variable.assign(value)
        for average, value in zip(self.average.variables, state["averages"], strict=True):
            average.assign(value)
        for variable, value in zip(self.forward.extra_variables, state.get("outlines", []), strict=True):
            variable.assign(value)
        self._num_steps = int(state["num_steps"][0])
        self._drawn = state.get("draws", [])  # earlier versions kept states of finished epochs only

    # --- compiled steps

    def _compile_steps(self) -> tuple[Any, Any]:
        import tensorflow as tf

        inputs = tf.TensorSpec((None, self.config.model.height, self.config.model.width, 1), tf.uint8)
        if self.forward.phase == "frozen_features":
            inputs = tf.TensorSpec(self.forward.head.input_shape)
        batch = [inputs, tf.TensorSpec([None], tf.int64), tf.TensorSpec([None])]
        scalar = tf.TensorSpec([])
        mixture = [tf.TensorSpec([None], tf.int32), scalar, tf.TensorSpec([4])]
        of_masks = [tf.TensorSpec((None, *mask_size(self.config)), tf.uint8), batch[2]]
        masks = of_masks if self.forward.learns_outlines else []
        options = {"jit_compile": False, "autograph": False}  # autograph would only slow down the tracing
        # All but the sums over the workers: by XLA, each is one operation of the step instead of thousands.
        self._differentiate = tf.function(self._gradients, autograph=False, jit_compile=self._xla)
        self._apply = tf.function(self._update, autograph=False, jit_compile=self._xla)

        def validate(inputs: Any, labels: Any, weights: Any) -> Any:
            targets = tf.one_hot(labels, self.num_classes)
            return self.forward(inputs, targets, weights, training=False)[1:]

        return (
            tf.function(
                self._train, input_signature=[*batch, *mixture, scalar, *masks, scalar, scalar], **options
            ),
            tf.function(validate, input_signature=batch, **options),
        )

    def _train(self, *inputs: Any) -> Any:
        *batch, rate, momentum = inputs
        packed, sums = self._differentiate(*batch)
        self._apply(self.reduction.sum_packed(packed), rate, momentum)
        return sums

    def _update(self, packed: Any, rate: Any, momentum: Any) -> None:
        variables = self._learning
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply(self.reduction.unpack_gradients(packed, variables), variables)
        self.average.update(momentum, self.model if self.forward.phase == "finetune" else self.forward.head)

    def _gradients(
        self,
        inputs: Any,
        labels: Any,
        weights: Any,
        partner: Any,
        share: Any,
        box: Any,
        total: Any,
        *of_outlines: Any,
    ) -> Any:
        import tensorflow as tf

        variables = self._learning
        targets = tf.one_hot(labels, self.num_classes)
        mixture = Mixture(partner, share, box)
        inputs, targets, *masks = self.forward.prepare(mixture, inputs, targets, *of_outlines)
        with tf.GradientTape() as tape:
            loss, sums, _ = self.forward(inputs, targets, weights, *masks, training=True)
            # This worker's share of the mean over the global batch: the shares' gradients add up to its own.
            loss = self.optimizer.scale_loss(loss / total)
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        return self.reduction.pack_gradients(gradients), sums

    def _set_trainable(self, epoch: int) -> None:
        blocks = 0 if self.config.train.phase(epoch) != "finetune" else self.config.train.learning_blocks
        spec, fixed_norms = self.config.model.backbone_spec, self.config.model.batch_norm == "fixed"
        set_trainable(self.model, spec, blocks, fixed_norms=fixed_norms)
