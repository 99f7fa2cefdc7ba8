"""The seam between training and the framework that computes: what a learner and its framework offer."""

import pkgutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config, ModelConfig, TrainConfig
from brain_ray.loading.loader import Batch

if TYPE_CHECKING:
    from ray.train.backend import BackendConfig

Arrays = list[NDArray[Any]]

Extract = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Turns images (n, height, width, 1) into the frozen backbone's pooled features (n, channels)."""


class Learner(Protocol):
    """Network, optimizer and steps of one worker, which acts with the other workers as one."""

    rank: int
    """Of this worker, from 0."""
    num_workers: int
    num_classes: int

    def start_epoch(self, epoch: int, step: int = 0) -> None:
        """Prepares for an epoch, counted from 0: which layers train, and what dropout draws; with `step` for
        the rest of one, after so many of its steps, of which `load` has brought the state."""

    def train(self, batch: Batch, rate: float) -> Any:
        """Takes one step; returns this worker's sums, (4,) float64: loss, cross-entropy, correct, rows."""

    def finish_epoch(self) -> None:
        """Makes equal on all workers what each has gathered from its own rows; also within an epoch, before
        its state is kept."""

    def validate(self, batch: Batch) -> tuple[Any, Any]:
        """Scores a batch; returns this worker's sums, as `train`, and its (n, classes) probabilities."""

    def averaged(self) -> AbstractContextManager[None]:
        """Puts the moving average in the place of the weights, for the time of the context."""

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """Returns the sum of an array over the workers; all call it alike."""

    def weights(self) -> Arrays:
        """Copies the network's weights."""

    def restore(self, weights: Sequence[NDArray[Any]], *, reset: bool) -> None:
        """Takes these weights, also as moving average; `reset`: and the optimizer as at the start."""

    def state(self) -> dict[str, Arrays]:
        """Copies everything that the next step depends on, in named groups of arrays."""

    def load(self, state: dict[str, Arrays]) -> None:
        """Goes on from what `state` returned; called before the first step."""


class Framework(Protocol):
    """What makes learners. Ray sends it to the workers: it is small, and imports its library when called."""

    def set_up(self, settings: TrainConfig, processes: int) -> str:
        """Prepares this process, one of so many on its node; returns the precision.

        Raises:
            RunError: `use_gpu` is set, and the library sees no GPU.
        """

    def device(self) -> str:
        """Returns the name of the GPU or processor that this process computes on; `set_up` comes first."""

    def train_backend(self) -> "BackendConfig":
        """Returns what makes Ray Train's workers know one another."""

    def make_learner(
        self,
        config: Config,
        num_classes: int,
        rank: int,
        num_workers: int,
        class_weights: NDArray[np.float32],
    ) -> Learner:
        """Makes a worker's learner; `set_up` comes first. `class_weights`: (classes,), factors of the loss.

        Raises:
            RunError: loss, optimizer or weights of the settings cannot be had.
        """

    def make_extractor(self, config: Config, processes: int) -> Extract:
        """Sets this process up, and returns what computes features with the frozen backbone.

        Raises:
            RunError: the network cannot be built, or as `set_up`.
        """

    def clear(self) -> None:
        """Drops what the library keeps of the networks that this process has built."""


def framework_of(model: ModelConfig) -> Framework:
    """Makes the framework that a backbone's row in `BACKBONES` names."""
    framework: Framework = pkgutil.resolve_name(model.backbone_spec.framework)()
    return framework
