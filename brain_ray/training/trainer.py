"""Training on Ray Train: workers, a checkpoint after every epoch, and a run that goes on where it stopped."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.collective
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.queue import Queue

from brain_ray.cluster.autoscaling import make_room
from brain_ray.cluster.capacity import check_resources, on_this_node, per_worker, room_for_loading
from brain_ray.cluster.waiting import bounded
from brain_ray.config import Config
from brain_ray.loading.feed import Sources, make_feed
from brain_ray.loading.loader import Part, PartStore, find_parts
from brain_ray.runs import Run, resolve
from brain_ray.tracking import mlflow
from brain_ray.tracking import prometheus as metrics
from brain_ray.tracking.history import EpochRecord
from brain_ray.tracking.progress_bar import Position, ProgressBar, on_a_terminal
from brain_ray.training import checkpoints, control
from brain_ray.training.callbacks import Waiting
from brain_ray.training.class_weights import class_weights, count_labels, split_weights
from brain_ray.training.commands import Orders, Word
from brain_ray.training.failures import fault_of, judge, loss_of, probe, verdict, writing_to
from brain_ray.training.features import cache_features, drop_features
from brain_ray.training.loop import TrainState, is_over, train
from brain_ray.training.messages import Controller, Epoch, Message, Pace, Reservation, relayed
from brain_ray.training.results import summary, write_epoch, write_result
from brain_ray.training.tensorflow.backend import TensorflowWorkers
from brain_ray.training.tensorflow.devices import make_strategy, set_up
from brain_ray.training.tensorflow.learner import mode_of


def fit(run: Run, config: Config, say: Callable[[str], None] = print) -> str:
    """Train on a run's dataset, from its newest sound checkpoint on; returns a summary in a sentence.

    Writes into the run's folder train/: after each epoch a checkpoint, history.csv and numbers for
    TensorBoard; at the end best.npz (the best epoch's weights, "0", "1", ... in the order of
    `model.weights`) and result.json. `say` gets a line for each epoch; on a terminal there is a progress bar
    too.

    Raises:
        RunError: no dataset, more CPUs or GPUs asked for than there are or come, `use_gpu` where TensorFlow
            sees no GPU, settings that name something unknown, a storage that refuses to take what is written,
            any fault of the program, no epoch with a finite loss, workers that are lost again and again,
            MLflow asked for and not installed.
    """
    splits = {split: find_parts(run, split) for split in ("train", "valid")}
    make_room(config.train, say)
    probe(run)
    for fault in checkpoints.mend(run):
        say(f"passed over: {fault}")
    sources = _find_sources(run, with_absolute_paths(config), splits, say)
    with _shown(run, config, say) as take:
        drive(run, config, sources, take)
    with writing_to(run.uri("train")):
        checkpoints.prune(run, config.train.keep_checkpoints)
        drop_features(run)
    return summary(run)


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
    settings = config.train
    with (
        control.operator_of(run) as operator,
        relayed(take) as messages,
        room_for_loading(settings, f"loading of {run.uri()}"),
    ):
        trainer = DataParallelTrainer(
            _train_worker,
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
                callbacks=[_EndAtFaults(messages), Waiting(settings, messages)],
            ),
        )
        try:
            trainer.fit()
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            raise verdict(error, run, settings.max_failures) from error


@contextmanager
def _shown(run: Run, config: Config, say: Callable[[str], None]) -> Iterator[Callable[[Message], None]]:
    """Lend the function that takes what workers say: to people, to MLflow and to Prometheus."""
    with ExitStack() as stack:
        log = stack.enter_context(mlflow.mlflow_run(run, config, say))
        bar = stack.enter_context(ProgressBar(config.train.batch_size)) if on_a_terminal() else None

        def take(message: Message) -> None:
            match message:
                case Epoch(record, line, _):
                    say(line)
                    log(record)
                    metrics.epoch(run.name, record.metrics())
                case Position() if bar is not None:
                    bar.show(message)
                case str():
                    say(message)

        yield take


class _EndAtFaults(ray.train.UserCallback):  # type: ignore[misc]
    """Ends a training at what trying again does not cure, which Ray Train itself does not tell apart.

    It runs in Ray Train's controller, which gives up at once when a callback fails.
    """

    def __init__(self, messages: Queue) -> None:
        self._messages = messages

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        """Say which actor this is."""
        self._messages.put(Controller(ray.get_runtime_context().current_actor))

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, BaseException]) -> None:
        """Raise the fault among what ended the workers; if there is none, say what was lost."""
        fault = fault_of(worker_exceptions)
        if fault is not None:
            raise fault
        self._messages.put(loss_of(worker_exceptions))


def _find_sources(
    run: Run, config: Config, splits: dict[str, list[Part]], say: Callable[[str], None]
) -> Sources:
    settings, classes = config.train, config.data.classes
    counts = {split: count_labels(run, split, len(classes)) for split in splits}
    weights = class_weights(settings.class_weights, counts["train"], classes)
    mlflow.write_scalars(run, 0, split_weights(classes, counts, weights))
    features = {}
    if mode_of(config, 0) == "head on features":
        start = time.monotonic()
        with bounded("the features", partial(check_resources, settings), say):
            features = cache_features(run, config, splits, say=say)
        say(
            f"features of {sum(part.num_rows for split in splits.values() for part in split)} rows: "
            f"{time.monotonic() - start:.0f} s"
        )
    store = ray.remote(PartStore).options(num_cpus=0, max_restarts=-1, scheduling_strategy=on_this_node())
    return Sources(splits, features, weights, store.remote(run, 2 * settings.shuffle_window))


def _train_worker(task: dict[str, Any]) -> None:
    """Train as one of the workers; runs in a process of Ray Train."""
    run, settings, context = task["run"], task["config"].train, ray.train.get_context()
    if settings.elastic and context.get_world_rank() == 0:
        verb = "goes on" if checkpoints.checkpoint_folders(run) else "starts"
        task["messages"].put(f"{verb} with {context.get_world_size()} of {settings.max_workers} workers")
    try:
        _train(task)
    except Exception as error:
        raise judge(error) from None


def _train(task: dict[str, Any]) -> None:
    run: Run = task["run"]
    config: Config = task["config"]
    sources: Sources = task["sources"]
    operator, messages = task["operator"], task["messages"]
    context = ray.train.get_context()
    rank, num_workers = context.get_world_rank(), context.get_world_size()
    set_up(config.train, context.get_local_world_size())
    strategy = make_strategy(num_workers, use_gpu=config.train.use_gpu)
    state, _ = checkpoints.newest(run)
    if rank == 0:
        messages.put(Reservation(ray.util.get_current_placement_group()))

    def on_epoch(record: EpochRecord, line: str, state: TrainState) -> None:
        if rank != 0:
            ray.train.report(record.metrics())
            return
        with writing_to(run.uri("train")), tempfile.TemporaryDirectory() as folder:
            checkpoints.write(Path(folder), state)
            ray.train.report(record.metrics(), checkpoint=ray.train.Checkpoint.from_directory(folder))
        write_epoch(run, record, state)
        pace.epochs = config.train.total_epochs + state.orders.extra_epochs
        messages.put(Epoch(record, line, is_over(config.train, state)))
        operator.note.remote(line)

    def listen(orders: Orders) -> list[Word]:
        words: Any = ray.get(operator.words_since.remote(orders.heard)) if rank == 0 else None
        return list(ray.train.collective.broadcast_from_rank_zero(words) if num_workers > 1 else words)

    with closing(make_feed(config, sources, rank, num_workers)) as feed:
        shown = messages if rank == 0 and task["terminal"] else None
        pace = Pace(shown, config.train.total_epochs, feed.steps_per_epoch)
        kept = {"keep_answers": task["keep_answers"]}
        state = train(config, len(config.data.classes), feed, strategy, on_epoch, state, listen, pace, **kept)
    if rank == 0:
        write_result(run, config, state)


def with_absolute_paths(config: Config) -> Config:
    """Make paths absolute that workers read, since Ray changes their current folder."""
    weights = config.model.weights
    if weights not in ("imagenet", "none"):
        weights = resolve(weights)
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": weights})})
