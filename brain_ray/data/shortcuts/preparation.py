"""Measurement of shortcuts while a data set is prepared, on Ray."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data
from numpy.typing import NDArray

from brain_ray.arrays import from_fixed_size
from brain_ray.cluster.tasks import run_tasks
from brain_ray.data.shortcuts.measure import measure
from brain_ray.data.shortcuts.table import draw_images, tabulate, views_of
from brain_ray.data.shortcuts.views import NUM_SCANNED
from brain_ray.runs import DATASET_SHORTCUTS, Run
from brain_ray.storage_retries import patiently


def start_measuring(
    run: Run, scanned: ray.data.Dataset, manifest: pd.DataFrame, seed: int
) -> Callable[[], dict[str, Any]]:
    """Writes the table of views, and starts a task that measures shortcuts; returns a function that waits for
    its result, that of `measure`.

    Args:
        run: the run whose data set it is.
        scanned: the result of `Scan`.
        manifest: image_id, path, size, width, height, label, class_name, group, split, and source if it is
            stated.
        seed: seed of the draws.
    """
    chosen = draw_images(manifest, seed)
    look = ray.remote(select_images).options(num_cpus=1)
    parts = [part for _, part in run_tasks(partial(look.remote, chosen), scanned.to_arrow_refs())]
    ids = np.concatenate([each for each, _ in parts]) if parts else np.zeros(0, np.int64)
    order = np.argsort(ids)
    views = np.concatenate([each for _, each in parts]) if parts else np.zeros((0, NUM_SCANNED), np.float32)
    counts = manifest.groupby("path")["image_id"].transform("size")
    images = manifest.assign(file_images=counts).set_index("image_id", drop=False).loc[ids[order]]
    table = tabulate(images, views[order])
    patiently()(pq.write_table, table, run.path(*DATASET_SHORTCUTS), filesystem=run.fs)
    learned = images["split"].isin(["train", "valid"]).to_numpy()
    named = [name for name in ("class_name", "group", "source") if name in images]
    task = ray.remote(_measure).options(num_cpus=1)
    waiting = task.remote(images.loc[learned, named], table.filter(pa.array(learned)), seed)

    def wait() -> dict[str, Any]:
        found: dict[str, Any] = ray.get(waiting)
        return found

    return wait


def select_images(
    chosen: NDArray[np.int64], block: pa.Table
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the image_ids of those images of a scanned block that are chosen, (n,), and their views, (n,
    NUM_SCANNED)."""
    part = block.select(["image_id", "shortcuts"]).filter(pc.is_in(block["image_id"], pa.array(chosen)))
    ids = part["image_id"].to_numpy()
    if not len(ids):
        return ids, np.zeros((0, NUM_SCANNED), np.float32)
    return ids, from_fixed_size(part["shortcuts"]).reshape(len(ids), -1)


def _measure(images: pd.DataFrame, table: pa.Table, seed: int) -> dict[str, Any]:
    return measure(images, views_of(table), seed)
