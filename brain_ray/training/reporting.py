"""What a worker reports to Ray Train: the numbers of an epoch or of a part of it, and the state to keep."""

import tempfile
from pathlib import Path
from typing import Any

import ray.train

from brain_ray.config import TrainConfig
from brain_ray.runs import Run
from brain_ray.training import checkpoints
from brain_ray.training.loop import is_over
from brain_ray.training.resizing import OVER
from brain_ray.training.state import TrainState
from brain_ray.training.uploads import Uploads

UPLOAD_S = 600.0
"""Seconds after which the next state is reported though nothing is known of the last one's upload."""


class Reporter:
    """Reports a worker's states to Ray Train, which keeps the checkpoints of rank 0.

    To a bucket they are uploaded while training goes on, one at a time: a state that is ready before the last
    one is uploaded waits for it. A training that ends waits for the last upload.
    """

    def __init__(self, run: Run, settings: TrainConfig) -> None:
        self._settings = settings
        self._uploads = Uploads(run)
        self.when_kept = self._uploads.when_kept

    def report(self, state: TrainState) -> None:
        """Reports a state after an epoch or within one; every worker calls it.

        Raises:
            OSError: a disk refuses to take the checkpoint.
            RunError: a bucket has refused the last one.
        """
        begun = state.begun
        metrics: dict[str, Any] = {"step": begun.steps} if begun else state.history[-1].metrics()
        metrics[OVER] = begun is None and is_over(self._settings, state)
        if ray.train.get_context().get_world_rank() != 0:
            ray.train.report(metrics)
        elif self._uploads.is_disk:
            with tempfile.TemporaryDirectory() as folder:
                checkpoints.write(Path(folder), state)
                ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        else:
            folder = self._uploads.write(state, UPLOAD_S)
            ray.train.report(
                metrics,
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
                checkpoint_upload_fn=self._upload,
                delete_local_checkpoint_after_upload=False,
            )

    def _upload(self, checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        """Copies a checkpoint into the run's folder, in a thread.

        Raises:
            RunError: the storage refuses it. Ray Train ends the worker with it.
        """
        target = self._uploads.upload(checkpoint.path, name)
        # Ray compares its own file system with the checkpoint's.
        storage = ray.train.get_context().get_storage()
        return ray.train.Checkpoint(target, storage.storage_filesystem)
