"""What one worker of a training does, and the way from an epoch to its files, in Ray Train and Ray Tune."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.collective

from brain_ray.config import Config
from brain_ray.loading.dispatcher import start_dispatcher
from brain_ray.loading.feed import Sources, make_feed
from brain_ray.loading.loader import ImageLoader
from brain_ray.runs import TRAIN, Run
from brain_ray.training import checkpoints
from brain_ray.training.commands import Command, ControlState
from brain_ray.training.epoch import Keeping
from brain_ray.training.failures import classify_error, naming_storage
from brain_ray.training.framework import Framework
from brain_ray.training.loop import OnStep, PollCommands, epochs, is_over
from brain_ray.training.messages import Epoch, ProgressSender, Reservation
from brain_ray.training.reporting import Reporter
from brain_ray.training.results import write_epoch, write_result
from brain_ray.training.run_actor import Outbox
from brain_ray.training.setups import Setup, note_setup
from brain_ray.training.state import FinishedEpoch, TrainState


@dataclass(frozen=True)
class Task:
    """What all workers of a training are given by Ray Train."""

    run: Run
    config: Config
    """With absolute paths."""
    framework: Framework
    sources: Sources
    actor: Any
    """Handle of the `RunActor`."""
    terminal: bool
    """The driver shows a progress bar."""
    keep_val_probabilities: bool

    @property
    def messages(self) -> Outbox:
        """Where messages to the driver are put."""
        return Outbox(self.actor)


def run_epochs(
    run: Run,
    config: Config,
    framework: Framework,
    find_sources: Callable[[], Sources],
    save_checkpoint: Callable[[TrainState], None],
    poll_commands: PollCommands = lambda _: (),
    on_step: OnStep = lambda *_: None,
    noticed: Callable[[], bool] = lambda: False,
    *,
    rank: int = 0,
    num_workers: int = 1,
    processes: int = 1,
    keep_val_probabilities: bool = False,
) -> Iterator[FinishedEpoch]:
    """Trains as one of the workers, from the run's newest sound checkpoint on; yields each kept epoch.

    At the start rank 0 notes what it runs on in setups.json. After each epoch it writes history.csv, the
    numbers for TensorBoard and, where they are kept, the validation rows' probabilities, and every worker
    calls `save_checkpoint`, as also within long epochs; after the last, rank 0 writes best.npz and
    result.json. A run that is over already has these two written anew, and builds no network.

    Args:
        run: where checkpoints are looked for and files are written.
        config: with absolute paths.
        framework: makes the learner.
        find_sources: called if there is an epoch to train.
        save_checkpoint: keeps the state where the run's newest checkpoint is looked for.
        poll_commands: returns the operator's new commands, the same to every worker.
        on_step: called after each step with the finished epochs and the finished steps of this one.
        noticed: tells whether a worker's machine is about to be taken away; every worker calls it alike.
        rank: of this worker.
        num_workers: of the training.
        processes: on this node that train at the same time.
        keep_val_probabilities: of the best epoch.

    Raises:
        RunError: settings that name something unknown, `use_gpu` without a GPU, a storage that refuses.
    """

    def save(state: TrainState) -> None:
        with naming_storage(run.uri(TRAIN)):
            save_checkpoint(state)

    state, _ = checkpoints.newest(run)
    if state is None or not is_over(config.train, state):
        sources = find_sources()
        precision = framework.set_up(config.train, processes)
        learner = framework.make_learner(
            _resumed(config, state), len(config.data.classes), rank, num_workers, sources.class_weights
        )
        if rank == 0:
            first, share = (state.epoch if state else 0) + 1, -(-config.train.step_images // num_workers)
            note_setup(run, Setup(first, num_workers, share, framework.device(), precision))
        with closing(make_feed(config, sources, rank, num_workers)) as feed:
            for finished in epochs(
                config,
                learner,
                feed,
                state,
                poll_commands,
                on_step,
                Keeping(save, noticed),
                keep_val_probabilities=keep_val_probabilities,
            ):
                state = finished.state
                with naming_storage(run.uri(TRAIN)):
                    if rank == 0:  # before the checkpoint, after which the epoch is not trained again
                        write_epoch(run, finished.record, state)
                save(state)
                yield finished
    if rank == 0:
        assert state is not None  # there is one epoch at least, or a state that says that all are done
        write_result(run, config, state)


def _resumed(config: Config, state: TrainState | None) -> Config:
    """Returns settings whose network starts without weights if a state's are loaded over them."""
    if state is None:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": "none"})})


def train_worker_task(config: dict[str, Task]) -> None:
    """Trains as one of the workers; runs in a process of Ray Train, which gives it `task` in a dictionary."""
    task = config["task"]
    settings, context = task.config.train, ray.train.get_context()
    if settings.elastic and context.get_world_rank() == 0:
        verb = "goes on" if checkpoints.checkpoint_folders(task.run) else "starts"
        task.messages.put(f"{verb} with {context.get_world_size()} of {settings.max_workers} workers")
    try:
        _train(task)
    except Exception as error:
        raise classify_error(error) from None


def _train(task: Task) -> None:
    config, context = task.config, ray.train.get_context()
    rank, num_workers = context.get_world_rank(), context.get_world_size()
    if rank == 0:
        task.messages.put(Reservation(ray.util.get_current_placement_group()))
    progress = ProgressSender(
        task.messages if rank == 0 and task.terminal else None,
        config.train.total_epochs,
        task.sources.steps_per_epoch(config.train),
    )

    sources = task.sources
    if num_workers > 1:
        loaders = {split: ImageLoader(config, rows, sources.store) for split, rows in sources.images.items()}
        dispatcher = start_dispatcher(loaders, num_workers) if rank == 0 else None
        sources = replace(sources, dispatcher=ray.train.collective.broadcast_from_rank_zero(dispatcher))

    def poll_commands(control: ControlState) -> list[Command]:
        commands: Any = ray.get(task.actor.commands_since.remote(control.heard)) if rank == 0 else None
        return list(ray.train.collective.broadcast_from_rank_zero(commands) if num_workers > 1 else commands)

    warned = False

    def noticed() -> bool:
        nonlocal warned
        notice = ray.train.get_preemption_info()
        if notice is not None and rank == 0 and not warned:
            warned = True
            ranks = ", ".join(map(str, notice.preempted_ranks))
            task.messages.put(
                f"the machine of worker {ranks} is about to go: the state is kept within the epoch"
            )
        return notice is not None

    def tell(finished: FinishedEpoch) -> None:
        task.actor.note.remote(finished.line)  # first: whoever has read the line may ask for the status
        task.messages.put(Epoch(finished.record, finished.line, finished.last))

    reporter = Reporter(task.run, config.train)
    for finished in run_epochs(
        task.run,
        config,
        task.framework,
        lambda: sources,
        reporter.report,
        poll_commands,
        progress,
        noticed,
        rank=rank,
        num_workers=num_workers,
        processes=context.get_local_world_size(),
        keep_val_probabilities=task.keep_val_probabilities,
    ):
        if rank == 0:
            progress.epochs = config.train.total_epochs + finished.state.control.extra_epochs
            reporter.when_kept(partial(tell, finished))  # so that no epoch is trained again that was told of
