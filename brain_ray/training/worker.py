"""What one worker of a training does."""

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.collective

from brain_ray.config import Config
from brain_ray.loading.feed import Sources, make_feed
from brain_ray.runs import TRAIN, Run
from brain_ray.storage import resolve
from brain_ray.tracking.history import EpochRecord
from brain_ray.training import checkpoints
from brain_ray.training.commands import Orders, Word
from brain_ray.training.failures import judge, writing_to
from brain_ray.training.loop import is_over, train
from brain_ray.training.messages import Epoch, Pace, Reservation
from brain_ray.training.results import write_epoch, write_result
from brain_ray.training.state import TrainState
from brain_ray.training.tensorflow.devices import make_strategy, set_up


def train_worker_task(task: dict[str, Any]) -> None:
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
        with writing_to(run.uri(TRAIN)), tempfile.TemporaryDirectory() as folder:
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
