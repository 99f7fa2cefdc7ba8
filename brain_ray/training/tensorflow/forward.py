"""What a learner computes of a batch in each phase of a training: probabilities, loss and sums."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.config.training import Phase
from brain_ray.loading.loader import Batch
from brain_ray.models.network import split_network
from brain_ray.training.tensorflow.losses import BatchLoss
from brain_ray.training.tensorflow.mixing import Mixture, mix_batch
from brain_ray.training.tensorflow.outline_head import OutlineHead, class_masks

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Forward:
    """A network, its two halves, the head that learns from outlines, and the loss."""

    phase: Phase | None = None
    """Set before each phase's steps are compiled."""

    def __init__(
        self,
        model: "keras.Model",
        config: Config,
        num_classes: int,
        class_weights: NDArray[np.float32] | None,
    ) -> None:
        """Takes a network of `build_network`, and the factor of each class, (classes,), in its training loss;
        None: 1."""
        self.model = model
        self.features, self.head = split_network(model)
        self.outlines = OutlineHead(model, config, num_classes) if config.train.learns_outlines else None
        equal = np.ones(num_classes, np.float32)
        self._config = config.train
        self._loss = BatchLoss(config.train, equal if class_weights is None else class_weights)

    @property
    def extra_variables(self) -> list[Any]:
        """Variables that are learned beside the network's."""
        return [] if self.outlines is None else list(self.outlines.variables)

    @property
    def learns_outlines(self) -> bool:
        """Whether the steps of this phase take masks."""
        return self.outlines is not None and self.phase == "finetune"

    def masks_of(self, batch: Batch) -> list[NDArray[Any]]:
        """Returns the masks of a batch and which images have one, if this phase learns from them."""
        if not self.learns_outlines:
            return []
        assert batch.masks is not None, "the loader gives masks where outlines are learned"
        assert batch.outlined is not None
        return [batch.masks, batch.outlined]

    def prepare(self, mixture: Mixture, inputs: Any, targets: Any, *of_outlines: Any) -> list[Any]:
        """Returns what a step of training calls this with: the masks by class, and all mixed, if it is to be.

        Args:
            mixture: of `draw_mixture`.
            inputs: (n, height, width, 1), or (n, channels) where features are cached.
            targets: (n, classes), one-hot.
            of_outlines: of `masks_of`.
        """
        if of_outlines:
            masks, known = of_outlines
            of_outlines = class_masks(masks, targets), known
        if self._config.mixup or (self._config.cutmix and self.phase != "frozen_features"):
            return mix_batch(self._config, mixture, inputs, targets, *of_outlines)
        return [inputs, targets, *of_outlines]

    def __call__(
        self, inputs: Any, targets: Any, weights: Any, *of_outlines: Any, training: bool
    ) -> tuple[Any, Any, Any]:
        """Returns the loss and the sums of a batch, as `BatchLoss`, and the probabilities, (n, classes).

        The sums are without what is learned from outlines.

        Args:
            inputs: (n, height, width, 1), or (n, channels) where features are cached.
            targets: (n, classes), one-hot or mixed.
            weights: (n,), 0 for a row that does not count.
            of_outlines: where they are learned, masks of each class, (n, height, width, classes), 0 to 1; and
                (n,), 1 for each that is known, else 0.
            training: whether this is a step of training.
        """
        probabilities, called, places = self._call(inputs, training=training, places=bool(of_outlines))
        loss, sums = self._loss(probabilities, targets, weights, called, training=training)
        if of_outlines:
            assert self.outlines is not None, "masks are given where outlines are learned"
            masks, known = of_outlines
            loss += self.outlines.loss(places, masks, weights * known)
        return loss, sums, probabilities

    def _call(self, inputs: Any, *, training: bool, places: bool) -> "tuple[tf.Tensor, keras.Model, Any]":
        """Returns probabilities, the model that was called and so knows its penalties, and with `places` the
        logits of the last map's places."""
        import tensorflow as tf

        if self.phase == "frozen_features":
            return self.head(inputs, training=training), self.head, None
        images = tf.cast(inputs, tf.float32)
        if self.phase == "frozen":  # the backbone as it is used later: without dropout inside
            features = self.features(images, training=False)
            return self.head(features, training=training), self.head, None
        if places:
            assert self.outlines is not None
            probabilities, logits = self.outlines.model(images, training=training)
            return probabilities, self.outlines.model, logits
        return self.model(images, training=training), self.model, None
