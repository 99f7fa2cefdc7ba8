"""Stage export: makes the bundle of a run from its best weights and validation images."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brain_ray.bundle.build import export_bundle
from brain_ray.bundle.members import Member, answers_of, members_of
from brain_ray.bundle.mirrored_answers import mirrored_answers
from brain_ray.bundle.reference import box_quantities
from brain_ray.bundle.schema import DataFacts, Facts, SplitFacts, TrainingFacts
from brain_ray.config import Config
from brain_ray.data.dataset import group_column, read_input_facts, read_inputs, read_table
from brain_ray.data.folds import DEVELOPMENT
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.data.rows import BOX
from brain_ray.runs import (
    AUDIT,
    AVERAGES_OUT_OF_FOLD,
    BUNDLE,
    CHOICE,
    DATASET,
    DATASET_MANIFEST,
    RESULT,
    TRAIN,
    Run,
)
from brain_ray.scoring.decisions import describe_promise, wrap

MAX_VALIDATION = 5000
"""Largest number of validation images for the temperature's fit; a larger split is sampled."""


MAX_TRAINING = 2000
"""Largest number of training images for the fit of `OutOfDistributionDetector`."""


def export(run: Run, config: Config) -> str:
    """Fills the empty `bundle/` of a run; returns a summary in three lines.

    Raises:
        RunError: the dataset or the training is not complete, or the bundle's two models do not agree.
    """
    run.require(DATASET, "prepare")
    run.require(TRAIN, "train")
    members = members_of(run, config)
    answers = answers_of(run, config)
    if answers is not None and config.export.mirrored:
        answers = mirrored_answers(run, config, answers, MAX_VALIDATION)
    learned, held = _images_of(run, config, answers)
    inputs, labels = read_inputs(run, config, held.splits, MAX_VALIDATION, held.ids)
    facts = read_input_facts(run, config, held.splits, MAX_VALIDATION, held.ids)
    boxes = box_quantities(facts[list(BOX)], facts[["height", "width"]])
    train_inputs, _ = read_inputs(run, config, learned.splits, MAX_TRAINING, learned.ids)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "bundle"
        info = export_bundle(
            made,
            config,
            members[0].weights,
            inputs,
            labels,
            train_inputs,
            _facts(run, members, averaged=config.export.members in AVERAGES_OUT_OF_FOLD),
            valid_groups=group_column(facts),
            valid_boxes=boxes,
            out_of_fold=answers,
            valid_ids=facts.index.to_numpy(np.int64),
            more_members=members[1:],
        )
        run.upload(made, BUNDLE)
    scores, check, decision = info.scores.validation, info.check, info.decision
    magnified = "".join(
        f"\non {one.input} they differ by {one.difference:.1e} in {one.output}, since the network magnifies "
        f"rounding there: the last bits of its weights alone make {one.rounding:.1e}"
        for one in check.magnified
    )
    return (
        f"{_kind_of(scores.folds)} ({scores.images} images): accuracy {scores.accuracy:.4f}, log loss "
        f"{scores.log_loss:.4f}, {scores.log_loss_calibrated:.4f} with temperature {info.temperature:.3f}\n"
        f"of these {decision.answered:.2%} are answered, {decision.error:.2%} of them wrongly, and "
        f"{decision.kept:.2%} pass as like the training images\n"
        f"{wrap(describe_promise(decision.model_dump()))}\n"
        f"Keras and ONNX differ by {check.largest_difference:.1e} at most in probabilities, "
        f"{check.outputs['logits'].largest:.1e} in logits, on {check.images} images and drawn inputs"
        f"{magnified}"
    )


class Images(NamedTuple):
    """Images of some splits: those with these `image_id`s; None: all."""

    splits: Sequence[str]
    ids: NDArray[np.int64] | None = None


def _images_of(run: Run, config: Config, answers: OutOfFold | None) -> tuple[Images, Images]:
    """Returns the images that the model learned from, and those that it is held against: of the validation
    split, or of the fold that its training left out."""
    fold = config.train.fold
    if answers is None or fold is None:
        return Images(["train"]), Images(["valid"])
    manifest = read_table(run, *DATASET_MANIFEST)
    manifest = manifest[manifest["split"].isin(DEVELOPMENT)]
    held = answers.image_id[answers.fold == fold]
    groups = group_column(manifest)
    near = groups[manifest["image_id"].isin(held)]
    learned = manifest["image_id"][~groups.isin(near)]
    return Images(DEVELOPMENT, learned.to_numpy(np.int64)), Images(DEVELOPMENT, held)


def _kind_of(folds: int | None) -> str:
    return "validation" if folds is None else f"out of fold, {folds} fold{'s' * (folds != 1)}"


def _facts(run: Run, members: Sequence[Member], *, averaged: bool) -> Facts:
    audit: dict[str, Any] = run.read_json(*AUDIT)
    result: dict[str, Any] = run.read_json(*RESULT)
    rows = {split: sum(audit["splits"][split].values()) for split in ("train", "valid", "test")}
    balanced = {**rows, "train": sum(audit["balanced_train"].values())}
    splits = {
        split: SplitFacts(images=rows[split], rows=balanced[split], sha256=audit["sha256"][split])
        for split in rows
    }
    copies = audit["copies"]
    units = audit.get("units", {})  # not there in an earlier version's data set
    patients = {name: units[name] for name in ("num_patients", "with_patient") if units.get("num_patients")}
    recall = {"recall": copies["recall"]} if "recall" in copies else {}
    found = {
        "second_copies": copies["second_copies"],
        "across_splits": copies["across_splits"],
        "dropped_from_train": audit["leaks"]["dropped_from_train"],
        "policy": audit["leaks"]["policy"],
        **patients,
        **recall,
    }
    return Facts(
        data=DataFacts(train=splits["train"], valid=splits["valid"], test=splits["test"], audit=found),
        training=TrainingFacts(
            epochs=result["epochs"],
            best_epoch=result["best_epoch"],
            backbone=result["backbone"],
            setups=result.get("setups", ()),  # not there in an earlier version's training
            members=len(members),
            models=tuple(f"{one.model.backbone} ({one.model.head})" for one in members) if averaged else (),
        ),
        sweep=run.read_json(*CHOICE) if run.exists(*CHOICE) else None,
    )
