"""Copies of a run's checkpoints in its storage: one at a time, and to a bucket while training goes on."""

import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pyarrow import fs as pafs

from brain_ray.runs import TRAIN, Run
from brain_ray.storage_retries import patiently, write_file
from brain_ray.training import checkpoints
from brain_ray.training.failures import classify_error, naming_storage
from brain_ray.training.state import TrainState

UPLOADING = "brain_ray-upload-"
"""First part of the name of a temporary folder whose checkpoint is being uploaded."""


class Uploads:
    """Copies checkpoints into a run's folder, one at a time, and does things once they are there.

    A state is written to a local folder first, so that training may go on and change its arrays.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._failure: Exception | None = None
        self._ended = threading.Event()
        self._ended.set()
        self._waiting: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self.is_disk = isinstance(run.fs, pafs.LocalFileSystem)

    def keep(self, state: TrainState) -> None:
        """Makes a state the run's only checkpoint; to a bucket it is copied in a thread, after this returns.

        The checkpoint before it is deleted when the new one is complete.

        Raises:
            RunError: the storage refuses it, or has refused an earlier one.
        """
        folder, name = self.write(state), f"checkpoint_{datetime.now(UTC):%Y%m%d-%H%M%S.%f}"
        if self.is_disk:
            self.upload(folder, name, keep=1)
        else:
            threading.Thread(target=self._try_upload, args=(folder, name), daemon=True).start()

    def write(self, state: TrainState, patience_s: float | None = None) -> str:
        """Writes a state to a new local folder, once the last one is uploaded; returns the folder's path.

        Args:
            state: the state.
            patience_s: as of `wait`.

        Raises:
            OSError: the disk refuses it.
            RunError: the storage has refused an earlier one.
        """
        self.wait(patience_s)
        self._ended.clear()
        folder = tempfile.mkdtemp(prefix=UPLOADING)
        try:
            checkpoints.write(Path(folder), state)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            self._ended.set()
            raise
        return folder

    def upload(self, folder: str, name: str, keep: int | None = None) -> str:
        """Copies a written state into the run's folder, again after errors of a bucket that pass; deletes the
        local folder.

        Args:
            folder: the state's local folder.
            name: of the checkpoint.
            keep: number of newest checkpoints that are not deleted then; None: all.

        Returns:
            The checkpoint's path within the storage.

        Raises:
            RunError: the storage refuses it.
        """
        target = self._run.path(TRAIN, name)
        try:
            with naming_storage(self._run.uri(TRAIN)):
                patiently()(self._run.fs.create_dir, target, recursive=True)
                for file in Path(folder).iterdir():
                    patiently()(write_file, self._run.fs, f"{target}/{file.name}", file)
                if keep is not None:
                    checkpoints.prune(self._run, keep)
        except Exception as error:
            self._failure = classify_error(error)
            self._ended.set()  # what waits for it is not done
            raise self._failure from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        with self._lock:
            try:
                while self._waiting:
                    self._waiting.pop(0)()
            finally:
                self._ended.set()
        return target

    def when_kept(self, action: Callable[[], None]) -> None:
        """Does something once the last state is kept: at once, or in the thread that uploads it, before
        another is uploaded. If the storage refuses the state, it is not done."""
        with self._lock:
            if not self._ended.is_set():
                self._waiting.append(action)
                return
        if self._failure is None:
            action()

    def wait(self, patience_s: float | None = None) -> None:
        """Waits until the last state is uploaded.

        Args:
            patience_s: seconds after which this returns though nothing is known of it; None: never.

        Raises:
            RunError: the storage has refused it.
        """
        self._ended.wait(patience_s)
        self.check()

    def check(self) -> None:
        """Raises a RunError if the storage has refused a state."""
        if self._failure is not None:
            raise self._failure

    def _try_upload(self, folder: str, name: str) -> None:
        with suppress(Exception):  # `check` raises it in the thread that trains
            self.upload(folder, name, keep=1)
