"""Runs the stages of a run in order; a complete stage whose inputs did not change is not repeated."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from brain_ray import __version__, kept
from brain_ray.checks.locations import refuse_wrong_paths
from brain_ray.checks.preflight import preflight
from brain_ray.cli import describe
from brain_ray.cluster import connection
from brain_ray.config import Config
from brain_ray.data.sources.find import Source, given_source
from brain_ray.earlier import as_begun, as_of_now, as_prepared
from brain_ray.errors import RunError
from brain_ray.fingerprints import differences, flatten
from brain_ray.logs import log, log_context
from brain_ray.runs import (
    CONFIG,
    DATASET,
    FOLDS_PAGE,
    KEPT,
    REPORT,
    REPORT_PAGE,
    STARTED,
    SWEEP,
    TRAIN,
    Run,
)
from brain_ray.stages import STAGES, TRAINED, Stage, prepare_stage, sweep_stage
from brain_ray.tracking import prometheus
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.versions import versions

PACKAGES = ("ray", "tensorflow", "keras", "numpy", "opencv-python-headless", "onnxruntime")


def as_sweep(config: Config) -> Config | None:
    """Returns the settings of a sweep of one variant, whose trials are the folds or the seeds that a run asks
    for; None: it asks for one training.

    Raises:
        RunError: all models are to be averaged, and there is one.
    """
    sweep, members = config.sweep, config.export.members
    if members == "models":
        raise RunError(
            "export.members is models, and one model is trained: compare several by jobs/tune.py, or "
            "pipeline.py --tune"
        )
    over_folds = config.folds is not None and config.train.fold is None
    if sweep.seeds == 1 and (members == "seeds" or (members == "all" and not over_folds)):
        raise RunError(
            f"export.members is {members}, and one model is trained: set --sweep.seeds"
            + (", or train over --folds" if members == "all" else "")
        )
    if not over_folds and members in ("best", 1):
        return None
    seeds = max(sweep.seeds, members) if isinstance(members, int) and not over_folds else sweep.seeds
    return config.model_copy(update={"sweep": sweep.model_copy(update={"space": (), "seeds": seeds})})


def run_stages(config: Config, names: Sequence[str] = TRAINED) -> None:
    """Runs the named stages in order; logs which are complete already, and why others are not.

    Cheap checks come first: whether the cluster, on each of its nodes, meets the stages' needs. Before a
    stage deletes anything, they cover all stages from it on.

    Raises:
        RunError: a failed check of `preflight`, an error of a stage, or a stage before the named ones is not
            complete.
    """
    source = given_source(config.data)
    stages = {"prepare": prepare_stage(source), **STAGES}
    if "sweep" in names:  # an error in its search space is raised before any work
        stages["sweep"] = sweep_stage(SearchSpace.parse(config))
    run = Run(config.storage, config.name)
    with log_context(config.name):
        log.info(f"brain_ray {__version__}  run {config.name}  {run.uri()}")
        log.info(describe(config))
        checked = {name for name in names if run.finished(stages[name].folder) is None}
        if names[0] != "prepare":
            stages[names[0]].inputs(run, config)  # left by the stages before it
        if connection.starts_here():
            refuse_wrong_paths(run, config, checked, source)
        connection.connect()
        preflight(run, config, checked, source)
        _store(run, config)
        for k, name in enumerate(names):
            if name != "prepare":
                config = as_prepared(run, config)
            # Only when the stages before it are complete is it known whether a finished stage must be
            # repeated.
            check = partial(_check_rest, run, config, names[k:], checked, source)
            with log_context(name), prometheus.stage(run.name, name):
                run_stage(stages[name], run, config, check)
        log.info("")
        if "choose" in names:
            log.info(f"sweep:  {run.uri('report', 'sweep.html')}")
            if run.exists(REPORT, FOLDS_PAGE):
                log.info(f"folds:  {run.uri(REPORT, FOLDS_PAGE)}")
            log.info(f"winner: {run.uri('bundle')}")
        if run.finished(REPORT) is not None and run.exists(*REPORT_PAGE):
            log.info(f"report: {run.uri('report', 'report.html')}")


def _check_rest(
    run: Run, config: Config, names: Sequence[str], checked: set[str], source: Source | None
) -> None:
    """Runs the cheap checks of those stages that are not in `checked`, and adds them to it."""
    preflight(run, config, set(names) - checked, source)
    checked |= set(names)


def run_stage(stage: Stage, run: Run, config: Config, check: Callable[[], None]) -> None:
    """Runs a stage unless it is complete and unchanged; calls `check` before anything is deleted."""
    inputs = json.loads(json.dumps(stage.inputs(run, config)))

    def differ(stored: Mapping[str, Any]) -> list[str]:
        return differences(as_of_now(stored, inputs), flatten(inputs))

    before = run.finished(stage.folder)
    changed = stage.changes(run, config, as_of_now(before, inputs), flatten(inputs)) if before else []
    if before is not None and not changed:
        log.info(f"\n{stage.name}: complete and unchanged, not done again")
        return
    started = run.read_json(stage.folder, STARTED) if run.exists(stage.folder, STARTED) else None
    resumed = stage.resumes and before is None and started is not None and not differ(started)
    if not resumed:
        name = kept.find(run, stage.folder, lambda stored: not differ(stored), finished=not stage.resumes)
        if name is not None:
            kept.put_aside(run, stage.folder)
            kept.restore(run, stage.folder, name)
            log.info(f"\n{stage.name}: takes up what was kept in {run.uri(KEPT, name)}")
            run_stage(stage, run, config, check)
            return
        if before is None and started is not None:
            changed = differ(started)
    log.info(f"\n{stage.name}{_reason(before, started, changed, resumed)}")
    check()
    clock = time.monotonic()
    if not resumed:
        _warn(stage, run)
        kept.put_aside(run, stage.folder)
        run.clear(stage.folder)
        run.write_json(inputs, stage.folder, STARTED)
    elif started is not None:
        inputs, begun = started, as_begun(config, started)  # stored as they are: complete and unchanged later
        if begun != config:
            known = differences(config.model_dump(mode="json"), begun.model_dump(mode="json"))
            log.info(f"as an earlier version began it, which had other defaults: {'; '.join(known)}")
        config = begun
    text = stage.work(run, config)
    seconds = time.monotonic() - clock
    run.finish(stage.folder, inputs, seconds)
    log.info(f"{text}\n{stage.name}: {seconds:.0f} s, {run.uri(stage.folder)}")
    for place in kept.remove_all(run, stage.folder):
        log.info(f"no longer kept: {place}")


def _warn(stage: Stage, run: Run) -> None:
    """Logs what happens to trainings on a data set that is prepared again."""
    if stage.folder != DATASET:
        return
    for folder in (TRAIN, SWEEP):
        work = kept.work_in(run, folder)
        if work.is_worth_keeping and kept.inputs_of(run, folder) is not None:
            log.info(
                f"{work} of {folder}/ were trained on the data set as it was: they stay if its rows come out "
                f"the same, else they are kept in {run.uri(KEPT)} until a training on the new ones is "
                "finished; take the change back before, and the run goes on with them"
            )


def _reason(
    before: Mapping[str, Any] | None, started: Mapping[str, Any] | None, changed: list[str], resumed: bool
) -> str:
    if before is not None:
        return ": again, changed: " + "; ".join(changed)
    if resumed:
        return ": goes on where it was interrupted"
    if started is not None:
        return ": again, it was interrupted" + (f" and changed: {'; '.join(changed)}" if changed else "")
    return ""


def _store(run: Run, config: Config) -> None:
    value = {
        "config": config.model_dump(mode="json"),
        "versions": versions(PACKAGES),
        "git": _git_revision(),
    }
    run.write_json(value, *CONFIG)


def _git_revision() -> str | None:
    """Returns the Git revision of the checkout that contains the package; None outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None
