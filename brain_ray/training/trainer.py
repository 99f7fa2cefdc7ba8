"""Training on Ray Train: workers, a checkpoint after every epoch, and a run that goes on where it stopped."""

import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.collective
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.queue import Queue

from brain_ray.config import Config, TrainConfig
from brain_ray.runs import Run, RunError, resolve
from brain_ray.training import checkpoints, control
from brain_ray.training.backend import TensorflowWorkers, make_strategy
from brain_ray.training.feed import Batch, epoch_order, num_steps, worker_steps
from brain_ray.training.history import EpochRecord, to_csv
from brain_ray.training.loading import LOADING_CPUS, Loader, Part, PartStore, find_parts
from brain_ray.training.loop import Feed, TrainState, train
from brain_ray.training.orders import Orders, Word

ERROR = "error.json"
"""Where a worker leaves an error that trying again does not cure."""


def fit(run: Run, config: Config, say: Callable[[str], None] = print) -> str:
    """Train on a run's dataset, from its newest sound checkpoint on; returns a summary in a sentence.

    Writes into the run's folder train/: a checkpoint after each epoch, and at the end history.csv, best.npz
    (the best epoch's weights, "0", "1", ... in the order of `model.weights`) and result.json. `say` gets a
    line for each epoch.

    Raises:
        RunError: no dataset, more CPUs or GPUs asked for than there are, settings that name something
            unknown, no epoch with a finite loss, workers that fail again and again.
    """
    splits = {split: find_parts(run, split) for split in ("train", "valid")}
    check_resources(config.train)
    for fault in checkpoints.mend(run):
        say(f"passed over: {fault}")
    if run.exists("train", ERROR):
        run.fs.delete_file(run.path("train", ERROR))
    settings = config.train
    store = (
        ray.remote(PartStore).options(num_cpus=0, max_restarts=-1).remote(run, 2 * settings.shuffle_window)
    )
    with control.operator_of(run) as operator, _relayed(say) as lines:
        trainer = DataParallelTrainer(
            _train_worker,
            backend_config=TensorflowWorkers(),
            train_loop_config={
                "run": run,
                "config": _with_absolute_paths(config),
                "splits": splits,
                "store": store,
                "lines": lines,
                "operator": operator,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=settings.num_workers,
                use_gpu=settings.use_gpu,
                resources_per_worker={"CPU": settings.cpus_per_worker},
            ),
            run_config=ray.train.RunConfig(
                name="train",
                storage_path=run.path().rstrip("/"),
                storage_filesystem=run.fs,
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=settings.keep_checkpoints),
                failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            ),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise RunError(_failure(error, settings.max_failures)) from error
    if run.exists("train", ERROR):
        raise RunError(run.read_json("train", ERROR)["error"])
    checkpoints.prune(run, settings.keep_checkpoints)
    return _summary(run)


def check_resources(settings: TrainConfig) -> None:
    """Make sure that all workers can run at once, and loading beside them: Ray would wait for ever.

    Raises:
        RunError: they cannot.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = sum(node.get("CPU", 0.0) for node in nodes)
    gpus = sum(node.get("GPU", 0.0) for node in nodes)

    def places(node: dict[str, float], kept_free: float = 0.0) -> int:
        by_cpu = int((node.get("CPU", 0.0) - kept_free) // settings.cpus_per_worker)
        return max(0, min(by_cpu, int(node.get("GPU", 0.0)) if settings.use_gpu else by_cpu))

    everywhere = sum(places(node) for node in nodes)
    for node in nodes:  # which of them could load?
        beside = everywhere - places(node) + places(node, kept_free=LOADING_CPUS)
        if node.get("CPU", 0.0) >= LOADING_CPUS and beside >= settings.num_workers:
            return
    asked = f"{settings.num_workers} x {settings.cpus_per_worker:g} CPUs"
    found = f"{cpus:g} CPUs"
    cure = "train.num_workers or train.cpus_per_worker"
    if settings.use_gpu:
        asked += f" and {settings.num_workers} GPUs"
        found += f" and {gpus:g} GPUs"
        cure += ", set train.use_gpu to false"
    raise RunError(
        f"the cluster has {found} on {len(nodes)} node(s), and training asks for {asked} for its workers and "
        f"{LOADING_CPUS:g} CPUs on one node for loading: lower {cure}, or add nodes"
    )


def _train_worker(task: dict[str, Any]) -> None:
    """Train as one of the workers; runs in a process of Ray Train."""
    run: Run = task["run"]
    if run.exists("train", ERROR):
        return  # Ray tries again after every error, and this one would come back
    try:
        _train(run, task["config"], task["splits"], task["store"], task["lines"], task["operator"])
    except RunError as error:
        run.write_json({"error": str(error)}, "train", ERROR)
        raise


def _train(
    run: Run, config: Config, splits: dict[str, list[Part]], store: Any, lines: Queue, operator: Any
) -> None:
    context = ray.train.get_context()
    rank, num_workers = context.get_world_rank(), context.get_world_size()
    shared = context.get_local_world_size() > 1
    strategy = make_strategy(num_workers, threads=max(1, int(config.train.cpus_per_worker)) if shared else 0)
    state, _ = checkpoints.newest(run)

    def on_epoch(record: EpochRecord, line: str, state: TrainState) -> None:
        if rank != 0:
            ray.train.report(record.metrics())
            return
        with tempfile.TemporaryDirectory() as folder:
            checkpoints.write(Path(folder), state)
            ray.train.report(record.metrics(), checkpoint=ray.train.Checkpoint.from_directory(folder))
        lines.put(line)
        operator.note.remote(line)

    def listen(orders: Orders) -> list[Word]:
        words: Any = ray.get(operator.words_since.remote(orders.heard)) if rank == 0 else None
        return list(ray.train.collective.broadcast_from_rank_zero(words) if num_workers > 1 else words)

    feed = _feed(config, splits, store, rank, num_workers)
    state = train(config, len(config.data.classes), feed, strategy, on_epoch, state, listen)
    if rank == 0:
        _write_results(run, config, state)


def _feed(config: Config, splits: dict[str, list[Part]], store: Any, rank: int, num_workers: int) -> Feed:
    """Say where a worker's batches come from."""
    batch_size = config.train.batch_size
    counts = {split: [part.num_rows for part in parts] for split, parts in splits.items()}
    loaders = {split: Loader(config, parts, store) for split, parts in splits.items()}

    def train_batches(epoch: int) -> Iterable[Batch]:
        order = epoch_order(counts["train"], config.seed, epoch, config.train.shuffle_window)
        return loaders["train"].batches(worker_steps(order, batch_size, rank, num_workers), epoch)

    def valid_batches() -> Iterable[Batch]:
        order = np.arange(sum(counts["valid"]))
        return loaders["valid"].batches(worker_steps(order, batch_size, rank, num_workers), None)

    return Feed(rank, num_steps(sum(counts["train"]), batch_size), train_batches, valid_batches)


def _write_results(run: Run, config: Config, state: TrainState) -> None:
    run.write_bytes(to_csv(state.history), "train", "history.csv")
    run.write_bytes(checkpoints.pack({str(i): w for i, w in enumerate(state.best)}), "train", "best.npz")
    best = [record for record in state.history if record.best][-1:]
    result = {
        "best_epoch": state.dwell.best_epoch,
        "epochs": state.epoch,
        "monitor": config.train.monitor,
        "value": state.dwell.lowest,
        "val_accuracy": best[0].val_accuracy if best else None,
        "seconds": sum(record.seconds for record in state.history),
        "backbone": config.model.backbone,
    }
    run.write_json(result, "train", "result.json")


def _summary(run: Run) -> str:
    result = run.read_json("train", "result.json")
    if not result["best_epoch"]:
        raise RunError(
            f"none of {result['epochs']} epochs ended with a finite loss: lower train.learning_rate, or set "
            "train.clip_norm"
        )
    return (
        f"best epoch {result['best_epoch']} of {result['epochs']}: "
        f"{result['monitor']} {result['value']:.4f}, val_accuracy {result['val_accuracy']:.4f}"
    )


@contextmanager
def _relayed(say: Callable[[str], None]) -> Iterator[Queue]:
    """Give out a queue for workers, whose lines are said in this process, without Ray's prefixes."""
    lines = Queue(actor_options={"num_cpus": 0})

    def relay() -> None:
        while (line := lines.get()) is not None:
            say(line)

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        lines.put(None)
        thread.join()
        lines.shutdown()


def _with_absolute_paths(config: Config) -> Config:
    """Make paths absolute that workers read, since Ray changes their current folder."""
    weights = config.model.weights
    if weights not in ("imagenet", "none"):
        weights = resolve(weights)
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": weights})})


def _failure(error: ray.train.TrainingFailedError, max_failures: int) -> str:
    """Say in a line why Ray Train gave up."""
    failures: Sequence[BaseException] = list(getattr(error, "worker_failures", {}).values())
    if not failures:
        return f"training failed: {str(error).strip().splitlines()[-1]}"
    last = str(failures[0]).strip().splitlines()[-1]
    return f"training failed and was resumed {max_failures} times; then a worker ended with: {last}"
