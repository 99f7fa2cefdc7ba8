"""Training in this process, on the rows that Ray loads: what a run of workers is compared with."""

from contextlib import closing
from typing import Any

import numpy as np
import ray

from brain_ray.config import Config
from brain_ray.loading.feed import Feed, Sources, make_feed
from brain_ray.loading.store import PartStore
from brain_ray.runs import Run
from brain_ray.training.framework import Framework, framework_of
from brain_ray.training.loop import epochs
from brain_ray.training.sources import find_sources, open_dataset
from brain_ray.training.state import TrainState

EXACT = {"batch_norm": "fixed", "dropout": 0.0}
"""A model that computes the same for any number of workers: batch norm does not see the batch."""


def store_of(run: Run, capacity: int = 100_000_000) -> Any:
    return ray.remote(PartStore).options(num_cpus=0).remote(run, capacity)


def sources_of(run: Run, config: Config, framework: Framework | None = None) -> Sources:
    return find_sources(run, config, open_dataset(run, config), framework or framework_of(config.model))


def train(config: Config, feed: Feed, framework: Framework | None = None) -> TrainState:
    """Train on a feed with one worker, this process, to the end."""
    framework = framework or framework_of(config.model)
    classes = len(config.data.classes)
    learner = framework.make_learner(config, classes, 0, 1, np.ones(classes, np.float32))
    *_, last = epochs(config, learner, feed)
    return last.state


def undisturbed(run: Run, config: Config, framework: Framework | None = None) -> TrainState:
    """Train on a run's rows with one worker, this process, to the end."""
    with closing(make_feed(config, sources_of(run, config, framework), 0, 1)) as feed:
        return train(config, feed, framework)
