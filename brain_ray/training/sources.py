"""What a training loads from: rows, class weights, cached features, the store of rows."""

from dataclasses import dataclass
from typing import Any

import ray

from brain_ray.cluster.capacity import describe_small_stores, on_this_node
from brain_ray.config import Config
from brain_ray.data.parts import Counts, Part, count_labels, find_parts
from brain_ray.loading.feed import Sources
from brain_ray.loading.sampler import shuffle_window
from brain_ray.loading.store import PartStore
from brain_ray.logs import log
from brain_ray.runs import Run
from brain_ray.storage import resolve
from brain_ray.training.class_weights import class_weights
from brain_ray.training.features import cache_features
from brain_ray.training.framework import Framework


@dataclass(frozen=True)
class Dataset:
    """A prepared data set, opened once for all trainings on it."""

    splits: dict[str, list[Part]]
    """The files of the splits `train` and `valid`."""
    counts: dict[str, Counts]
    """Rows of each class, by split."""
    store: Any
    """Handle of the `PartStore`, which reads each file once."""


def open_dataset(run: Run, config: Config) -> Dataset:
    """Finds and counts a run's rows, and starts their store on this node.

    Raises:
        RunError: a split has no rows.
    """
    splits = {split: find_parts(run, split) for split in ("train", "valid")}
    counts = {split: count_labels(run, split, len(config.data.classes)) for split in splits}
    window = shuffle_window(config.train, splits["train"])
    if warning := describe_small_stores(window.num_bytes):
        log.warning(warning)
    store = ray.remote(PartStore).options(num_cpus=0, max_restarts=-1, scheduling_strategy=on_this_node())
    return Dataset(splits, counts, store.remote(run, 2 * window.num_rows))


def find_sources(
    run: Run, config: Config, dataset: Dataset, framework: Framework, processes_here: int | None = None
) -> Sources:
    """Returns what the workers of a training load from; computes the features that its first phase wants.

    `config` has absolute paths. With `processes_here` the features are computed in this process, one of so
    many on its node that do the same, and not in actors.

    Raises:
        RunError: `train.class_weights` names no way to choose them, or as `cache_features`.
    """
    weights = class_weights(config.train.class_weights, dataset.counts["train"], config.data.classes)
    features = {}
    if config.train.phase(0) == "frozen_features":
        features = cache_features(run, config, dataset.splits, framework, processes_here)
    return Sources(dataset.splits, features, weights, dataset.store)


def with_absolute_paths(config: Config) -> Config:
    """Makes paths absolute that workers read, since Ray changes their current folder."""
    weights = config.model.weights
    if weights not in ("imagenet", "none"):
        weights = resolve(weights)
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": weights})})
