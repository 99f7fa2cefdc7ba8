"""Stage evaluate: scores a run's bundle on its test split with Ray Data, and writes report/."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from brain_ray.bundle.bundle import add_scores, load_bundle
from brain_ray.cluster.losses import retry_if_lost
from brain_ray.config import Config
from brain_ray.data.dataset import add_source_columns, group_column, read_table, write_table
from brain_ray.errors import RunError
from brain_ray.evaluation.external import describe_external
from brain_ray.evaluation.ledger import record_scoring
from brain_ray.evaluation.localise import Localiser, find_outlined, sum_up
from brain_ray.evaluation.mapping import map_classes, parse_mapping
from brain_ray.evaluation.reference_shift import compare_with_reference, describe_shift
from brain_ray.evaluation.report import write_report
from brain_ray.evaluation.report_data import gather
from brain_ray.evaluation.robustness import score_artefacts
from brain_ray.evaluation.score_predictions import score_predictions
from brain_ray.evaluation.scoring_actors import Classifier, score_by_actors
from brain_ray.evaluation.shortcuts import compare_with_shortcuts
from brain_ray.input_spec import batch_of
from brain_ray.records import to_json
from brain_ray.runs import (
    AUDIT,
    BUNDLE,
    BUNDLE_INFO,
    DATASET,
    DATASET_MANIFEST,
    METRICS,
    PREDICTIONS,
    REPORT,
    REPORT_PAGE,
    Run,
)
from brain_ray.scoring.decisions import format_decisions, wrap
from brain_ray.scoring.localisation_scores import format_localisation
from brain_ray.scoring.metrics import format_scores
from brain_ray.scoring.robustness import format_robustness
from brain_ray.scoring.scores import Scores

SCORED_COLUMNS = ["row_id", "image_id", "path", "label", "cluster", "bytes"]

BLOCK_BATCHES = 8
"""Number of batches in a block; a copy of the model takes a block at a time."""

NO_COPY = "no copy found in training or validation"
"""Meaning of `leak_free` for a test image whose patient is not known, to the extent of the audit's search."""


def evaluate(run: Run, config: Config) -> str:
    """Fills the empty `report/` of a run, and adds the scores to its bundle; returns a table of the scores.

    Raises:
        RunError: the dataset or the bundle is not complete, a test image was missed or counted twice, or
            nodes were lost again and again.
    """
    run.require(DATASET, "prepare")
    run.require(BUNDLE, "export")
    outlined = find_outlined(run, config)
    found = retry_if_lost(lambda: _predict(run, config, Classifier), "scoring")
    bundle, mapping = run.read_json(*BUNDLE_INFO), config.evaluate.mapping
    if mapping is not None:
        found = map_classes(found, parse_mapping(mapping, bundle["classes"]))
    predictions = _with_facts(found, run, config)
    official = score_predictions(predictions, config, bundle["decision"])
    clean = predictions[predictions["leak_free"]]
    leak_free = score_predictions(clean, config, bundle["decision"]) if len(clean) else None
    split = run.read_json(*AUDIT)["sha256"]["test"]
    settings = [config.evaluate.calibration_bins, mapping]
    shift = compare_with_reference(load_bundle(run.uri(BUNDLE)), predictions, config.seed)
    ledger = record_scoring(run, split, bundle, settings, official)  # before anybody can see the scores
    metrics = {
        "official": official.model_dump(mode="json"),
        "leak_free": leak_free.model_dump(mode="json") if leak_free else None,
        "ledger": ledger,
        "bundle": bundle["files"]["model.onnx"],
        "shift": None if shift is None else shift.model_dump(mode="json"),
        "shortcuts": None if config.data.external else compare_with_shortcuts(run, predictions),
    }
    localisation = None
    if outlined is not None:
        outlines = outlined.outlines
        rows = predictions.loc[predictions["image_id"].isin(list(outlines)), "row_id"].tolist()
        maps = retry_if_lost(lambda: _predict(run, config, Localiser, outlines, rows=rows), "localisation")
        localisation = sum_up(run, config, outlined, maps)
        metrics["localisation"] = to_json(localisation)
    robustness = score_artefacts(run, config, predictions) if config.evaluate.robustness else None
    if robustness is not None:
        metrics["robustness"] = robustness.model_dump(mode="json")
    write_table(run, predictions, *PREDICTIONS)
    run.write_json(metrics, *METRICS)
    if not config.data.external:
        add_scores(run.uri(BUNDLE), {name: metrics[name] for name in ("official", "leak_free", "ledger")})
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    data = replace(
        gather(run, config, predictions, official, leak_free, created),
        localisation=localisation,
        robustness=robustness,
        shortcuts=metrics["shortcuts"],
        ledger=ledger,
        shift=shift,
    )
    page, figures = write_report(data)
    for name, content in figures.items():
        run.write_bytes(content, REPORT, name)
    run.write_bytes(page.encode(), *REPORT_PAGE)
    known = int((predictions["patient"] != "").sum()) if "patient" in predictions else 0
    external = config.data.external
    text = (
        _part(describe_external(bundle, config), official) if external else _text(official, leak_free, known)
    )
    parts = [text, wrap(ledger["sentence"])]
    parts += [] if shift is None else [wrap(f"shift: {describe_shift(shift)}")]
    parts += [] if localisation is None else [format_localisation(localisation)]
    parts += [] if robustness is None else [format_robustness(robustness)]
    return "\n\n".join(parts)


def _predict(
    run: Run, config: Config, actor: type, *more: Any, rows: Sequence[int] | None = None
) -> pd.DataFrame:
    """Maps test rows (None: all) by an actor of a bundle, a number of threads, and what `more` it takes."""
    settings = config.evaluate
    actor_arguments = [run.uri(BUNDLE), settings.cpus_per_actor, *more]
    batch = batch_of(config.model.height, config.model.width, settings.batch_size)
    return score_by_actors(
        run, settings, actor, actor_arguments, SCORED_COLUMNS, batch, BLOCK_BATCHES, row_ids=rows
    )


def _with_facts(found: pd.DataFrame, run: Run, config: Config) -> pd.DataFrame:
    """Returns the test images by row_id, with the columns class_name, predicted, predicted_name, leak_free,
    and what the source states of them.

    Raises:
        RunError: an image is missing, or there twice.
    """
    manifest = read_table(run, *DATASET_MANIFEST)
    expected = manifest.loc[manifest["split"] == "test", "image_id"]
    if sorted(found["image_id"]) != sorted(expected):
        raise RunError(
            f"{len(found)} test images were scored, {len(expected)} expected, each exactly once: "
            f"prepare {run.uri('dataset')} again"
        )
    found = found.sort_values("row_id", ignore_index=True)
    classes = list(config.data.classes)
    probabilities = found[[f"probability_{name}" for name in classes]].to_numpy()
    predicted = probabilities.argmax(axis=1)
    names = np.array(classes)
    known = group_column(manifest.set_index("image_id"))
    learned = known[manifest["split"].isin(["train", "valid"]).to_numpy()]
    groups = known.loc[found["image_id"]]
    facts: dict[str, Any] = {
        "class_name": names[found["label"]],
        "predicted": predicted,
        "predicted_name": names[predicted],
        # Of external images it is not known, since what was learned from is not at hand.
        "leak_free": ~groups.isin(learned).to_numpy() & (not config.data.external),
    }
    result = add_source_columns(found.assign(**facts), run)
    return result if "group" in result else result.assign(group=groups.to_numpy())


def _text(official: Scores, leak_free: Scores | None, known: int) -> str:
    """Returns the scores as text; `known` is the number of test images whose patients are known."""
    meaning = _meaning(known, official.images)
    if leak_free is not None and leak_free.images == official.images:
        return _part(f"all test images; {meaning}", official)
    parts = [_part("all test images", official)]
    if leak_free is None:
        parts.append(
            "every test image has a copy, or another image of its patient, in training or validation: no "
            "score is of new patients"
        )
    else:
        parts.append(_part(f"test images with {meaning}", leak_free))
    return "\n\n".join(parts)


def _meaning(known: int, images: int) -> str:
    """Returns what `leak_free` means for test images, of which `known` have a known patient."""
    if not known:
        return f"{NO_COPY} (patients are not known)"
    whose = "" if known == images else f" (known for {known} of {images} test images)"
    return f"{NO_COPY}, nor another image of the same patient{whose}"


def _part(title: str, scores: Scores) -> str:
    assert scores.decisions is not None, "what was evaluated has decisions"
    return f"{title}\n{format_scores(scores)}\n\n{format_decisions(scores.decisions)}"
