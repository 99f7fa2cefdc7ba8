"""Ray Train: the trainer and its configuration."""

from collections.abc import Callable

import ray
import ray.train
import ray.train.collective

from brain_ray.cluster.autoscaling import room_for_loading
from brain_ray.cluster.capacity import per_worker
from brain_ray.config import Config
from brain_ray.loading.feed import Sources
from brain_ray.runs import Run
from brain_ray.tracking.progress_bar import on_a_terminal
from brain_ray.training import control
from brain_ray.training.callbacks import EndAtFaults, end_vain_waits
from brain_ray.training.failures import verdict
from brain_ray.training.messages import Message, relayed
from brain_ray.training.tensorflow.backend import TensorflowWorkers
from brain_ray.training.worker import train_worker_task, with_absolute_paths


def drive(
    run: Run,
    config: Config,
    sources: Sources,
    take: Callable[[Message], None],
    *,
    keep_answers: bool = False,
) -> None:
    """Have workers train by Ray Train, from the newest sound checkpoint on, and give what they say to `take`.

    Raises:
        RunError: what ended the training.
    """
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    settings = config.train
    with (
        control.operator_of(run) as operator,
        relayed(take) as messages,
        room_for_loading(settings, f"loading of {run.uri()}"),
    ):
        trainer = DataParallelTrainer(
            train_worker_task,
            backend_config=TensorflowWorkers(),
            train_loop_config={
                "run": run,
                "config": with_absolute_paths(config),
                "sources": sources,
                "messages": messages,
                "terminal": on_a_terminal(),
                "operator": operator,
                "keep_answers": keep_answers,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=settings.num_workers,
                use_gpu=settings.use_gpu,
                resources_per_worker=per_worker(settings),
            ),
            run_config=ray.train.RunConfig(
                name="train",
                storage_path=run.path().rstrip("/"),
                storage_filesystem=run.fs,
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=settings.keep_checkpoints),
                failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
                callbacks=[EndAtFaults(messages), *end_vain_waits(settings, messages)],
            ),
        )
        try:
            trainer.fit()
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            raise verdict(error, run, settings.max_failures) from error
