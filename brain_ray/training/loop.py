"""Training loop: epochs and decisions. It knows no Ray, and of the framework its learner alone."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config, TrainConfig
from brain_ray.loading.feed import Feed
from brain_ray.tracking.history import EpochRecord
from brain_ray.training.commands import Command, ControlState, apply_commands, should_stop
from brain_ray.training.dwell import DwellState, decide
from brain_ray.training.epoch import Clock, Keeper, Keeping, train_epoch, validate
from brain_ray.training.framework import Learner
from brain_ray.training.schedule import FLOOR, planned_rates
from brain_ray.training.state import Begun, FinishedEpoch, TrainState

OnStep = Callable[[int, int], None]
"""Called after each training step with the finished epochs and the finished steps of this one."""

PollCommands = Callable[[ControlState], Sequence[Command]]
"""Returns the operator's new commands: the same to every worker, without waiting."""


def epochs(
    config: Config,
    learner: Learner,
    feed: Feed,
    state: TrainState | None = None,
    poll_commands: PollCommands = lambda _: (),
    on_step: OnStep = lambda *_: None,
    keeping: Keeping = Keeping(),
    *,
    keep_val_probabilities: bool = False,
) -> Iterator[FinishedEpoch]:
    """Trains up to `config.train.total_epochs` epochs, from the start or from a state, one for each `next`.

    It ends earlier when the operator says so, or when `ask_epoch` epochs have brought no improvement and he
    has not said otherwise; he can also have it go on for more. Every worker calls it alike. All decisions
    come from sums over all workers, so all take the same ones.

    Args:
        config: of the run.
        learner: fresh; a state is loaded into it.
        feed: this worker's batches.
        state: to go on from.
        poll_commands: asked after each epoch.
        on_step: called after each step.
        keeping: for states within epochs, after each `train.checkpoint_minutes` and before a machine goes.
        keep_val_probabilities: states hold the best epoch's `val_probabilities`: of the images that are held
            out, if there are any, else of the validation images.

    Raises:
        RunError: the settings' schedule is unknown.
    """
    settings = config.train
    if state is not None:
        learner.load(state.learner)
    best = learner.weights() if state is None else state.best
    dwell = DwellState() if state is None else state.dwell
    history = () if state is None else state.history
    control = ControlState() if state is None else state.control
    best_probabilities = None if state is None else state.val_probabilities
    begun = None if state is None else state.begun
    rates = planned_rates(settings, feed.steps_per_epoch)

    over = _is_over(settings, dwell, control)
    while not over:
        begun = begun or Begun(0, (0.0, 0.0, 0.0, 0.0), 0.0, 0.0)
        start = time.perf_counter() - begun.seconds
        epoch = dwell.epochs
        if 0 < epoch == settings.frozen_epochs and settings.epochs and not begun.steps:
            # From the best head on, as if training began here.
            learner.restore(best, reset=True)
            dwell, control = replace(dwell, rate_scale=1.0), replace(control, rate=None)
        epoch_rates = _rates(settings, rates, epoch, feed.steps_per_epoch, control) * dwell.rate_scale
        learner.start_epoch(epoch, begun.steps)
        clock = Clock(begun.input_wait)
        reached = TrainState({}, best, dwell, history, control, best_probabilities)
        trained = train_epoch(
            learner,
            clock.waited(feed.train(epoch, begun.steps)),
            epoch_rates,
            begun,
            partial(on_step, epoch),
            Keeper(settings.checkpoint_minutes, learner, keeping, reached, clock, start).look,
        )
        begun = None
        train_seconds = time.perf_counter() - start
        learner.finish_epoch()
        with learner.averaged():
            validated, probabilities = validate(
                learner, clock.waited(feed.valid(epoch)), keep_val_probabilities
            )
            if feed.held_out is not None:
                _, probabilities = validate(
                    learner, clock.waited(feed.held_out(epoch)), keep_val_probabilities
                )
            averaged = learner.weights()
        monitored = validated[settings.monitor.removeprefix("val_")]
        dwell, decision = decide(
            dwell,
            monitored,
            trained["loss"],
            dwell=settings.dwell,
            factor=settings.dwell_factor,
            last=settings.keep_epoch == "last",
        )
        if decision.best:
            best, best_probabilities = averaged, probabilities
        if decision.roll_back:
            learner.restore(best, reset=decision.diverged)
        commands = poll_commands(control)
        control = apply_commands(control, commands, dwell.rate_scale)
        remarks = [f"operator: {command}" for command in commands]
        if _should_stop(settings, dwell, control):
            remarks.append(f"ends: no improvement since epoch {dwell.best_epoch}")
        record = EpochRecord(
            epoch=epoch + 1,
            loss=trained["loss"],
            accuracy=trained["accuracy"],
            val_loss=validated["loss"],
            val_cross_entropy=validated["cross_entropy"],
            val_accuracy=validated["accuracy"],
            learning_rate=float(epoch_rates[-1]),
            best=decision.best,
            rolled_back=decision.roll_back,
            seconds=time.perf_counter() - start,
            images_per_second=trained["rows"] / train_seconds,
            cross_entropy=trained["cross_entropy"],
            input_wait=clock.seconds,
            operator="; ".join(f"{command} ({command.at})" for command in commands),
        )
        history = (*history, record)
        state = TrainState(learner.state(), best, dwell, history, control, best_probabilities)
        message = ", ".join(filter(None, [decision.message, *remarks]))
        over = _is_over(settings, dwell, control)
        line = record.line(settings.total_epochs + control.extra_epochs, message)
        yield FinishedEpoch(record, line, state, over)


def is_over(settings: TrainConfig, state: TrainState) -> bool:
    """Tells whether no epoch follows."""
    return _is_over(settings, state.dwell, state.control)


def _is_over(settings: TrainConfig, dwell: DwellState, control: ControlState) -> bool:
    all_done = dwell.epochs >= settings.total_epochs + control.extra_epochs
    return all_done or dwell.halted or control.halted or _should_stop(settings, dwell, control)


def _should_stop(settings: TrainConfig, dwell: DwellState, control: ControlState) -> bool:
    since = dwell.best_epoch if not settings.epochs else max(dwell.best_epoch, settings.frozen_epochs)
    return should_stop(control, settings.ask_epoch, dwell.epochs, since)


def _rates(
    settings: TrainConfig,
    planned: NDArray[np.float64],
    epoch: int,
    steps_per_epoch: int,
    control: ControlState,
) -> NDArray[np.float64]:
    """Returns the rate of each step of an epoch: the operator's, the planned one, after the plan its last."""
    if control.rate is not None:
        return np.full(steps_per_epoch, control.rate / control.rate_scale)
    if epoch * steps_per_epoch < len(planned):
        return planned[epoch * steps_per_epoch : (epoch + 1) * steps_per_epoch]
    peak = settings.learning_rate if settings.epochs else settings.frozen_learning_rate
    return np.full(
        steps_per_epoch, max(planned[-1], FLOOR * peak * settings.batch_factor)
    )  # a cosine would end at 0
