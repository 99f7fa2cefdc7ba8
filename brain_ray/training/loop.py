"""The training loop: epochs, decisions and what a resumed run needs; no Ray, one or several workers alike."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_ray.config import Config
from brain_ray.training.dwell import DwellState, decide
from brain_ray.training.feed import Batch
from brain_ray.training.history import EpochRecord
from brain_ray.training.learner import Arrays, Learner
from brain_ray.training.named import planned_rates

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Feed:
    """Where one worker's batches come from."""

    rank: int
    """Of this worker, from 0."""
    steps_per_epoch: int
    """The same for all workers."""
    train: Callable[[int], Iterable[Batch]]
    """The batches of an epoch, counted from 0."""
    valid: Callable[[], Iterable[Batch]]
    """The batches of the validation split."""


@dataclass(frozen=True)
class TrainState:
    """A run after an epoch: all that it needs to go on as if it had never stopped."""

    learner: dict[str, Arrays]
    """Weights, optimizer, moving average."""
    best: Arrays
    """Weights of the best epoch, in the order of `model.weights`; before the first: those at the start."""
    dwell: DwellState
    history: tuple[EpochRecord, ...]

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.dwell.epochs


OnEpoch = Callable[[EpochRecord, str, TrainState], None]
"""Called by every worker after each epoch with its record, its line for people and the state."""


def train(
    config: Config,
    num_classes: int,
    feed: Feed,
    strategy: "tf.distribute.Strategy",
    on_epoch: OnEpoch,
    state: TrainState | None = None,
) -> TrainState:
    """Train up to `config.train.epochs` epochs, from the start or from a state; returns the last state.

    Every worker calls it alike. All decisions come from sums over all workers, so all take the same ones.
    `strategy` is the default one for one worker, MultiWorkerMirroredStrategy (one replica each) for several.

    Raises:
        RunError: loss, optimizer, schedule or weights of the settings cannot be had.
    """
    settings = config.train
    if state is not None:  # its weights are loaded over whatever the network starts with
        config = config.model_copy(update={"model": config.model.model_copy(update={"weights": "none"})})
    learner = Learner(config, num_classes, strategy, feed.rank)
    if state is not None:
        learner.load(state.learner)
    best = learner.weights() if state is None else state.best
    dwell = DwellState() if state is None else state.dwell
    history = () if state is None else state.history
    rates = planned_rates(settings, feed.steps_per_epoch, staged=config.model.trainable == "staged")

    while dwell.epochs < settings.epochs and not dwell.halted:
        start = time.perf_counter()
        epoch = dwell.epochs
        planned = rates[epoch * feed.steps_per_epoch : (epoch + 1) * feed.steps_per_epoch]
        learner.start_epoch(epoch)
        trained = _train_epoch(learner, feed.train(epoch), planned * dwell.rate_scale)
        train_seconds = time.perf_counter() - start
        learner.finish_epoch()
        with learner.averaged():
            validated = _validate(learner, feed.valid())
            kept = learner.weights()
        monitored = validated[settings.monitor.removeprefix("val_")]
        scale = dwell.rate_scale
        dwell, decision = decide(
            dwell, monitored, trained["loss"], dwell=settings.dwell, factor=settings.dwell_factor
        )
        if decision.best:
            best = kept
        if decision.roll_back:
            learner.roll_back(best, forget=decision.diverged)
        record = EpochRecord(
            epoch=epoch + 1,
            loss=trained["loss"],
            accuracy=trained["accuracy"],
            val_loss=validated["loss"],
            val_cross_entropy=validated["cross_entropy"],
            val_accuracy=validated["accuracy"],
            learning_rate=float(planned[-1] * scale),
            best=decision.best,
            rolled_back=decision.roll_back,
            seconds=time.perf_counter() - start,
            images_per_second=trained["rows"] / train_seconds,
            cross_entropy=trained["cross_entropy"],
        )
        history = (*history, record)
        state = TrainState(learner.state(), best, dwell, history)
        on_epoch(record, record.line(settings.epochs, decision.message), state)
    return state if state is not None else TrainState(learner.state(), best, dwell, history)


def _train_epoch(learner: Learner, batches: Iterable[Batch], rates: Any) -> dict[str, float]:
    total: Any = np.zeros(4)
    for batch, rate in zip(batches, rates, strict=True):
        total = learner.train(batch, float(rate)) + total
    return _means(learner.reduction.sum(total))


def _validate(learner: Learner, batches: Iterable[Batch]) -> dict[str, float]:
    total: Any = np.zeros(4)
    for batch in batches:
        total = learner.validate(batch) + total
    return _means(learner.reduction.sum(total))


def _means(sums: Any) -> dict[str, float]:
    loss, cross_entropy, correct, rows = (float(value) for value in sums)
    return {
        "loss": loss / rows,
        "cross_entropy": cross_entropy / rows,
        "accuracy": correct / rows,
        "rows": rows,
    }
