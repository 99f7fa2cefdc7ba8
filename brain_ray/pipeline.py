"""Stages of a run, in order; a complete stage whose inputs did not change is not repeated."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from brain_ray import __version__, kept
from brain_ray.bundle import export
from brain_ray.checks.locations import refuse_wrong_paths
from brain_ray.checks.preflight import preflight
from brain_ray.cli import describe
from brain_ray.cluster import connection
from brain_ray.cluster.autoscaling import check_now_or_later
from brain_ray.cluster.capacity import refuse_preparing, refuse_scoring
from brain_ray.cluster.waiting import give_up_without_nodes
from brain_ray.comparison.choose import choose, settings_of, show_pages
from brain_ray.config import Config
from brain_ray.data import prepare, source_changes
from brain_ray.evaluation import evaluate
from brain_ray.fingerprints import differences, digest, flatten
from brain_ray.logs import log, log_context
from brain_ray.runs import (
    BUNDLE,
    BUNDLE_INFO,
    CONFIG,
    DATASET,
    KEPT,
    REPORT,
    STARTED,
    SWEEP,
    TRAIN,
    Run,
)
from brain_ray.tracking import prometheus
from brain_ray.tracking.mlflow import log_bundle
from brain_ray.training import train
from brain_ray.tuning import tune
from brain_ray.tuning.search_space import MACHINES, SearchSpace
from brain_ray.versions import versions

PACKAGES = ("ray", "tensorflow", "keras", "numpy", "opencv-python-headless", "onnxruntime")


@dataclass(frozen=True)
class Stage:
    """A stage of a run: its inputs, its work, and the folder that it fills."""

    name: str
    folder: str
    inputs: Callable[[Run, Config], Mapping[str, Any]]
    work: Callable[[Run, Config], str]
    resumes: bool = False
    """Whether an unfinished stage with the same inputs continues instead of starting over."""
    changes: Callable[[Run, Config, Mapping[str, Any], Mapping[str, Any]], list[str]] = (
        lambda run, config, before, now: differences(before, now)
    )
    """Returns a line for each difference between a finished stage's inputs and the current ones, both
    flattened."""


def _train_inputs(run: Run, config: Config) -> dict[str, Any]:
    # Other workers or devices are no reason to train again, though the result may depend on them: batch norms
    # that learn and dropout use each worker's own rows, and the precision follows the device.
    machines = {name.removeprefix("train.") for name in MACHINES}
    return {
        "dataset": prepare.id_of(run),
        "seed": config.seed,
        "model": config.model.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json", exclude=machines),
    }


CHOOSING = {"choice", "confidence", "bootstrap"}
"""Settings of the sweep on which its trials do not depend."""


def _sweep_inputs(run: Run, config: Config) -> dict[str, Any]:
    machines = {"max_concurrent", "trials_per_gpu", "max_failures", "silence_minutes"}
    trials = config.sweep.model_dump(mode="json", exclude=machines | CHOOSING)
    return {**_train_inputs(run, config), "sweep": trials}


def _choose_inputs(run: Run, config: Config) -> dict[str, Any]:
    return {
        "sweep": digest(run.require(SWEEP, "tune")),
        "choice": config.sweep.model_dump(mode="json", include=CHOOSING),
    }


def _export_inputs(run: Run, config: Config) -> dict[str, Any]:
    return {"train": digest(run.require(TRAIN, "train")), "export": config.export.model_dump(mode="json")}


def _evaluate_inputs(run: Run, config: Config) -> dict[str, Any]:
    run.require(BUNDLE, "export")
    return {
        "model": run.read_json(*BUNDLE_INFO)["files"]["model.onnx"],
        "dataset": prepare.id_of(run),
        "evaluate": config.evaluate.model_dump(mode="json"),
    }


def _prepare(run: Run, config: Config) -> str:
    with give_up_without_nodes("preparation", partial(check_now_or_later, refuse_preparing, "preparation")):
        return prepare.prepare(run, config)


def _data_changes(run: Run, config: Config, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    what = "the comparison of files"
    with give_up_without_nodes(what, partial(check_now_or_later, refuse_preparing, what)):
        changed = source_changes.find_changes(run, config, before, now)
    if changed:
        prepare.keep_id(run)
    return changed


def _export(run: Run, config: Config) -> str:
    config = settings_of(run, config)
    text = export.publish(run, config)
    log_bundle(run, config)
    return text


def _evaluate(run: Run, config: Config) -> str:
    refuse = partial(refuse_scoring, config.evaluate)
    with give_up_without_nodes("evaluation", partial(check_now_or_later, refuse, "evaluation")):
        text = evaluate.evaluate(run, settings_of(run, config))
    show_pages(run)
    return text


STAGES = {
    stage.name: stage
    for stage in (
        Stage("prepare", DATASET, prepare.inputs_of, _prepare, changes=_data_changes),
        Stage("train", TRAIN, _train_inputs, train.train, resumes=True),
        Stage("choose", TRAIN, _choose_inputs, choose),
        Stage("export", BUNDLE, _export_inputs, _export),
        Stage("evaluate", REPORT, _evaluate_inputs, _evaluate),
    )
}


def _sweep_stage(space: SearchSpace) -> Stage:
    return Stage("sweep", SWEEP, _sweep_inputs, lambda run, _: tune.tune(run, space), resumes=True)


TRAINED = ("prepare", "train", "export", "evaluate")
"""Stages from images to a report."""

TUNED = ("prepare", "sweep", "choose", "export", "evaluate")
"""Stages from images to a report, with a sweep in place of the single training."""

COMPARED = TUNED[:-1]
"""Stages from images to the bundle of a sweep's winner."""


def run_stages(config: Config, names: Sequence[str] = TRAINED) -> None:
    """Runs the named stages in order; logs which are complete already, and why others are not.

    Cheap checks come first: whether the cluster, on each of its nodes, meets the stages' needs. Before a
    stage deletes anything, they cover all stages from it on.

    Raises:
        RunError: a failed check of `preflight`, an error of a stage, or a stage before the named ones is not
            complete.
    """
    stages = dict(STAGES)
    if "sweep" in names:  # an error in its search space is raised before any work
        stages["sweep"] = _sweep_stage(SearchSpace.parse(config))
    run = Run(config.storage, config.name)
    with log_context(config.name):
        log.info(f"brain_ray {__version__}  run {config.name}  {run.uri()}")
        log.info(describe(config))
        checked = {name for name in names if run.finished(stages[name].folder) is None}
        if names[0] != "prepare":
            stages[names[0]].inputs(run, config)  # left by the stages before it
        if connection.starts_here():
            refuse_wrong_paths(run, config, checked)
        connection.connect()
        preflight(run, config, checked)
        _store(run, config)
        for k, name in enumerate(names):
            # Only when the stages before it are complete is it known whether a finished stage must be
            # repeated.
            check = partial(_check_rest, run, config, names[k:], checked)
            with log_context(name), prometheus.stage(run.name, name):
                _run_stage(stages[name], run, config, check)
        log.info("")
        if "choose" in names:
            log.info(f"sweep:  {run.uri('report', 'sweep.html')}")
            log.info(f"winner: {run.uri('bundle')}")
        if run.finished(REPORT) is not None:
            log.info(f"report: {run.uri('report', 'report.html')}")


def _check_rest(run: Run, config: Config, names: Sequence[str], checked: set[str]) -> None:
    """Runs the cheap checks of those stages that are not in `checked`, and adds them to it."""
    preflight(run, config, set(names) - checked)
    checked |= set(names)


def _run_stage(stage: Stage, run: Run, config: Config, check: Callable[[], None]) -> None:
    inputs = json.loads(json.dumps(stage.inputs(run, config)))

    def differ(stored: Mapping[str, Any]) -> list[str]:
        return differences(_as_of_now(stored, inputs), flatten(inputs))

    before = run.finished(stage.folder)
    changed = stage.changes(run, config, _as_of_now(before, inputs), flatten(inputs)) if before else []
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
            _run_stage(stage, run, config, check)
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
    text = stage.work(run, config)
    seconds = time.monotonic() - clock
    run.finish(stage.folder, inputs, seconds)
    log.info(f"{text}\n{stage.name}: {seconds:.0f} s, {run.uri(stage.folder)}")
    for place in kept.remove_all(run, stage.folder):
        log.info(f"no longer kept: {place}")


def _as_of_now(stored: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens stored inputs, and adds defaults for settings that a later version introduced.

    Otherwise each version with a new setting would repeat the trainings of the version before it.
    """
    flat, defaults = flatten(stored), flatten(Config().model_dump(mode="json"))
    dear = ("data.", "model.", "train.", "sweep.")
    new = {name for name in flatten(inputs).keys() - flat.keys() if name.startswith(dear)}
    return {**flat, **{name: defaults[name] for name in new & defaults.keys()}}


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
