"""Ray Tune trainable: one trial after another in a process."""

import contextlib
import faulthandler
import gc
import tempfile
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue
from typing import Any

import ray
from ray import tune

from brain_ray.config import Config
from brain_ray.data.dataset import Counts, Part
from brain_ray.errors import RunError
from brain_ray.loading.feed import Feed, Sources, make_feed
from brain_ray.runs import RESULT, TRAIN, Run
from brain_ray.tracking.history import EpochRecord, read_history
from brain_ray.training import checkpoints
from brain_ray.training.class_weights import class_weights
from brain_ray.training.failures import judge, writing_to
from brain_ray.training.features import cache_features
from brain_ray.training.loop import epochs, is_over
from brain_ray.training.messages import Controller, Epoch, Message, Reservation
from brain_ray.training.results import write_epoch, write_result
from brain_ray.training.state import Ended, TrainState
from brain_ray.training.tensorflow.devices import clear, make_strategy, set_up
from brain_ray.training.trainer import drive
from brain_ray.training.worker import with_absolute_paths
from brain_ray.tuning.trial_store import Clock, best_value, home_of, read_trial

CONTROLLER_SECONDS = 5.0
"""In which Ray Train's controller says which actor it is."""

ABORT_SECONDS = 20.0
"""In which Ray Train ends a stopped trial's workers."""

EPOCH, VALUE, LINE, RECORD = "epoch", "best_value", "line", "record"
"""What a trial reports after each epoch: its number, the best value so far, a line for people, its record."""


@dataclass(frozen=True)
class Shared:
    """What all trials of a sweep have in common."""

    run: Run
    splits: dict[str, list[Part]]
    counts: dict[str, Counts]
    """Rows of each class, by split."""
    store: Any
    """Handle of the `PartStore`: the prepared rows are read once for all trials."""
    workers: int
    """Of each trial; with one, it trains in its own process."""
    processes: int
    """Trials that train on a node at the same time, at most."""
    silence_seconds: float
    """Without an epoch's end, after which a trial is taken for stuck."""


class TrialProcess(tune.Trainable):  # type: ignore[misc]
    """Trains one trial after another, an epoch for each `step`.

    With one worker a trial trains in this process, so that TensorFlow is imported once for many of them; with
    several, through Ray Train. A trial's state is in its own folder, not in checkpoints of Tune's: started
    again, wherever that is, it goes on from there.
    """

    def setup(self, config: dict[str, str], shared: Shared) -> None:
        """Take the first trial; nothing is done before its first step."""
        self._shared = shared
        self._reports: Generator[dict[str, Any], None, None] | None = None
        self._feed: Feed | None = None
        self._controller: Any = None
        self._reservation: Any = None
        self._config: Config
        self._take(config["trial"])

    def reset_config(self, new_config: dict[str, str]) -> bool:
        """Take another trial after one that has ended or was stopped."""
        self._end()
        self._take(new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch.

        Raises:
            RunError: what ended the trial. It is tried again, if it may be.
            LostPeerError: the same, of something that was lost.
        """
        # A process that is stuck, even in a call that holds the interpreter's lock, ends with the traces of
        # its threads in its log.
        faulthandler.dump_traceback_later(self._shared.silence_seconds, exit=True)
        try:
            if self._reports is None:
                self._reports = self._begin()
            return next(self._reports)
        except Exception as error:
            raise judge(error) from None
        finally:
            faulthandler.cancel_dump_traceback_later()

    def cleanup(self) -> None:
        """Let go of everything, workers of Ray Train included: killed with this process, they would leave
        their reservation behind."""
        deadline = time.monotonic() + CONTROLLER_SECONDS
        while self._reservation is not None and self._controller is None and time.monotonic() < deadline:
            time.sleep(0.05)  # its word comes just after the first epoch's
        if self._controller is not None:
            with contextlib.suppress(ray.exceptions.RayError):  # it has ended by itself
                ray.get(self._controller.abort.remote(), timeout=ABORT_SECONDS)
        if self._reservation is not None:
            ray.util.remove_placement_group(self._reservation)  # which an abort leaves behind
        self._end()

    # --- a trial's life

    def _take(self, trial: str) -> None:
        self._started = time.monotonic()
        self._home = home_of(self._shared.run, trial)

    def _begin(self) -> Generator[dict[str, Any], None, None]:
        self._config = read_trial(self._shared.run, self._home.name, answers=False).trial.config
        before = Clock.read(self._home)
        self._clock = replace(before, attempts=before.attempts + 1)
        self._clock.write(self._home)
        checkpoints.mend(self._home)
        return self._alone() if self._shared.workers == 1 else self._with_workers()

    def _end(self) -> None:
        if self._reports is None:
            return
        self._reports.close()
        self._reports = None
        if self._feed is not None:
            self._feed.close()
            self._feed = None
            clear()
        gc.collect()

    def _report(self, record: EpochRecord, line: str, best: float, *, last: bool) -> dict[str, Any]:
        held = self._clock.held_seconds + time.monotonic() - self._started
        replace(self._clock, held_seconds=held).write(self._home)
        return {EPOCH: record.epoch, VALUE: best, LINE: line, RECORD: record.to_json(), "done": last}

    # --- training in this process

    def _alone(self) -> Generator[dict[str, Any], None, None]:
        config, home = self._config, self._home
        checkpoints.prune(home, 1)  # two, if it was interrupted between writing one and deleting the other
        state, _ = checkpoints.newest(home)
        if state is not None and is_over(config.train, state):
            yield self._finish(Ended(state.history[-1], "", state))
            return
        set_up(config.train, self._shared.processes)
        self._feed = make_feed(config, self._sources(), 0, 1)
        strategy = make_strategy(1, use_gpu=config.train.use_gpu)
        number = len(config.data.classes)
        for ended in epochs(
            config, number, self._feed, strategy, state, on_step=self._note_first_step, keep_answers=True
        ):
            self._keep(ended.state)
            with writing_to(home.uri(TRAIN)):
                write_epoch(home, ended.record, ended.state)
            if is_over(config.train, ended.state):
                yield self._finish(ended)
            else:
                yield self._report(ended.record, ended.line, _lowest(ended.state), last=False)

    def _sources(self) -> Sources:
        config, shared = self._config, self._shared
        features = {}
        if config.train.phase(0) == "frozen_features":
            if shared.workers == 1:
                set_up(config.train, shared.processes)
                features = cache_features(self._home, config, shared.splits, shared.processes)
            else:  # this process has neither the CPUs nor the GPUs of the trial's workers
                features = cache_features(self._home, with_absolute_paths(config), shared.splits)
        classes = config.data.classes
        weights = class_weights(config.train.class_weights, shared.counts["train"], classes)
        return Sources(shared.splits, features, weights, shared.store)

    def _note_first_step(self, _: int, step: int) -> None:
        if step == 1 and len(self._clock.first_step_seconds) < self._clock.attempts:
            times = (*self._clock.first_step_seconds, round(time.monotonic() - self._started, 2))
            self._clock = replace(self._clock, first_step_seconds=times)

    def _keep(self, state: TrainState) -> None:
        """Write a checkpoint; the one before it goes when the new one is whole."""
        home = self._home
        name = f"checkpoint_{datetime.now(UTC):%Y%m%d-%H%M%S.%f}"
        with writing_to(home.uri(TRAIN)), tempfile.TemporaryDirectory() as folder:
            checkpoints.write(Path(folder), state)
            home.upload(Path(folder), TRAIN, name)
            checkpoints.prune(home, 1)

    def _finish(self, ended: Ended) -> dict[str, Any]:
        _check(self._home, ended.state.dwell.halted, ended.state.dwell.best_epoch, ended.record.epoch)
        write_result(self._home, self._config, ended.state)
        return self._report(ended.record, ended.line, _lowest(ended.state), last=True)

    # --- training by Ray Train

    def _with_workers(self) -> Generator[dict[str, Any], None, None]:
        config, home = self._config, self._home
        heard: Queue[Message | BaseException | None] = Queue()

        def take(message: Message) -> None:
            match message:
                case Controller(handle):
                    self._controller = handle
                case Reservation(group):
                    self._reservation = group
                case _:
                    heard.put(message)

        def work() -> None:
            try:
                drive(home, config, self._sources(), take, keep_answers=True)
                heard.put(None)
            except BaseException as error:
                heard.put(error)

        threading.Thread(target=work, daemon=True).start()
        history = read_history(home)
        best = best_value(history, config.train.monitor)
        held: Epoch | None = None
        while True:
            match message := heard.get():
                case Epoch(record, line, last):
                    best = min(best, best_value([record], config.train.monitor))
                    if not last:
                        yield self._report(record, line, best, last=False)
                    held = message
                case BaseException():
                    raise message
                case None:
                    break
        result = home.read_json(*RESULT)
        record, line = (held.record, held.line) if held else (read_history(home)[-1], "")
        _check(home, result["diverged"], result["best_epoch"], record.epoch)
        yield self._report(record, line, best, last=True)


def _check(home: Run, halted: bool, best_epoch: int, epoch: int) -> None:
    """Start anew a trial without a finite loss: from where it was, it would end as it did.

    Raises:
        RunError: it is one.
    """
    if not halted and best_epoch:
        return
    with contextlib.suppress(FileNotFoundError):
        home.fs.delete_file(home.path(*RESULT))
    checkpoints.prune(home, 0)
    raise RunError(f"no finite loss in the last epochs, up to epoch {epoch}")


def _lowest(state: TrainState) -> float:
    return float("inf") if state.dwell.lowest is None else state.dwell.lowest
