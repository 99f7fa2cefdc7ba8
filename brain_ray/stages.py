"""The stages of a run: what each depends on, what it does, and the folder that it fills."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from brain_ray.bundle import export
from brain_ray.cluster.autoscaling import check_now_or_later
from brain_ray.cluster.capacity import refuse_preparing, refuse_scoring
from brain_ray.cluster.waiting import give_up_without_nodes
from brain_ray.comparison.choose import choose, settings_of, show_pages
from brain_ray.config import Config
from brain_ray.data import identity, prepare, source_changes
from brain_ray.data.outline_masks import outlines_at
from brain_ray.data.sources.find import Source
from brain_ray.data.sources.listing import Listing
from brain_ray.earlier import as_begun
from brain_ray.evaluation import evaluate
from brain_ray.evaluation.external import import_bundle, import_inputs
from brain_ray.evaluation.localise import outlines_of
from brain_ray.fingerprints import differences, digest
from brain_ray.runs import BUNDLE, BUNDLE_INFO, DATASET, REPORT, SWEEP, TRAIN, Run
from brain_ray.tracking.mlflow import log_bundle
from brain_ray.training import train
from brain_ray.tuning import tune
from brain_ray.tuning.search_space import MACHINES, SearchSpace


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
    train = config.train.model_dump(mode="json", exclude=machines)
    if config.train.scale_batch:  # then they decide what a step is
        train["num_workers"] = config.train.max_workers
    folds = {"folds": config.folds, "valid_fraction": config.data.valid_fraction}
    location = config.train.outlines
    return {
        **({} if config.folds is None else folds),
        **({} if location is None else {"outlines": outlines_at(run, location).digest}),
        "dataset": identity.id_of(run),
        "seed": config.seed,
        "model": config.model.model_dump(mode="json"),
        "train": train,
    }


CHOOSING = {"choice", "criterion", "margin", "confidence", "bootstrap"}
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
    settings = config.evaluate.model_dump(mode="json", exclude={"bundle", "gpus_per_actor"})
    outlines = outlines_of(run, config)
    if outlines is not None:
        settings["outlines"] = outlines.digest
    return {
        "model": run.read_json(*BUNDLE_INFO)["files"]["model.onnx"],
        "dataset": identity.id_of(run),
        "evaluate": settings,
    }


@dataclass
class _Preparation:
    """Work of stage prepare. The source is listed once, by the checks before or for the inputs: a bucket of
    ten million files takes minutes."""

    source: Source | None
    listing: Listing | None = None

    def inputs(self, run: Run, config: Config) -> dict[str, Any]:
        self.listing = identity.list_images(run, config, self.source)
        return identity.inputs_of(run, config, self.listing)

    def changes(
        self, run: Run, config: Config, before: Mapping[str, Any], now: Mapping[str, Any]
    ) -> list[str]:
        what, listing = "the comparison of files", self._taken()
        with give_up_without_nodes(what, partial(check_now_or_later, refuse_preparing, what)):
            changed = source_changes.find_changes(run, before, now, listing)
        if changed:
            identity.keep_id(run)
            self.listing = listing
        return changed

    def work(self, run: Run, config: Config) -> str:
        what, listing = "preparation", self._taken()
        with give_up_without_nodes(what, partial(check_now_or_later, refuse_preparing, what)):
            return prepare.prepare(run, config, listing=listing)

    def _taken(self) -> Listing:
        """Returns the listing, and holds it no longer: trainings may follow in this process."""
        listing, self.listing = self.listing, None
        assert listing is not None, "the inputs come first"
        return listing


def prepare_stage(source: Source | None = None) -> Stage:
    """Returns the stage that prepares a data set, for one run of it.

    Args:
        source: the source that the settings name, if the checks before look at it too.
    """
    preparation = _Preparation(source)
    return Stage("prepare", DATASET, preparation.inputs, preparation.work, changes=preparation.changes)


def _trained_with(run: Run, config: Config) -> Config:
    """Returns the config that a run's model was trained with, by this or an earlier version."""
    return as_begun(settings_of(run, config), run.finished(TRAIN))


def _export(run: Run, config: Config) -> str:
    config = _trained_with(run, config)
    text = export.export(run, config)
    log_bundle(run, config)
    return text


def _evaluate(run: Run, config: Config) -> str:
    if config.folds is not None and not run.list_files(DATASET, "test", suffix=".parquet"):
        show_pages(run)
        text = "there is no test split: the scores of this model are those of its cross-validation"
        asked = [f"evaluate.{name}" for name in ("outlines", "robustness") if getattr(config.evaluate, name)]
        return f"{text}; {' and '.join(asked)} would need one, and nothing came of it" if asked else text
    refuse = partial(refuse_scoring, config.evaluate)
    with give_up_without_nodes("evaluation", partial(check_now_or_later, refuse, "evaluation")):
        text = evaluate.evaluate(run, _trained_with(run, config))
    show_pages(run)
    return text


STAGES = {
    stage.name: stage
    for stage in (
        Stage("train", TRAIN, _train_inputs, train.train, resumes=True),
        Stage("choose", TRAIN, _choose_inputs, choose),
        Stage("export", BUNDLE, _export_inputs, _export),
        Stage("import", BUNDLE, import_inputs, import_bundle),
        Stage("evaluate", REPORT, _evaluate_inputs, _evaluate),
    )
}


def sweep_stage(space: SearchSpace) -> Stage:
    """Returns the stage that trains a search space's trials, with the config that it is given."""

    def work(run: Run, config: Config) -> str:
        return tune.tune(run, replace(space, config=config))

    return Stage("sweep", SWEEP, _sweep_inputs, work, resumes=True)


TRAINED = ("prepare", "train", "export", "evaluate")
"""Stages from images to a report."""

TUNED = ("prepare", "sweep", "choose", "export", "evaluate")
"""Stages from images to a report, with a sweep in place of the single training."""
