"""TensorFlow as a framework of training. It imports TensorFlow only when it is called."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config, TrainConfig
from brain_ray.training.tensorflow import devices
from brain_ray.training.tensorflow.backend import TensorflowWorkers
from brain_ray.training.tensorflow.feature_extractor import make_extractor
from brain_ray.training.tensorflow.learner import Learner

if TYPE_CHECKING:
    from brain_ray.training.framework import Extract


class TensorFlow:
    """Trains by TensorFlow and Keras; several workers add up through MultiWorkerMirroredStrategy."""

    def set_up(self, settings: TrainConfig, processes: int) -> str:
        """See `devices.set_up`."""
        return devices.set_up(settings, processes)

    def device(self) -> str:
        """See `devices.device_name`."""
        return devices.device_name()

    def train_backend(self) -> TensorflowWorkers:
        """Returns what tells the workers one another's addresses."""
        return TensorflowWorkers()

    def make_learner(
        self,
        config: Config,
        num_classes: int,
        rank: int,
        num_workers: int,
        class_weights: NDArray[np.float32],
    ) -> Learner:
        """Builds the network and its optimizer; see `Learner`."""
        strategy = devices.make_strategy(num_workers, use_gpu=config.train.use_gpu)
        return Learner(config, num_classes, strategy, rank, class_weights)

    def make_extractor(self, config: Config, processes: int) -> "Extract":
        """See `feature_extractor.make_extractor`."""
        return make_extractor(config, processes)

    def clear(self) -> None:
        """See `devices.clear`."""
        devices.clear()
