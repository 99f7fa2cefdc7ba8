"""Thread that trains a trial in its process, and goes on while the state of the last epoch is uploaded."""

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from queue import Queue

from brain_ray.runs import Run
from brain_ray.training.messages import Epoch
from brain_ray.training.state import FinishedEpoch, TrainState
from brain_ray.training.uploads import Uploads

Epochs = Generator[Epoch, None, None]


class StoppedError(Exception):
    """The trial was stopped; ends its thread, and nothing else."""


class TrainingThread:
    """Thread that trains a trial, and tells each epoch when its state is kept.

    After an epoch was told it waits until the next one is asked for: Ray Tune may stop the trial instead.
    While a state is on its way to a bucket, its epoch has not been told, and the thread goes on.
    """

    def __init__(
        self, home: Run, train: Callable[["TrainingThread"], Generator[FinishedEpoch, None, None]]
    ) -> None:
        """Takes a trial's run, and what trains it and calls `pause` at each step and `save_checkpoint`."""
        self._uploads = Uploads(home)
        self._train = train
        self._told: Queue[Epoch | BaseException | None] = Queue()
        self._may_go = threading.Event()
        self._may_go.set()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def epochs(self) -> Epochs:
        """Starts the thread; yields the epochs that it tells. Closed early, this ends the thread at the next
        `pause`, and waits for its end.

        Raises:
            Exception: what ended the thread.
        """
        self._thread.start()
        try:
            while (told := self._told.get()) is not None:
                if isinstance(told, BaseException):
                    raise told
                yield told
                self._may_go.set()
        finally:
            self._stopped = True
            self._may_go.set()
            self._thread.join()

    def pause(self) -> None:
        """Waits, in the thread, until the next epoch is asked for, if one was told.

        Raises:
            StoppedError: the trial was stopped.
            RunError: the storage has refused a state.
        """
        self._uploads.check()
        self._may_go.wait()
        if self._stopped:
            raise StoppedError

    def save_checkpoint(self, state: TrainState) -> None:
        """Makes a state the trial's only checkpoint, after the last one is kept; raises as `pause`."""
        self._uploads.wait()
        self.pause()  # nothing is written for a trial that is about to be stopped
        self._uploads.keep(state)

    def _work(self) -> None:
        try:
            with closing(self._train(self)) as trained:
                for finished in trained:
                    epoch = Epoch(finished.record, finished.line, finished.last)
                    self._uploads.when_kept(partial(self._tell, epoch))
                    self.pause()
            self._uploads.wait()
        except StoppedError:
            pass
        except BaseException as error:
            self._told.put(error)
        else:
            self._told.put(None)

    def _tell(self, epoch: Epoch) -> None:
        self._may_go.clear()
        self._told.put(epoch)
