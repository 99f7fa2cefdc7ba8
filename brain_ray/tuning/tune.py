"""Stage sweep: trains the trials of a search space with Ray Tune; resumes after an interruption."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial

import ray
import ray.tune

from brain_ray.cluster.autoscaling import (
    ask_for_trials,
    check_now_or_later,
    nodes_to_come,
    request_nodes,
)
from brain_ray.cluster.capacity import (
    Nodes,
    check_resources,
    room_for_trials,
    running_nodes,
    trials_at_a_time,
)
from brain_ray.cluster.private import memory_kills_end_trials
from brain_ray.cluster.waiting import give_up_without_nodes
from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.logs import log
from brain_ray.runs import SHARED_FEATURES, SWEEP, Run
from brain_ray.storage_for_ray import patient
from brain_ray.tracking.progress_bar import on_a_terminal
from brain_ray.training.failures import check_writable
from brain_ray.training.framework import Framework, framework_of
from brain_ray.training.sources import Dataset, open_dataset
from brain_ray.tuning.kept_weights import delete_unneeded
from brain_ray.tuning.nodes_on_demand import NodesOnDemand
from brain_ray.tuning.reporter import Reporter
from brain_ray.tuning.schedulers import Scheduler, make_scheduler
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.searcher import TrialSearcher
from brain_ray.tuning.trainable import Shared, TrialProcess
from brain_ray.tuning.trial_store import (
    read_trials,
    trial_run,
    write_rungs,
)
from brain_ray.tuning.trial_table import TrialTable
from brain_ray.tuning.trials import TrialRecord

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # trials write their own event files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends it at once: nothing is lost
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nothing reads Tune's own state
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "31536000",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Environment of the process that drives Ray Tune."""

DRIVER_CPUS = 0.01
"""CPUs of a trial that trains with Ray Train's workers: its own process only waits for them."""


def tune(run: Run, space: SearchSpace, framework: Framework | None = None) -> str:
    """Trains all trials of a sweep on a run's dataset; returns a summary in a sentence.

    Writes into the run's folder sweep/: trials/<id>/ for each trial, a run of its own with the files of a
    training in its train/; features/, which trials share until all have ended; and rungs.json. Ended trials
    are not trained again; interrupted ones continue from their newest checkpoint. Trials train in the
    framework of the backbone's row in `BACKBONES`, if none is given.

    Raises:
        RunError: no dataset, no room for a trial, Optuna set and not installed, a storage that refuses
            writes, a trial's TensorFlow that sees no GPU though `use_gpu` is set, no trial that finished, or
            nodes that were lost and did not come back.
    """
    config = space.config
    # For the first trial alone: the others' processes wait for nodes, and with that start them.
    request_nodes(config.train)
    running, to_come = running_nodes(), nodes_to_come() if config.train.use_gpu else ()
    now, later = trials_at_a_time(config, running, to_come)
    by_group = config.train.rows_per_group is not None or "train.rows_per_group" in space.names
    dataset = open_dataset(run, config, by_group=by_group)
    if dataset.folds is not None:
        space = replace(space, folds=dataset.folds.left_out_by(config))
    most = min(later, space.size)
    shared = _share(
        run, config, dataset, framework or framework_of(config.model), most, [*running, *(to_come or ())]
    )
    check_writable(trial_run(run, "probe"))
    with suppress(OSError):  # a bucket's folder vanishes with its only file
        run.fs.delete_dir(trial_run(run, "probe").path())
    records = read_trials(run, val_probabilities=False)
    delete_unneeded(run, space, records)
    scheduler = make_scheduler(space)
    scheduler.remember(records)
    searcher = TrialSearcher(run, space, records)
    log.info(_opening(searcher, config, now, most))
    if searcher.left:
        with TrialTable(searcher.total) if on_a_terminal() else nullcontext() as table:
            reporter = Reporter(run, space, searcher, records, scheduler, table)
            room = partial(check_now_or_later, partial(check_resources, config.train), "the sweep")
            with give_up_without_nodes("the sweep", room):
                _tune(run, config, shared, most, searcher, scheduler, reporter)
    run.remove(*SHARED_FEATURES)
    write_rungs(run, scheduler.rungs())
    return _summary(run, read_trials(run, val_probabilities=False))


def _share(
    run: Run, config: Config, dataset: Dataset, framework: Framework, most: int, nodes: Nodes
) -> Shared:
    """Returns the objects that the trials share, of which `most` run at a time on some nodes."""
    on_a_node = (room_for_trials(config.train, config.sweep.trials_per_gpu, [node]) for node in nodes)
    return Shared(
        run=run,
        dataset=dataset,
        framework=framework,
        workers=config.train.max_workers,
        processes=min(most, max(1, *on_a_node)),
        silence_seconds=60 * config.sweep.silence_minutes,
    )


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _tune(
    run: Run,
    config: Config,
    shared: Shared,
    most: int,
    searcher: TrialSearcher,
    scheduler: Scheduler,
    reporter: Reporter,
) -> None:
    settings, alone = config.train, config.train.max_workers == 1
    resources = {"cpu": settings.cpus_per_worker if alone else DRIVER_CPUS}
    if settings.use_gpu and alone:
        resources["gpu"] = 1 / config.sweep.trials_per_gpu
    # With several workers, each trial's Ray Train asks for nodes itself: two wishes would add up.
    wish = {name.upper(): amount for name, amount in resources.items()}
    nodes = NodesOnDemand(ask_for_trials(wish, most)) if alone else None
    with _environment(TUNE_ENVIRONMENT), memory_kills_end_trials():
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(ray.tune.with_parameters(TrialProcess, shared=shared), resources),
            tune_config=ray.tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=searcher.left,
                max_concurrent_trials=most,
                # The process of a stopped trial still has workers of Ray Train.
                reuse_actors=alone,
                trial_dirname_creator=lambda trial: str(trial.config["trial"]),
            ),
            run_config=ray.tune.RunConfig(
                name="tune",
                storage_path=run.path(SWEEP),
                storage_filesystem=patient(run.fs),
                checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),  # trials keep their own
                failure_config=ray.tune.FailureConfig(max_failures=-1),  # the reporter gives trials up
                callbacks=[reporter, *([] if nodes is None else [nodes])],
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except ray.tune.TuneError as error:  # its text is the trace of the callback's error
            if isinstance(error.__context__, RunError):
                raise error.__context__ from None
            raise
        finally:
            if nodes is not None:
                nodes.close()
            with suppress(OSError):
                run.fs.delete_dir(run.path(SWEEP, "tune"))


def _opening(searcher: TrialSearcher, config: Config, now: int, most: int) -> str:
    done = searcher.total - searcher.left
    some = searcher.may_end_early and config.sweep.scheduler != "none" and searcher.left
    before = f", {done} of them done already" if done else ""
    later = f" now, {most} when more nodes are there" if most > now < searcher.left else ""
    return f"{'up to ' if some else ''}{searcher.total} trials{before}, {now} at a time{later}"


def _summary(run: Run, records: Sequence[TrialRecord]) -> str:
    by_status = Counter(record.status for record in records)
    counted = ", ".join(f"{count} {status}" for status, count in sorted(by_status.items()))
    text = f"{len(records)} trials: {counted}"
    if not by_status["finished"]:
        reasons = sorted({record.reason for record in records if record.reason})[:3]
        raise RunError(f"no trial of {run.uri(SWEEP)} has finished ({text}); {'; '.join(reasons)}")
    return text
