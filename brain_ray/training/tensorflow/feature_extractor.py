"""The frozen backbone in an actor: rows to features."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.errors import RunError


class Extractor:
    """Runs a network up to its pooled features; to be run as an actor."""

    def __init__(self, config: Config, processes: int) -> None:
        from brain_ray.models.network import build_network, split_network
        from brain_ray.training.tensorflow.devices import set_up

        self._error = ""
        try:
            set_up(config.train, processes)
            network = build_network(config.model, len(config.data.classes), config.seed)
        except RunError as error:  # said by `write_features`: Ray Data would try again, and wrap it
            self._error = str(error)
            return
        import tensorflow as tf  # after `set_up`, which loads the libraries of a GPU for it

        features = split_network(network)[0]
        shape = (None, config.model.height, config.model.width, 1)
        self._batch_size = config.train.batch_size

        def extract(images: Any) -> Any:
            return tf.cast(features(tf.cast(images, tf.float32), training=False), tf.float32)

        self._extract = tf.function(
            extract, input_signature=[tf.TensorSpec(shape, tf.uint8)], autograph=False, jit_compile=False
        )

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Replace `image` (n, height, width, 1) by `features` (n, channels)."""
        images = batch.pop("image")
        if self._error:
            return {
                **batch,
                "features": np.zeros((len(images), 1), np.float32),
                "error": batch["error"] + self._error,
            }
        pieces = [
            np.asarray(self._extract(images[start : start + self._batch_size]))
            for start in range(0, len(images), self._batch_size)
        ]
        return {**batch, "features": np.concatenate(pieces)}
