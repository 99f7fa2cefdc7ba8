"""Stage evaluate: scores a run's bundle on its test split with Ray Data, and writes report/."""

import os
import warnings
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from ray.data import ActorPoolStrategy

from brain_ray.bundle.bundle import add_scores
from brain_ray.bundle.predictor import Predictor
from brain_ray.cluster.capacity import TASK_CPUS, running_nodes, scoring_places
from brain_ray.cluster.cpu_work import bound_executions, most_cpus
from brain_ray.cluster.losses import retry_if_lost
from brain_ray.config import Config
from brain_ray.data.dataset import add_source_columns, read_table
from brain_ray.data.decoding import ImageError
from brain_ray.errors import RunError
from brain_ray.evaluation.external import describe_external
from brain_ray.evaluation.ledger import record_scoring
from brain_ray.evaluation.mapping import map_classes, parse_mapping
from brain_ray.evaluation.report import write_report
from brain_ray.evaluation.report_data import gather
from brain_ray.evaluation.score_predictions import score_predictions
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
from brain_ray.scoring.decisions import format_decisions
from brain_ray.scoring.metrics import format_scores
from brain_ray.scoring.scores import Scores

SCORED_COLUMNS = ["row_id", "image_id", "path", "label", "cluster", "bytes"]

BLOCK_BATCHES = 8
"""Number of batches in a block; a copy of the model takes a block at a time."""

NO_COPY = "no copy found in training or validation"
"""Meaning of `leak_free` for a test image whose patient is not known, to the extent of the audit's search."""


class Classifier:
    """One copy of a bundle's model in an actor: maps encoded test images to probabilities."""

    def __init__(self, bundle: str, threads: int) -> None:
        """Opens the bundle at a path or URI; the model computes on `threads` CPU threads."""
        self._predictor = Predictor(bundle, threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Replaces a batch's column of bytes by columns of results.

        Those are, per class, probability_<class> and calibrated_<class>, then the crop box in pixels (top,
        bottom, left, right), unlikeness, candidates (a list of classes) and decision.

        Raises:
            RunError: an image cannot be decoded.
        """
        inputs, boxes = [], []
        for path, data in zip(batch["path"].to_pylist(), batch["bytes"].to_pylist(), strict=True):
            try:
                image, box, _ = self._predictor.prepare(data)
            except ImageError as error:
                raise RunError(f"the data set's row of {path} is damaged: {error}; prepare again") from error
            inputs.append(image)
            boxes.append(box)
        found = self._predictor.predict(np.stack(inputs))
        batch = batch.drop(["bytes"])
        for k, name in enumerate(self._predictor.classes):
            batch = batch.append_column(f"probability_{name}", pa.array(found.probabilities[:, k]))
        for k, name in enumerate(self._predictor.classes):
            batch = batch.append_column(f"calibrated_{name}", pa.array(found.calibrated[:, k]))
        for side in ("top", "bottom", "left", "right"):
            batch = batch.append_column(side, pa.array([getattr(box, side) for box in boxes], pa.int64()))
        batch = batch.append_column("unlikeness", pa.array(found.unlikeness))
        if found.candidates is not None:
            names = np.array(self._predictor.classes)
            chosen = [names[row].tolist() for row in found.candidates]
            batch = batch.append_column("candidates", pa.array(chosen, pa.list_(pa.string())))
        return batch.append_column("decision", pa.array(found.decisions, pa.string()))


def evaluate(run: Run, config: Config) -> str:
    """Fills the empty `report/` of a run, and adds the scores to its bundle; returns a table of the scores.

    Raises:
        RunError: the dataset or the bundle is not complete, a test image was missed or counted twice, or
            nodes were lost again and again.
    """
    run.require(DATASET, "prepare")
    run.require(BUNDLE, "export")
    found = retry_if_lost(lambda: _predict(run, config), "scoring")
    bundle, mapping = run.read_json(*BUNDLE_INFO), config.evaluate.mapping
    if mapping is not None:
        found = map_classes(found, parse_mapping(mapping, bundle["classes"]))
    predictions = _with_facts(found, run, config)
    official = score_predictions(predictions, config, bundle["decision"])
    clean = predictions[predictions["leak_free"]]
    leak_free = score_predictions(clean, config, bundle["decision"]) if len(clean) else None
    split = run.read_json(*AUDIT)["sha256"]["test"]
    settings = [config.evaluate.calibration_bins, mapping]
    ledger = record_scoring(run, split, bundle, settings, official)  # before anybody can see the scores
    metrics = {
        "official": official.model_dump(mode="json"),
        "leak_free": leak_free.model_dump(mode="json") if leak_free else None,
        "ledger": ledger,
        "bundle": bundle["files"]["model.onnx"],
    }
    table = pa.Table.from_pandas(predictions, preserve_index=False)
    with run.fs.open_output_stream(run.path(*PREDICTIONS)) as stream:
        pq.write_table(table, stream)
    run.write_json(metrics, *METRICS)
    if not config.data.external:
        add_scores(run.uri(BUNDLE), {name: metrics[name] for name in ("official", "leak_free", "ledger")})
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page, figures = write_report(gather(run, config, predictions, official, leak_free, created, ledger))
    for name, content in figures.items():
        run.write_bytes(content, REPORT, name)
    run.write_bytes(page.encode(), *REPORT_PAGE)
    known = int((predictions["patient"] != "").sum()) if "patient" in predictions else 0
    external = config.data.external
    text = (
        _part(describe_external(bundle, config), official) if external else _text(official, leak_free, known)
    )
    return f"{text}\n\n{ledger['sentence']}"


def _predict(run: Run, config: Config) -> pd.DataFrame:
    settings = config.evaluate
    most = most_cpus()
    if most is not None:  # where only nodes with GPUs have room for the actors, one of these is started
        most = max(most, settings.num_actors * settings.cpus_per_actor + TASK_CPUS)
    bound_executions(most)
    places = max(settings.num_actors, scoring_places(settings, running_nodes()))
    # Ray Data 2.60 starts 32 processes that read the files' footers, however few files there are. (Its older
    # reader does not, but makes so many small blocks that batches are not full.)
    os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
    rows = ray.data.read_parquet(run.path(DATASET, "test"), filesystem=run.fs, columns=SCORED_COLUMNS)
    # Read as they are, the rows of a small data set are one block, and one copy would score them all.
    rows = rows.repartition(target_num_rows_per_block=BLOCK_BATCHES * settings.batch_size)
    with warnings.catch_warnings():
        # max_restarts has no named parameter yet; Ray is pinned, so a removal would be noticed.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        scored = rows.map_batches(
            Classifier,
            fn_constructor_args=[run.uri(BUNDLE), settings.cpus_per_actor],
            batch_size=settings.batch_size,
            batch_format="pyarrow",
            num_cpus=settings.cpus_per_actor,
            # Ray Data starts more than the fewest while all are busy, up to what the running nodes hold.
            compute=ActorPoolStrategy(min_size=settings.num_actors, max_size=places),
            # Ray does not restart such actors reliably, and prints an error on that in every run
            # (ray-project/ray issue 53727). After the loss of one, the whole scoring is repeated.
            max_restarts=0,
        )
    found: pd.DataFrame = scored.to_pandas()
    return found


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
    if "group" not in manifest:  # of an earlier version's data set
        manifest["group"] = manifest["cluster"]
    learned = manifest.loc[manifest["split"].isin(["train", "valid"]), "group"]
    groups = manifest.set_index("image_id").loc[found["image_id"], "group"]
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
