"""Copies of a bundle's model in actors of Ray Data, which score a data set's test images."""

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy
from ray.data.expressions import col

from brain_ray.bundle.predictor import Predictor
from brain_ray.bundle.reference import box_quantities, grey_quantities
from brain_ray.bundle.session import check_provider
from brain_ray.cluster.autoscaling import nodes_to_come
from brain_ray.cluster.capacity import TASK_CPUS, Nodes, running_nodes, scoring_places
from brain_ray.cluster.cpu_work import bound_executions, most_cpus
from brain_ray.config import EvaluateConfig
from brain_ray.data.decoding import ImageError, decode
from brain_ray.data.parts import find_parts
from brain_ray.data.rows import BOX
from brain_ray.errors import RunError
from brain_ray.evaluation.score_predictions import CANDIDATES_SEPARATOR
from brain_ray.runs import DATASET, Run
from brain_ray.storage_for_ray import patient
from brain_ray.storage_retries import patiently

ROWS_FOR_A_COPY = 5_000
"""Images that take a copy of the model as long as a node takes to come: some minutes on a CPU or two."""


def open_predictor(bundle: str, threads: int, gpus: float) -> Predictor:
    """Opens the bundle at a path or URI for an actor.

    Raises:
        BundleError: no bundle, or ONNX Runtime sees no GPU though the actor has some.
    """
    predictor = Predictor(bundle, threads, gpu=gpus > 0)
    check_provider(predictor.provider, gpus, "evaluate.gpus_per_actor")
    return predictor


class Classifier:
    """One copy of a bundle's model in an actor: maps encoded test images to probabilities."""

    def __init__(self, bundle: str, threads: int, gpus: float = 0) -> None:
        """Opens the bundle at a path or URI, on a GPU if it has some, else on `threads` CPU threads."""
        self._predictor = open_predictor(bundle, threads, gpus)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Replaces a batch's column of bytes by columns of results.

        Those are, per class, probability_<class> and calibrated_<class>, then the crop box in pixels (top,
        bottom, left, right), `reference.QUANTITIES`, candidates (classes with `;` between them) and decision.

        Raises:
            RunError: an image cannot be decoded.
        """
        model = self._predictor
        images, boxes, sizes = [], [], []
        for path, data in zip(batch["path"].to_pylist(), batch["bytes"].to_pylist(), strict=True):
            try:
                image = decode(data, model.max_pixels, read=model.read_spec)
            except ImageError as error:
                raise RunError(f"the data set's row of {path} is damaged: {error}; prepare again") from error
            fitted, box, _ = model.prepare_image(image)
            images.append(fitted)
            boxes.append([box.top, box.bottom, box.left, box.right])
            sizes.append(image.shape)
        inputs = np.stack(images)
        found = model.predict(inputs)
        batch = batch.drop(["bytes"])
        for k, name in enumerate(model.classes):
            batch = batch.append_column(f"probability_{name}", pa.array(found.probabilities[:, k]))
        for k, name in enumerate(model.classes):
            batch = batch.append_column(f"calibrated_{name}", pa.array(found.calibrated[:, k]))
        quantities = {
            **grey_quantities(inputs),
            **box_quantities(boxes, sizes),
            "unlikeness": found.unlikeness,
            "confidence": found.calibrated.max(axis=1),
        }
        for side, pixels in zip(BOX, np.array(boxes).T, strict=True):
            batch = batch.append_column(side, pa.array(pixels, pa.int64()))
        for name, values in quantities.items():
            batch = batch.append_column(name, pa.array(values))
        if found.candidates is not None:
            names = np.array(model.classes)
            chosen = [CANDIDATES_SEPARATOR.join(names[row]) for row in found.candidates]
            batch = batch.append_column("candidates", pa.array(chosen, pa.string()))
        return batch.append_column("decision", pa.array(found.decisions, pa.string()))


def copies(settings: EvaluateConfig, running: Nodes, to_come: Nodes, rows: int) -> int:
    """Returns how many copies of a model score at most.

    As many as the running nodes hold, and more where each has work then for the time in which nodes come.
    Copies without GPUs start no nodes that have some.
    """
    if not settings.gpus_per_actor:
        to_come = [node for node in to_come if not node.get("GPU")]
    later = scoring_places(settings, [*running, *to_come])
    return max(settings.num_actors, scoring_places(settings, running), min(later, rows // ROWS_FOR_A_COPY))


def score_by_actors(
    run: Run,
    settings: EvaluateConfig,
    actor: Callable[..., Any],
    arguments: Sequence[object],
    columns: Sequence[str],
    batch_size: int,
    block_batches: int,
    row_ids: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Returns what actors make of the test images, in any order.

    Args:
        run: with a complete data set.
        settings: number of the actors, of their CPUs and GPUs.
        actor: class whose instances map batches, tables with `columns`, to tables.
        arguments: what it is made with, beside its GPUs.
        columns: columns of the prepared rows that it needs.
        batch_size: largest number of rows in a batch.
        block_batches: number of batches in a block; an actor takes a block at a time.
        row_ids: rows to score; None: all.
    """
    num_rows = sum(part.num_rows for part in find_parts(run, "test")) if row_ids is None else len(row_ids)
    most_copies = copies(settings, running_nodes(), nodes_to_come() or (), num_rows)
    most = most_cpus()
    if most is not None:  # where only nodes with GPUs have room for the actors, these are started
        asked = most_copies if settings.gpus_per_actor else settings.num_actors
        most = max(most, asked * settings.cpus_per_actor + TASK_CPUS)
    bound_executions(most)
    # Ray Data 2.60 starts 32 processes that read the files' footers, however few files there are. (Its older
    # reader does not, but makes so many small blocks that batches are not full.)
    os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
    # Before there are tasks, which Ray Data repeats, it lists the folder and reads the schema of a file.
    rows: ray.data.Dataset = patiently()(
        ray.data.read_parquet, run.path(DATASET, "test"), filesystem=patient(run.fs), columns=list(columns)
    )
    if row_ids is not None:
        rows = rows.filter(expr=col("row_id").is_in(list(row_ids)))
    # Read as they are, the rows of a small data set are one block, and one copy would score them all.
    rows = rows.repartition(target_num_rows_per_block=block_batches * batch_size)
    with warnings.catch_warnings():
        # max_restarts has no named parameter yet; Ray is pinned, so a removal would be noticed.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        scored = rows.map_batches(
            actor,
            fn_constructor_args=list(arguments),
            fn_constructor_kwargs={"gpus": settings.gpus_per_actor},
            batch_size=batch_size,
            batch_format="pyarrow",
            num_cpus=settings.cpus_per_actor,
            num_gpus=settings.gpus_per_actor,
            # Ray Data starts more than the fewest while all are busy.
            compute=ActorPoolStrategy(min_size=settings.num_actors, max_size=most_copies),
            # Ray does not restart such actors reliably, and prints an error on that in every run
            # (ray-project/ray issue 53727). After the loss of one, the whole scoring is repeated.
            max_restarts=0,
        )
    found: pd.DataFrame = scored.to_pandas()
    return found
