"""What a training loads from: rows, class weights, cached features, the store of rows."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from brain_ray.cluster.capacity import describe_small_stores, on_this_node
from brain_ray.cluster.cpu_work import keep_trials_share
from brain_ray.config import PHANTOMS, Config
from brain_ray.data.dataset import read_groups
from brain_ray.data.folds import DEVELOPMENT, Folds, read_folds
from brain_ray.data.outline_masks import draw_masks
from brain_ray.data.parts import Counts, Part, Rows, count_labels, find_parts
from brain_ray.errors import RunError
from brain_ray.loading.feed import Sources
from brain_ray.loading.sampler import held_bytes
from brain_ray.loading.store import PartStore
from brain_ray.logs import log
from brain_ray.runs import Run
from brain_ray.storage import resolve
from brain_ray.training.class_weights import class_weights
from brain_ray.training.failures import unwrapped
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
    folds: Folds | None = None
    """Folds of the rows of both splits; None: trainings use the splits as they are."""
    train_group: NDArray[np.int64] | None = None
    """(rows of `train`,), the group of each; None: no epoch asks for it, or `folds` knows it."""

    def select(self, config: Config, splits: dict[str, list[Part]]) -> dict[str, Rows]:
        """Returns the rows that a training uses, by what it uses them for, of files of the splits' rows.

        Those of the splits `train` and `valid` or, if `train.fold` leaves out a fold, of `Folds.split`.

        Raises:
            RunError: there is no such fold.
        """
        if self.folds is None or config.train.fold is None:
            rows = {split: Rows(parts) for split, parts in splits.items()}
            return rows | {"train": replace(rows["train"], group=self.train_group)}
        masks = self.folds.used_by(config)
        together = [part for split in DEVELOPMENT for part in splits[split]]
        return {split: Rows(together, mask, self.folds.group) for split, mask in masks.items()}

    def count(self, config: Config) -> dict[str, Counts]:
        """Returns the rows of each class, (classes,), by what a training uses them for."""
        if self.folds is None or config.train.fold is None:
            return self.counts
        labels, classes = self.folds.label, len(config.data.classes)
        masks = self.folds.used_by(config)
        return {split: np.bincount(labels[mask], minlength=classes) for split, mask in masks.items()}


def open_dataset(run: Run, config: Config, *, by_group: bool = False) -> Dataset:
    """Finds and counts a run's rows, deals them to folds if asked for, and starts their store on this node.

    With `by_group`, a training may set `train.rows_per_group`.

    Raises:
        RunError: a split has no rows, or as `read_folds` or `draw_masks`.
    """
    splits = {split: find_parts(run, split) for split in ("train", "valid")}
    counts = {split: count_labels(run, split, len(config.data.classes)) for split in splits}
    most = held_bytes(config.train)
    if warning := describe_small_stores(min(most, sum(part.num_bytes for part in chain(*splits.values())))):
        log.warning(warning)
    store = ray.remote(PartStore).options(num_cpus=0, max_restarts=-1, scheduling_strategy=on_this_node())
    folds = None if config.folds is None else read_folds(run, config)
    group = read_groups(run, "train") if by_group and folds is None else None
    location = config.train.outlines
    if location is None:
        return Dataset(splits, counts, store.remote(run, most), folds, group)
    draw = partial(draw_masks, run, location if location == PHANTOMS else resolve(location))
    dataset = Dataset(splits, counts, store.remote(run, most, draw), folds, group)
    try:
        ray.get(dataset.store.masks.remote())
    except RunError as error:
        raise unwrapped(error) from None
    return dataset


def find_sources(
    run: Run,
    config: Config,
    dataset: Dataset,
    framework: Framework,
    processes_here: int | None = None,
    sweep: Run | None = None,
) -> Sources:
    """Returns what the workers of a training load from; computes the features that its first phase wants.

    `config` has absolute paths. With `processes_here` this process, one of so many on its node, trains alone:
    the features are computed in it and not in actors, and it loads with its share of the node's CPUs. With
    `sweep`, the run is a trial of it, and features are shared with its other trials.

    Raises:
        RunError: `train.class_weights` names no way to choose them, or as `cache_features` and
            `Dataset.select`.
    """
    if processes_here is not None:
        keep_trials_share(config.train, processes_here)
    counts = dataset.count(config)
    weights = class_weights(config.train.class_weights, counts["train"], config.data.classes)
    features: dict[str, Rows] = {}
    if config.train.phase(0) == "frozen_features":
        cached = cache_features(run, config, dataset.splits, framework, processes_here, sweep)
        features = dataset.select(config, cached)
    return Sources(dataset.select(config, dataset.splits), features, weights, dataset.store)


def with_absolute_paths(config: Config) -> Config:
    """Makes paths absolute that workers read, since Ray changes their current folder."""
    weights = config.model.weights
    if weights not in ("imagenet", "none"):
        weights = resolve(weights)
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": weights})})
