"""Ray Train: the trainer and its configuration."""

import os
from collections.abc import Callable

import ray
import ray.train
import ray.train.collective

from brain_ray.cluster.autoscaling import room_for_loading
from brain_ray.cluster.capacity import per_worker
from brain_ray.config import Config
from brain_ray.loading.feed import Sources
from brain_ray.runs import Run
from brain_ray.storage_for_ray import patient
from brain_ray.tracking.progress_bar import on_a_terminal
from brain_ray.training.callbacks import EndAtFaults, end_vain_waits, trainer_class
from brain_ray.training.failures import to_run_error
from brain_ray.training.framework import Framework
from brain_ray.training.messages import Message
from brain_ray.training.resizing import ResizeWhereKept
from brain_ray.training.run_actor import Outbox, run_actor
from brain_ray.training.worker import Task, train_worker_task

POLL_INTERVAL = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"
"""Environment variable that Ray Train's controller gets from the driver: seconds between two polls of its
workers. It takes one report of each per interval, which no epoch can undercut."""


def poll_interval(num_workers: int) -> float:
    """Returns the seconds between two polls: at most 40 workers are asked a second.

    Ray's own are 2 s, the most here too. Epochs on cached features take less, and have few workers.
    """
    return min(2.0, max(0.2, num_workers / 40))


def run_training(
    run: Run,
    config: Config,
    framework: Framework,
    sources: Sources,
    take: Callable[[Message], None],
    *,
    keep_val_probabilities: bool = False,
) -> None:
    """Has workers train by Ray Train, from the newest sound checkpoint on; `take` gets their messages.

    `config` has absolute paths.

    Raises:
        RunError: what ended the training.
    """
    settings = config.train
    with (
        run_actor(run, take) as actor,
        room_for_loading(settings, f"loading of {run.uri()}"),
    ):
        messages = Outbox(actor)
        task = Task(
            run=run,
            config=config,
            framework=framework,
            sources=sources,
            actor=actor,
            terminal=on_a_terminal(),
            keep_val_probabilities=keep_val_probabilities,
        )
        trainer = trainer_class()(
            train_worker_task,
            train_loop_config={"task": task},
            backend_config=framework.train_backend(),
            scaling_config=(ResizeWhereKept if settings.elastic else ray.train.ScalingConfig)(
                num_workers=settings.num_workers,
                use_gpu=settings.use_gpu,
                resources_per_worker=per_worker(settings),
            ),
            run_config=ray.train.RunConfig(
                name="train",
                storage_path=run.path().rstrip("/"),
                storage_filesystem=patient(run.fs),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=settings.keep_checkpoints),
                failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
                callbacks=[EndAtFaults(messages), *end_vain_waits(settings, messages)],
            ),
        )
        os.environ[POLL_INTERVAL] = f"{poll_interval(settings.max_workers):g}"
        try:
            trainer.fit()
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            raise to_run_error(error, run, settings.max_failures) from error
