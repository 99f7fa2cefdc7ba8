"""Stage train: trains a run from its newest sound checkpoint."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from brain_ray.cluster.autoscaling import check_now_or_later, request_nodes
from brain_ray.cluster.capacity import check_resources, running_nodes
from brain_ray.cluster.small_batches import describe_small_batch
from brain_ray.cluster.waiting import give_up_without_nodes
from brain_ray.config import Config
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.loading.feed import Sources
from brain_ray.logs import log
from brain_ray.runs import TRAIN, Run
from brain_ray.tracking import mlflow, tensorboard
from brain_ray.tracking import prometheus as metrics
from brain_ray.tracking.position import Position
from brain_ray.tracking.progress_bar import ProgressBar, on_a_terminal
from brain_ray.training import checkpoints
from brain_ray.training.class_weights import split_weights
from brain_ray.training.failures import check_writable, naming_storage
from brain_ray.training.features import drop_features
from brain_ray.training.framework import Framework, framework_of
from brain_ray.training.messages import Epoch, Message
from brain_ray.training.results import read_val_probabilities, summary
from brain_ray.training.setups import describe_small_norms
from brain_ray.training.sources import Dataset, find_sources, open_dataset, with_absolute_paths
from brain_ray.training.trainer import run_training


def train(run: Run, config: Config, framework: Framework | None = None) -> str:
    """Trains on a run's dataset, from its newest sound checkpoint on; returns a summary in a sentence.

    Writes into the run's folder train/: after each epoch a checkpoint, history.csv and numbers for
    TensorBoard; at the end best.npz (the best epoch's weights, "0", "1", ... in the order of
    `model.weights`) and result.json. Logs a line for each epoch; on a terminal there is a progress bar too.
    It trains in the framework of the backbone's row in `BACKBONES`, if none is given.

    Raises:
        RunError: no dataset, more CPUs or GPUs asked for than there are or come, `use_gpu` where TensorFlow
            sees no GPU, settings that name something unknown, a storage that refuses to take what is written,
            any fault of the program, no epoch with a finite loss, workers that are lost again and again,
            MLflow asked for and not installed.
    """
    framework = framework or framework_of(config.model)
    dataset = open_dataset(run, config, by_group=config.train.rows_per_group is not None)
    small_batch = describe_small_batch(config.train, config.model, running_nodes())
    for warning in filter(None, [small_batch, describe_small_norms(config)]):
        log.warning(warning)
    request_nodes(config.train)
    check_writable(run)
    for fault in checkpoints.repair(run):
        log.info(f"passed over: {fault}")
    absolute = with_absolute_paths(config)
    sources = _find_sources(run, absolute, dataset, framework)
    scalars = split_weights(config.data.classes, dataset.count(config), sources.class_weights)
    tensorboard.write_scalars(run, 0, scalars)
    with take_messages(run, config) as take:
        run_training(
            run, absolute, framework, sources, take, keep_val_probabilities=config.train.fold is not None
        )
    keep_out_of_fold(run, config, dataset)
    with naming_storage(run.uri(TRAIN)):
        checkpoints.prune(run, config.train.keep_checkpoints)
        drop_features(run)
    return summary(run)


def keep_out_of_fold(run: Run, config: Config, dataset: Dataset) -> None:
    """Writes the best epoch's answers to the images of the fold that the training left out, if it did."""
    fold, answers = config.train.fold, read_val_probabilities(run)
    if dataset.folds is not None and fold is not None and answers is not None:
        OutOfFold.pool(dataset.folds, {fold: answers}).write(run)


def _find_sources(run: Run, config: Config, dataset: Dataset, framework: Framework) -> Sources:
    if config.train.phase(0) != "frozen_features":
        return find_sources(run, config, dataset, framework)
    start = time.monotonic()
    room = partial(check_now_or_later, partial(check_resources, config.train), "the features")
    with give_up_without_nodes("the features", room):
        sources = find_sources(run, config, dataset, framework)
    rows = sum(part.num_rows for parts in dataset.splits.values() for part in parts)
    log.info(f"features of {rows} rows: {time.monotonic() - start:.0f} s")
    return sources


@contextmanager
def take_messages(run: Run, config: Config) -> Iterator[Callable[[Message], None]]:
    """Lends the function that passes workers' messages on: to people, MLflow and Prometheus."""
    with ExitStack() as stack:
        keep = stack.enter_context(mlflow.mlflow_run(run, config))
        bar = stack.enter_context(ProgressBar(config.train.step_images)) if on_a_terminal() else None

        def take(message: Message) -> None:
            match message:
                case Epoch(record, line, _):
                    log.info(line)
                    keep(record)
                    metrics.epoch(run.name, record.metrics())
                case Position() if bar is not None:
                    bar.show(message)
                case str():
                    log.info(message)

        yield take
