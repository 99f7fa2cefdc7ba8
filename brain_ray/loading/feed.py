"""Feed: the batches of one worker in each epoch, from images or from cached features of a frozen backbone."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config, TrainConfig
from brain_ray.data.parts import Rows
from brain_ray.loading.dispatcher import dispatched_blocks
from brain_ray.loading.feature_loader import FeatureLoader
from brain_ray.loading.loader import Batch, ImageLoader
from brain_ray.loading.prefetch import Prefetcher
from brain_ray.loading.sampler import num_steps

HELD_OUT = "held_out"
"""Name of the split of a fold's images, which the training leaves out."""


@dataclass(frozen=True)
class Feed:
    """Batches of one worker."""

    steps_per_epoch: int
    """Number of steps per epoch, the same for all workers."""
    train: Callable[[int, int], Iterable[Batch]]
    """Returns the batches of an epoch from a step on, both counted from 0: images, or cached features,
    depending on `TrainConfig.phase`."""
    valid: Callable[[int], Iterable[Batch]]
    """Returns the batches of the validation split for an epoch, counted from 0."""
    held_out: Callable[[int], Iterable[Batch]] | None = None
    """Returns the batches of the images that are neither trained on nor choose anything, after those of
    `valid`; None: there are none."""
    close: Callable[[], None] = lambda: None
    """Called when no more batches are needed."""


@dataclass(frozen=True)
class Sources:
    """Files and class weights that all workers load from."""

    images: dict[str, Rows]
    """Rows of `train`, `valid` and, in a training that leaves out a fold, `held_out`."""
    features: dict[str, Rows]
    """Their cached features; empty if no epoch trains on features."""
    class_weights: NDArray[np.float32]
    """(classes,), factor of a training row's loss."""
    store: Any
    """Handle of the `PartStore` actor."""
    dispatcher: Any = None
    """Handle of the `Dispatcher` actor; None: each worker loads for itself."""

    def steps_per_epoch(self, settings: TrainConfig) -> int:
        """Returns the number of training steps of an epoch."""
        return num_steps(self.images["train"].num_visited(settings.rows_per_group), settings.step_images)


PREFETCH_BYTES = 128_000_000
"""Largest number of bytes of images or features that are prefetched on each worker: a second or two of fast
steps."""

PREFETCH_STEPS = 32
"""Largest number of prefetched batches of a small data set, if an epoch has fewer; else an epoch's. More
would be loaded while the first step is compiled, and only slow that down."""


def make_feed(config: Config, sources: Sources, rank: int, num_workers: int) -> Feed:
    """Makes the feed of one worker.

    While the last batches of an epoch are used, those of the next split or epoch are prefetched.

    Args:
        config: the run's settings.
        sources: the files that all workers load from.
        rank: number of this worker, from 0.
        num_workers: number of workers that share each batch.
    """
    settings, holds_out = config.train, HELD_OUT in sources.images

    def open_stream(key: tuple[str, int, int]) -> Iterator[Batch]:
        split, epoch, first = key
        draws = epoch if split == "train" else None
        if config.train.phase(epoch) == "frozen_features":
            return FeatureLoader(config, sources.features[split], sources.store).batches(
                draws, rank, num_workers, first
            )
        loader = ImageLoader(config, sources.images[split], sources.store)
        if sources.dispatcher is None:
            return loader.batches(draws, rank, num_workers, first)
        blocks = dispatched_blocks(sources.dispatcher, rank, split, epoch, first)
        return loader.cut(blocks, draws, rank, num_workers, first)

    def after(key: tuple[str, int, int]) -> tuple[str, int, int] | None:
        split, epoch, _ = key
        if split == "train":
            return "valid", epoch, 0
        if split == "valid" and holds_out:
            return HELD_OUT, epoch, 0
        return ("train", epoch + 1, 0) if epoch + 1 < settings.total_epochs else None

    batch_bytes = settings.step_images * config.model.height * config.model.width // num_workers
    steps = sources.steps_per_epoch(settings)
    most = min(PREFETCH_BYTES // batch_bytes, max(PREFETCH_STEPS, steps))
    prefetcher = Prefetcher(open_stream, after, most=max(2, most))
    return Feed(
        steps_per_epoch=steps,
        train=lambda epoch, first: prefetcher.stream(("train", epoch, first)),
        valid=lambda epoch: prefetcher.stream(("valid", epoch, 0)),
        held_out=(lambda epoch: prefetcher.stream((HELD_OUT, epoch, 0))) if holds_out else None,
        close=prefetcher.close,
    )
