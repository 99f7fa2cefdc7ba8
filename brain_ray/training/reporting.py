"""What a worker reports to Ray Train: the numbers of an epoch or of a part of it, and the state to keep."""

import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
from pyarrow import fs as pafs

from brain_ray.config import TrainConfig
from brain_ray.runs import TRAIN, Run
from brain_ray.storage_retries import patiently
from brain_ray.training import checkpoints
from brain_ray.training.failures import classify_error, naming_storage
from brain_ray.training.loop import is_over
from brain_ray.training.resizing import OVER
from brain_ray.training.state import TrainState

UPLOAD_S = 600.0
"""Seconds after which the next state is reported though nothing is known of the last one's upload."""

UPLOADING = "brain_ray-upload-"
"""First part of the name of a temporary folder whose checkpoint is being uploaded."""


class Reporter:
    """Reports a worker's states to Ray Train, which keeps the checkpoints of rank 0.

    To a bucket they are uploaded while training goes on, one at a time: a state that is ready before the last
    one is uploaded waits for it. A training that ends waits for the last upload.
    """

    def __init__(self, run: Run, settings: TrainConfig) -> None:
        self._run, self._settings = run, settings
        self._is_disk = isinstance(run.fs, pafs.LocalFileSystem)
        self._uploaded = threading.Event()
        self._uploaded.set()
        self._waiting: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def report(self, state: TrainState) -> None:
        """Reports a state after an epoch or within one; every worker calls it.

        Raises:
            OSError: a disk refuses to take the checkpoint.
        """
        begun = state.begun
        metrics: dict[str, Any] = {"step": begun.steps} if begun else state.history[-1].metrics()
        metrics[OVER] = begun is None and is_over(self._settings, state)
        if ray.train.get_context().get_world_rank() != 0:
            ray.train.report(metrics)
        elif self._is_disk:
            with tempfile.TemporaryDirectory() as folder:
                checkpoints.write(Path(folder), state)
                ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        else:
            self._uploaded.wait(UPLOAD_S)
            self._uploaded.clear()
            folder = tempfile.mkdtemp(prefix=UPLOADING)
            checkpoints.write(Path(folder), state)
            ray.train.report(
                metrics,
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
                checkpoint_upload_fn=self._upload,
                delete_local_checkpoint_after_upload=False,
            )

    def when_kept(self, action: Callable[[], None]) -> None:
        """Does something once the last reported state is kept: at once, or in the thread that uploads it."""
        with self._lock:
            if not self._uploaded.is_set():
                self._waiting.append(action)
                return
        action()

    def _upload(self, checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        """Copies a checkpoint into the run's folder, in a thread; again after errors of a bucket that pass.

        Raises:
            RunError: the storage refuses it. Ray Train ends the worker with it.
        """
        target = self._run.path(TRAIN, name)
        try:
            with naming_storage(self._run.uri(TRAIN)):
                patiently()(self._copy, checkpoint.path, target)
        except Exception as error:
            self._uploaded.set()  # what waits for it is not done: the worker ends
            raise classify_error(error) from None
        finally:
            shutil.rmtree(checkpoint.path, ignore_errors=True)
        with self._lock:
            self._uploaded.set()
            actions, self._waiting = self._waiting, []
        for action in actions:
            action()
        # Ray compares its own file system with the checkpoint's.
        storage = ray.train.get_context().get_storage()
        return ray.train.Checkpoint(target, storage.storage_filesystem)

    def _copy(self, folder: str, target: str) -> None:
        """Copies files piece by piece; `Run.upload` would hold each of them."""
        self._run.fs.create_dir(target, recursive=True)
        pafs.copy_files(
            folder,
            target,
            source_filesystem=pafs.LocalFileSystem(),
            destination_filesystem=self._run.fs,
        )
