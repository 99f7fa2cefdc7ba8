"""Training in this process, on the rows that Ray loads: what a run of workers is compared with."""

from typing import Any

import numpy as np
import ray

from brain_ray.config import Config
from brain_ray.data.dataset import find_parts
from brain_ray.loading.feed import Sources, make_feed
from brain_ray.loading.store import PartStore
from brain_ray.runs import Run
from brain_ray.training.features import cache_features
from brain_ray.training.loop import train
from brain_ray.training.state import TrainState

EXACT = {"batch_norm": "fixed", "dropout": 0.0}
"""A model that computes the same for any number of workers: batch norm does not see the batch."""


def store_of(run: Run, capacity: int = 100_000) -> Any:
    return ray.remote(PartStore).options(num_cpus=0).remote(run, capacity)


def sources_of(run: Run, config: Config) -> Sources:
    splits = {split: find_parts(run, split) for split in ("train", "valid")}
    features = cache_features(run, config, splits) if config.train.phase(0) == "frozen_features" else {}
    return Sources(splits, features, np.ones(4, np.float32), store_of(run))


def undisturbed(run: Run, config: Config) -> TrainState:
    """Train with one worker, this process, to the end."""
    import tensorflow as tf

    feed = make_feed(config, sources_of(run, config), 0, 1)
    return train(config, 4, feed, tf.distribute.get_strategy(), lambda *_: None)
