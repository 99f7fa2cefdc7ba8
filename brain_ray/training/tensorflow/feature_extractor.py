"""Features of images by the frozen backbone, in TensorFlow."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.training.tensorflow.devices import set_up

if TYPE_CHECKING:
    from brain_ray.training.framework import Extract


def make_extractor(config: Config, processes: int) -> "Extract":
    """Returns the function from images (n, height, width, 1) uint8 to pooled features (n, channels) float32.

    It computes a batch of `train.batch_size` at a time. `processes` on this node do the same.

    Raises:
        RunError: the network cannot be built, or `use_gpu` is set and TensorFlow sees no GPU.
    """
    set_up(config.train, processes)
    import tensorflow as tf  # after `set_up`, which loads the libraries of a GPU for it

    from brain_ray.models.network import build_network, split_network

    network = build_network(config.model, len(config.data.classes), config.seed)
    features = split_network(network)[0]
    batch_size = config.train.batch_size

    def compute(images: Any) -> Any:
        return tf.cast(features(tf.cast(images, tf.float32), training=False), tf.float32)

    spec = tf.TensorSpec((None, config.model.height, config.model.width, 1), tf.uint8)
    compiled = tf.function(compute, input_signature=[spec], autograph=False, jit_compile=False)

    def extract(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        starts = range(0, len(images), batch_size)
        return np.concatenate([np.asarray(compiled(images[i : i + batch_size])) for i in starts])

    return extract
