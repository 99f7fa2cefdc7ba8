"""What a network learns from outlines beside the classes: at each place of its last map, the tumour's class
or that there is none. Only training has it: it helps the backbone to see tumours."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.outline_masks import mask_size

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from brain_ray.config import Config


class OutlineHead:
    """A layer on a network's last map, and its loss."""

    def __init__(self, model: "keras.Model", config: "Config", num_classes: int) -> None:
        """Adds the layer to a network of `build_network`, which stays as it is; its first weights depend on
        the seed alone."""
        import keras

        feature_map = model.get_layer("pool").input
        layer = keras.layers.Conv2D(
            num_classes + 1,
            1,
            kernel_initializer=keras.initializers.GlorotUniform(seed=config.seed),
            dtype="float32",
            name="outline",
        )
        self.model = keras.Model(model.input, [model.output, layer(feature_map)])
        """Images to probabilities, (n, classes), and logits of each place: (n, rows, columns, classes + 1),
        the last for no tumour."""
        self.variables = layer.trainable_variables
        self._weight = config.train.outline_weight
        rows, columns = feature_map.shape[1:3]
        height, width = mask_size(config)
        self._rows, self._columns = share_matrix(height, rows), share_matrix(width, columns).T

    def loss(self, logits: Any, masks: Any, weights: Any) -> Any:
        """Returns the sum over the rows of their places' mean cross-entropy, times the setting's factor.

        Of a place that the tumour covers in part, that share is of its class, the rest of no tumour.

        Args:
            logits: (n, rows, columns, classes + 1).
            masks: (n, height, width, classes), of `class_masks`, mixed as the images are.
            weights: (n,), 0 for an image that does not count or has no outline.
        """
        import tensorflow as tf

        covered = tf.einsum("rh,nhwk,wc->nrck", self._rows, masks, self._columns)
        of_none = 1 - tf.reduce_sum(covered, axis=-1, keepdims=True)
        wanted = tf.concat([covered, of_none], axis=-1)
        of_places = tf.nn.softmax_cross_entropy_with_logits(wanted, logits)
        return self._weight * tf.reduce_sum(weights * tf.reduce_mean(of_places, axis=(1, 2)))


def class_masks(masks: Any, targets: Any) -> "tf.Tensor":
    """Returns masks of each class, (n, height, width, classes), 0 to 1, of (n, height, width), 0 to 255, and
    one-hot targets, (n, classes); within a compiled step."""
    import tensorflow as tf

    shares = tf.cast(masks, tf.float32)[..., tf.newaxis] / 255
    return shares * targets[:, tf.newaxis, tf.newaxis, :]


def share_matrix(pixels: int, places: int) -> NDArray[np.float32]:
    """Returns which share of each of some equal places each pixel of a line makes up: (places, pixels), rows
    that add up to 1."""
    ends = np.linspace(0, pixels, places + 1)
    left = np.maximum(ends[:-1, np.newaxis], np.arange(pixels))
    right = np.minimum(ends[1:, np.newaxis], np.arange(pixels) + 1)
    return np.asarray(np.maximum(right - left, 0) * places / pixels, np.float32)
