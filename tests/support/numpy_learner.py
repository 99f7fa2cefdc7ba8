"""A framework of training without TensorFlow: softmax on blocks of an image, to test what surrounds it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.train.backend import BackendConfig

from brain_ray.config import Config, TrainConfig
from brain_ray.loading.loader import Batch
from brain_ray.training.framework import Arrays, Extract

BeforeStep = Callable[[Config, int, int], None]
"""Called before each training step with the settings, the finished epochs and this one.s finished steps."""

SIDE = 4
"""An image is seen as so many blocks in height and width."""


def blocks_of(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Average the blocks of images (n, height, width, 1): (n, 16), about 0."""
    n, height, width, _ = images.shape
    blocks = images.reshape(n, SIDE, height // SIDE, SIDE, width // SIDE).mean(axis=(2, 4))
    return blocks.reshape(n, -1).astype(np.float32) / 128 - 1


class Adder:
    """Actor that adds up what several workers give, by rank and so always in the same order."""

    def __init__(self, num_workers: int) -> None:
        self._given: list[dict[int, Any]] = []
        self._complete: list[asyncio.Event] = []
        self._num_workers = num_workers

    async def add(self, number: int, rank: int, values: Any) -> Any:
        """Return the sum of all workers' values of the same number, when all have given theirs."""
        while len(self._given) <= number:
            self._given.append({})
            self._complete.append(asyncio.Event())
        self._given[number][rank] = values
        if len(self._given[number]) == self._num_workers:
            self._complete[number].set()
        await self._complete[number].wait()
        return np.sum([self._given[number][rank] for rank in range(self._num_workers)], axis=0)


class NumpyLearner:
    """Softmax regression by gradient descent with momentum; adds up over workers through an actor."""

    def __init__(
        self,
        config: Config,
        num_classes: int,
        rank: int = 0,
        num_workers: int = 1,
        class_weights: NDArray[np.float32] | None = None,
        before_step: BeforeStep = lambda *_: None,
    ) -> None:
        self.rank, self.num_workers, self.num_classes = rank, num_workers, num_classes
        self._config = config
        self._before_step = before_step
        self._factors = np.ones(num_classes) if class_weights is None else class_weights
        self._weights = np.zeros((SIDE**2 + 1, num_classes), np.float32)
        self._velocity = np.zeros_like(self._weights)
        self._features = False
        self._sums = 0
        if num_workers > 1:  # of another group, after a loss, another
            name = f"adder {ray.util.get_current_placement_group().id.hex()}"
            options = {"num_cpus": 0, "name": name, "get_if_exists": True, "max_concurrency": num_workers}
            self._adder = ray.remote(Adder).options(**options).remote(num_workers)

    def start_epoch(self, epoch: int, step: int = 0) -> None:
        self._features = self._config.train.phase(epoch) == "frozen_features"
        self._epoch, self._step = epoch, step

    def train(self, batch: Batch, rate: float) -> NDArray[np.float64]:
        self._before_step(self._config, self._epoch, self._step)
        self._step += 1
        inputs, sums, probabilities = self._forward(batch, self._factors)
        errors = (probabilities - np.eye(self.num_classes)[batch.labels]) * batch.sample_weight[:, None]
        errors *= self._factors[batch.labels][:, None]
        gradient = self.sum(inputs.T @ errors / batch.total)
        self._velocity = (0.9 * self._velocity - 10 * rate * gradient).astype(np.float32)
        self._weights = self._weights + self._velocity
        return sums

    def finish_epoch(self) -> None:
        pass

    def validate(self, batch: Batch) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        _, sums, probabilities = self._forward(batch, np.ones(self.num_classes))
        return sums, probabilities.astype(np.float32)

    def _forward(self, batch: Batch, factors: Any) -> tuple[Any, NDArray[np.float64], Any]:
        features = batch.inputs if self._features else blocks_of(batch.inputs)
        inputs = np.hstack([features, np.ones((len(features), 1))])
        with np.errstate(over="ignore", invalid="ignore"):
            logits = inputs @ self._weights.astype(np.float64)
            exps = np.exp(logits - logits.max(axis=1, initial=-np.inf, keepdims=True))
            probabilities = exps / exps.sum(axis=1, keepdims=True)
            entropy = -np.log(np.maximum(probabilities[np.arange(len(features)), batch.labels], 1e-7))
        correct = probabilities.argmax(axis=1) == batch.labels
        parts = (factors[batch.labels] * entropy, entropy, correct, np.ones(len(features)))
        return inputs, np.array([(batch.sample_weight * part).sum() for part in parts]), probabilities

    @contextmanager
    def averaged(self) -> Iterator[None]:
        yield

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.num_workers == 1:
            return values
        self._sums += 1
        total: NDArray[Any] = ray.get(self._adder.add.remote(self._sums - 1, self.rank, values))
        return total

    def weights(self) -> Arrays:
        return [self._weights]

    def restore(self, weights: Sequence[NDArray[Any]], *, reset: bool) -> None:
        (self._weights,) = weights
        if reset:
            self._velocity = np.zeros_like(self._weights)

    def state(self) -> dict[str, Arrays]:
        return {"weights": [self._weights], "optimizer": [self._velocity]}

    def load(self, state: dict[str, Arrays]) -> None:
        (self._weights,), (self._velocity,) = state["weights"], state["optimizer"]


@dataclass(frozen=True)
class Numpy:
    """Makes such learners."""

    before_step: BeforeStep = lambda *_: None
    """What a test has happen in each worker."""

    def set_up(self, settings: TrainConfig, processes: int) -> str:
        return "float32"

    def device(self) -> str:
        return "NumPy's"

    def train_backend(self) -> BackendConfig:
        return BackendConfig()

    def make_learner(
        self,
        config: Config,
        num_classes: int,
        rank: int,
        num_workers: int,
        class_weights: NDArray[np.float32],
    ) -> NumpyLearner:
        return NumpyLearner(config, num_classes, rank, num_workers, class_weights, self.before_step)

    def make_extractor(self, config: Config, processes: int) -> Extract:
        return blocks_of

    def clear(self) -> None:
        pass
