"""Cached features of the frozen backbone, computed once by Ray Data."""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext

from brain_ray.cluster.capacity import LOADING_CPUS, cpus
from brain_ray.cluster.cpu_work import bound_executions, most_cpus
from brain_ray.cluster.losses import retry_if_lost
from brain_ray.config import Config
from brain_ray.data.parts import Part, parts_of
from brain_ray.errors import RunError
from brain_ray.fingerprints import digest
from brain_ray.loading.blocks import decode_rows, task_rows
from brain_ray.runs import FEATURES, SHARED_FEATURES, Run
from brain_ray.storage_retries import delete_folder, patiently
from brain_ray.training.framework import Framework

FOLDER = "/".join(FEATURES)

FILE_ROWS = 8192
"""Rows of features in a file, at most: 40 MB of those of EfficientNet-B0."""


class Extractor:
    """Runs the frozen backbone over batches; to be run as an actor.

    A network that cannot be had is in each batch's `error`: Ray Data would try again, and wrap the reason.
    """

    def __init__(self, framework: Framework, config: Config, processes: int) -> None:
        """Builds the network; `processes` on this node do the same."""
        self._error = ""
        try:
            self._extract = framework.make_extractor(config, processes)
        except RunError as error:
            self._error = str(error)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Replaces `image` (n, height, width, 1) by `features` (n, channels)."""
        images = batch.pop("image")
        if self._error:
            nothing = np.zeros((len(images), 1), np.float32)
            return {**batch, "features": nothing, "error": batch["error"] + self._error}
        return {**batch, "features": self._extract(images)}


def cache_features(
    run: Run,
    config: Config,
    splits: Mapping[str, Sequence[Part]],
    framework: Framework,
    processes_here: int | None = None,
    sweep: Run | None = None,
) -> dict[str, list[Part]]:
    """Computes the features of all rows of the splits, unless that is done already; returns their files.

    They are files of the run or, if it is a trial of a `sweep`, of the sweep: a trial takes what another has
    computed with the same network, and trials that begin at the same time compute for themselves.

    The files of a split hold `label` and `features` (channels of the backbone's last map, pooled, float32) in
    the order of the split's rows. Rows are as prepared: a balancing copy has its own changes, and no row has
    those of an epoch. With `processes_here`, the backbone runs in this process, one of so many on its node
    that do the same, and not in actors.

    Raises:
        RunError: a row cannot be decoded, the network cannot be built, TensorFlow sees no GPU where `use_gpu`
            is set, or nodes were lost again and again.
    """
    inputs = {"model": config.model.model_dump(mode="json")}
    if sweep is not None:
        run = _find_shared(sweep, inputs, run.name)
    if run.finished(FOLDER) != inputs:
        start = time.monotonic()
        run.clear(FOLDER)
        compute = partial(_compute, run, config, splits, framework, processes_here)
        retry_if_lost(compute, "computing the features")
        run.finish(FOLDER, inputs, time.monotonic() - start)
    return {split: parts_of(run, *FEATURES, split) for split in splits}


def _find_shared(sweep: Run, inputs: Mapping[str, Any], trial: str) -> Run:
    """Returns where a trial has computed features from these inputs, or else where this one shall."""
    place = sweep.uri(*SHARED_FEATURES)
    key = digest(inputs)[:12]
    there = [replace(sweep, storage=place, name=name) for name in sweep.list_folders(*SHARED_FEATURES)]
    done = (one for one in there if one.name.startswith(key) and one.finished(FOLDER) == inputs)
    return next(done, replace(sweep, storage=place, name=f"{key}-{trial}"))


def drop_features(run: Run) -> None:
    """Deletes what `cache_features` has written, when training has ended."""
    if run.exists(FOLDER):
        delete_folder(run.fs, run.path(FOLDER))


def _compute(
    run: Run,
    config: Config,
    splits: Mapping[str, Sequence[Part]],
    framework: Framework,
    processes_here: int | None,
) -> None:
    """Computes the features of all splits in one execution, whose processes build the network once."""
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    if processes_here is not None:
        bound_executions(cpus())
    else:
        bound_executions(None if config.train.use_gpu else most_cpus())
    tasks = [task for split, parts in splits.items() for task in _tasks_of(split, parts)]
    loading = {"batch_format": "pyarrow", "num_cpus": LOADING_CPUS}
    decoded = ray.data.from_blocks(tasks).map_batches(
        decode_part, batch_size=None, fn_kwargs={"run": run, "config": config}, **loading
    )
    if processes_here is not None:
        _compute_here(run, decoded, Extractor(framework, config, processes_here))
        return
    settings = config.train
    fewest, most = (min(len(tasks), k) for k in (settings.min_workers, settings.max_workers))
    nodes = sum(node["Alive"] for node in ray.nodes())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        features = decoded.map_batches(
            Extractor,
            fn_constructor_args=[framework, config, -(-most // nodes)],
            batch_size=task_rows(config.model),  # Ray Data wants one for GPUs
            batch_format="numpy",
            num_cpus=settings.cpus_per_worker,
            num_gpus=1 if settings.use_gpu else None,
            compute=ActorPoolStrategy(min_size=fewest, max_size=most),
            max_restarts=0,
        )
    written = features.map_batches(write_features, batch_size=FILE_ROWS, fn_kwargs={"run": run}, **loading)
    for batch in written.iter_batches(batch_size=None, batch_format="numpy"):
        _raise_first(batch["error"])


def _tasks_of(split: str, parts: Sequence[Part]) -> Iterator[pa.Table]:
    """Yields a row for each file of a split: `split`, `path`, and `first`, its first row's index."""
    first = 0
    for part in parts:
        yield pa.table({"split": [split], "path": [part.path], "first": [first]})
        first += part.num_rows


def _compute_here(run: Run, decoded: Any, extractor: Extractor) -> None:
    held: list[pa.Table] = []

    def write() -> None:
        _raise_first(write_features(pa.concat_tables(held), run)["error"])
        held.clear()

    for batch in decoded.iter_batches(batch_size=None, batch_format="numpy"):
        rows = extractor(batch)
        features = rows.pop("features")
        columns = {name: pa.array(column) for name, column in rows.items()}
        columns["features"] = pa.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])
        held.append(pa.table(columns))
        if sum(map(len, held)) >= FILE_ROWS:
            write()
    if held:
        write()


def _raise_first(errors: Iterable[str]) -> None:
    for error in filter(None, errors):
        raise RunError(error)


def decode_part(task: pa.Table, run: Run, config: Config) -> Iterator[dict[str, NDArray[Any]]]:
    """Decodes a file's rows, some at a time: `split`, `index` in the split, `image`, `label`, `error`."""
    cv2.setNumThreads(1)  # the other CPUs have rows of their own
    (row,) = task.to_pylist()
    rows = patiently()(pq.read_table, row["path"], filesystem=run.fs, partitioning=None)
    size = task_rows(config.model)
    for start in range(0, len(rows), size):
        decoded = decode_rows(rows.slice(start, size), config, None)
        index = row["first"] + start + np.arange(len(decoded["label"]))
        yield {"split": np.full(len(index), row["split"]), "index": index, **decoded}


def write_features(batch: pa.Table, run: Run) -> dict[str, list[str]]:
    """Writes rows that follow one another, a split's as a file that is named by the first; returns the first
    `error`."""
    errors = [error for error in batch["error"].to_pylist() if error]
    for split in [] if errors else pc.unique(batch["split"]).to_pylist():
        rows = batch.filter(pc.equal(batch["split"], split)).drop(["split", "error"])
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="none", use_dictionary=False)
        name = f"rows-{rows['index'][0].as_py():012d}.parquet"
        try:
            run.write_bytes(sink.getvalue().to_pybytes(), *FEATURES, split, name)
        except RunError as error:
            errors.append(str(error))
    return {"error": errors[:1] or [""]}
