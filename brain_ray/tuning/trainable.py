"""Ray Tune trainable: trains one trial after another in a process."""

import faulthandler
import gc
import math
import threading
import time
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from queue import Queue
from typing import Any

import ray
from ray import tune

from brain_ray.cluster.private import is_draining
from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.loading.feed import Sources
from brain_ray.runs import RESULT, Run
from brain_ray.storage_retries import delete_file
from brain_ray.tracking.history import EpochRecord, read_history
from brain_ray.training import checkpoints
from brain_ray.training.failures import classify_error
from brain_ray.training.framework import Framework
from brain_ray.training.messages import Controller, Epoch, Message, Reservation
from brain_ray.training.sources import Dataset, find_sources
from brain_ray.training.state import FinishedEpoch
from brain_ray.training.trainer import run_training
from brain_ray.training.worker import run_epochs
from brain_ray.tuning.training_thread import Epochs, TrainingThread
from brain_ray.tuning.trial_store import Clock, best_value, read_trial, trial_run

CONTROLLER_SECONDS = 5.0
"""Seconds to wait for the message that names Ray Train's controller."""

ABORT_SECONDS = 20.0
"""Seconds to wait for Ray Train to end a stopped trial's workers."""

EPOCH, VALUE, LINE, RECORD = "epoch", "best_value", "line", "record"
"""Keys of the report after each epoch: its number, the best value so far, a line for people, its record."""

Reports = Generator[dict[str, Any], None, None]


@dataclass(frozen=True)
class Shared:
    """Objects and limits that all trials of a sweep share."""

    run: Run
    dataset: Dataset
    """The prepared rows, read once for all trials."""
    framework: Framework
    workers: int
    """Workers of each trial; a trial with one worker trains in its own process."""
    processes: int
    """Largest number of trials that train on a node at the same time."""
    silence_seconds: float
    """Seconds without the end of an epoch after which a trial's process is ended as stuck."""


class TrialProcess(tune.Trainable):  # type: ignore[misc]
    """Trains one trial after another, an epoch for each `step`.

    With one worker a trial trains in a thread of this process, so that TensorFlow is imported once for many
    trials; with several, through Ray Train. A trial's state is in its own folder, not in Tune's checkpoints:
    a trial that is started again continues from there, on any node.
    """

    def setup(self, config: dict[str, Any], shared: Shared) -> None:
        """Takes the first trial; nothing is done before its first step."""
        self._shared = shared
        self._reports: Reports | None = None
        self._controller: Any = None
        self._reservation: Any = None
        self._best = math.inf
        self._config: Config
        self._take(config["trial"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes another trial after one that has ended or was stopped; returns True, as Tune expects."""
        self._end()
        self._take(new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        """Trains an epoch; returns its report.

        Raises:
            RunError: an error ended the trial; Tune may try the trial again.
            WorkerLostError: a lost worker or node ended the trial; Tune may try the trial again.
        """
        # A process that is stuck, even in a call that holds the interpreter's lock, ends with the traces of
        # its threads in its log.
        faulthandler.dump_traceback_later(self._shared.silence_seconds, exit=True)
        try:
            if self._reports is None:
                self._reports = self._begin()
            return next(self._reports)
        except Exception as error:
            raise classify_error(error) from None
        finally:
            faulthandler.cancel_dump_traceback_later()

    def cleanup(self) -> None:
        """Frees everything, Ray Train's workers included: killed with this process, they would leave their
        placement group behind."""
        deadline = time.monotonic() + CONTROLLER_SECONDS
        while self._reservation is not None and self._controller is None and time.monotonic() < deadline:
            time.sleep(0.05)  # the message comes just after the first epoch's
        if self._controller is not None:
            with suppress(ray.exceptions.RayError):  # it has ended by itself
                ray.get(self._controller.abort.remote(), timeout=ABORT_SECONDS)
        if self._reservation is not None:
            ray.util.remove_placement_group(self._reservation)  # an abort leaves it behind
        self._end()

    # --- a trial's life

    def _take(self, trial: str) -> None:
        self._started = time.monotonic()
        self._home = trial_run(self._shared.run, trial)

    def _begin(self) -> Reports:
        self._config = read_trial(self._shared.run, self._home.name, val_probabilities=False).trial.config
        before = Clock.read(self._home)
        self._clock = replace(before, attempts=before.attempts + 1)
        self._clock.write(self._home)
        checkpoints.repair(self._home)
        # Of epochs before this attempt: in a process that is used again, not those of another trial.
        self._best = best_value(read_history(self._home), self._config.train.monitor)
        if self._shared.workers > 1:
            return self._report_epochs(self._with_workers())
        checkpoints.prune(self._home, 1)  # two, if it was killed between writing one and deleting the other
        return self._report_epochs(TrainingThread(self._home, self._train).epochs())

    def _end(self) -> None:
        if self._reports is None:
            return
        self._reports.close()
        self._reports = None
        self._shared.framework.clear()
        gc.collect()

    # --- training in this process

    def _train(self, thread: TrainingThread) -> Generator[FinishedEpoch, None, None]:
        def on_step(_: int, step: int) -> None:
            self._note_first_step(step)
            thread.pause()

        yield from run_epochs(
            self._home,
            self._config,
            self._shared.framework,
            self._find_sources,
            thread.save_checkpoint,
            noticed=is_draining,
            on_step=on_step,
            processes=self._shared.processes,
            keep_val_probabilities=True,
        )

    def _find_sources(self) -> Sources:
        shared = self._shared
        # With several workers, their CPUs and GPUs are not this process's.
        here = shared.processes if shared.workers == 1 else None
        return find_sources(self._home, self._config, shared.dataset, shared.framework, here, shared.run)

    def _note_first_step(self, step: int) -> None:
        if step == 1 and len(self._clock.first_step_seconds) < self._clock.attempts:
            times = (*self._clock.first_step_seconds, round(time.monotonic() - self._started, 2))
            self._clock = replace(self._clock, first_step_seconds=times)

    # --- training by Ray Train

    def _with_workers(self) -> Epochs:
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
                sources = self._find_sources()
                run_training(home, config, self._shared.framework, sources, take, keep_val_probabilities=True)
                heard.put(None)
            except BaseException as error:
                heard.put(error)

        threading.Thread(target=work, daemon=True).start()
        while (message := heard.get()) is not None:
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, Epoch):
                yield message

    # --- reports to Tune

    def _report_epochs(self, epochs: Epochs) -> Reports:
        record, line = None, ""
        with closing(epochs):
            for epoch in epochs:
                record, line = epoch.record, epoch.line
                self._best = min(self._best, best_value([record], self._config.train.monitor))
                if not epoch.last:
                    yield self._report(record, line, last=False)
        yield self._report_last(record, line)

    def _report_last(self, record: EpochRecord | None, line: str) -> dict[str, Any]:
        """Returns the last report of a trial: on the epoch that ended it, or on the last one if all were
        trained before.

        Raises:
            RunError: the last epochs had no finite loss. The trial starts anew: from its checkpoint it would
                end in the same way.
        """
        home = self._home
        result = home.read_json(*RESULT)
        if result["diverged"] or not result["best_epoch"]:
            delete_file(home.fs, home.path(*RESULT))
            checkpoints.prune(home, 0)
            raise RunError(f"no finite loss in the last epochs, up to epoch {result['epochs']}")
        return self._report(record or read_history(home)[-1], line, last=True)

    def _report(self, record: EpochRecord, line: str, *, last: bool) -> dict[str, Any]:
        held = self._clock.held_seconds + time.monotonic() - self._started
        replace(self._clock, held_seconds=held).write(self._home)
        return {EPOCH: record.epoch, VALUE: self._best, LINE: line, RECORD: record.to_json(), "done": last}
