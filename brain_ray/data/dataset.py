"""Prepared data set: reads its files, labels, rows and network inputs."""

import tempfile
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.data.parts import READERS, files_of_labels, files_of_rows, find_parts, no_rows
from brain_ray.data.rows import BOX, ROW_COLUMNS, read_input
from brain_ray.data.sources.manifest_names import RESERVED, STATED
from brain_ray.errors import RunError
from brain_ray.runs import DATASET, DATASET_MANIFEST, Run
from brain_ray.storage import storage_errors
from brain_ray.storage_retries import patiently

ROWS_AT_A_TIME = 16
"""Number of rows that are decoded together."""


def read_labels(run: Run, split: str) -> NDArray[np.int64]:
    """Returns the labels of a split's rows, int64 (rows,), in the rows' order.

    Raises:
        RunError: the split has no files.
    """
    labels: NDArray[np.int64] = read_columns(run, split, ["label"])["label"].to_numpy()
    return labels


def read_groups(run: Run, split: str) -> NDArray[np.int64]:
    """Returns the group of each of a split's rows, int64 (rows,), in the rows' order.

    Rows of one patient, and copies of one slice, are of one group; in a data set of a version that knew no
    patients, only copies are.

    Raises:
        RunError: the split has no files.
    """
    return _groups_of(run, read_columns(run, split, ["image_id"])["image_id"].to_numpy())


def read_rows(run: Run, split: str, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Returns the rows with these `row_id`s, in the order of `ids`, as dicts of the columns `ROW_COLUMNS`.

    Raises:
        RunError: the split has no files, or no row of that id.
    """
    if not ids:
        return []
    files, only = files_of_rows(run, split, ids), pads.field("row_id").isin(list(ids))
    found = _read_files(run, split, files, ROW_COLUMNS, only)
    rows = {row["row_id"]: row for row in found.to_pylist()}
    missing = [number for number in ids if number not in rows]
    if missing:
        raise RunError(f"{run.uri('dataset', split)} has no row {missing[0]}: prepare again")
    return [rows[number] for number in ids]


def sample_rows(run: Run, split: str, limit: int, seed: int) -> list[dict[str, Any]]:
    """Draws up to `limit` rows of a split at random, without replacement, as dicts of the columns
    `ROW_COLUMNS`.

    The `row_id`s of a split count its rows from 0.

    Raises:
        RunError: the split has no files.
    """
    count = sum(part.num_rows for part in find_parts(run, split))
    ids = np.random.default_rng(seed).choice(count, min(limit, count), replace=False)
    return read_rows(run, split, ids.tolist())


def first_rows(run: Run, split: str) -> list[dict[str, Any]]:
    """Returns the first row of each label, by rising label, as dicts of the columns `ROW_COLUMNS`.

    Raises:
        RunError: the split has no files.
    """
    files = files_of_labels(run, split)
    labels = _read_files(run, split, files, ["row_id", "label"]).to_pandas()
    return read_rows(run, split, labels.groupby("label")["row_id"].first().tolist())


def read_inputs(
    run: Run, config: Config, splits: Sequence[str], limit: int, ids: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns the inputs, uint8 (n, height, width, 1), and labels, int64 (n,), of the images of some splits,
    without augmented copies; only of those with these `image_id`s, if they are given.

    If there are more than `limit` images, `limit` of them are drawn with the run's seed. The inputs are
    in a temporary file, mapped into memory: 5,000 of 600x600 take 1.8 GB.

    Raises:
        RunError: a split has no files, a row cannot be decoded, or the temporary file cannot be written.
    """
    spec = config.model.input_spec
    max_pixels, read = config.data.max_pixels, config.data.read_spec
    columns, only = ["path", "label", "bytes", *BOX], _images(run, config, splits, limit, ids)
    files = [file for split in splits for file in _files(run, split)]
    labels: list[int] = []
    with tempfile.TemporaryFile() as file:
        for table in _read_each(run, files, columns, only):
            for batch in table.to_batches(ROWS_AT_A_TIME):
                inputs = [read_input(row, spec, max_pixels, read) for row in batch.to_pylist()]
                labels += batch["label"].to_pylist()
                _append(np.stack(inputs), file)
        return np.memmap(file, np.uint8, "r", shape=(len(labels), spec.height, spec.width, 1)), np.array(
            labels
        )


def _append(inputs: NDArray[np.uint8], file: IO[bytes]) -> None:
    try:
        file.write(inputs.tobytes())
        file.flush()  # mapped pages that a full disk cannot hold would end the process instead
    except OSError as error:
        raise RunError(
            f"cannot write the network's inputs to a temporary file in {tempfile.gettempdir()}: {error}; set "
            "TMPDIR to a folder with more room"
        ) from error


def read_input_facts(
    run: Run, config: Config, splits: Sequence[str], limit: int, ids: NDArray[np.int64] | None = None
) -> pd.DataFrame:
    """Returns the manifest's rows of the images of `read_inputs`, n rows in their order.

    Raises:
        RunError: a split has no files.
    """
    only = _images(run, config, splits, limit, ids)
    images = pa.concat_tables([read_columns(run, split, ["image_id"], only) for split in splits])
    manifest = read_table(run, *DATASET_MANIFEST)
    facts: pd.DataFrame = manifest.set_index("image_id").loc[images["image_id"].to_numpy()]
    return facts


def _groups_of(run: Run, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    names = patiently()(pq.read_schema, run.path(*DATASET_MANIFEST), filesystem=run.fs).names
    manifest = read_table(run, *DATASET_MANIFEST, columns=["image_id", _group_name(names)])
    groups = group_column(manifest.set_index("image_id"))
    return np.asarray(groups.loc[pd.Index(image_ids)], np.int64)


def group_column(manifest: pd.DataFrame) -> "pd.Series[int]":
    """Returns the group of each image of a manifest; of an earlier version's, which knows none, the
    cluster."""
    return manifest[_group_name(manifest.columns)]


def _group_name(names: Container[str]) -> str:
    return "group" if "group" in names else "cluster"


def read_table(run: Run, *file: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Returns a table that `prepare` wrote beside the rows, such as the manifest; all columns unless some are
    named."""
    path = run.path(*file)
    table = patiently()(pq.read_table, path, columns=columns, filesystem=run.fs, partitioning=None)
    frame: pd.DataFrame = table.to_pandas()
    return frame


def write_table(run: Run, table: pd.DataFrame, *file: str) -> None:
    """Writes a table without its index as a Parquet file of a run, again after errors that pass.

    Raises:
        RunError: the storage refuses, or does not answer.
    """
    written = pa.Table.from_pandas(table, preserve_index=False)
    with storage_errors(f"write {run.uri(*file)}"):
        patiently()(pq.write_table, written, run.path(*file), filesystem=run.fs)


def add_source_columns(images: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Adds what the source states of each image: source_split, patient, source, fold, and its own columns.

    Args:
        images: a table with image_id, and none of these columns.
        run: a run with a finished data set; of an earlier version's, no column is added that it lacks.
    """
    path = run.path(*DATASET_MANIFEST)
    names = patiently()(pq.read_schema, path, filesystem=run.fs).names
    stated = [name for name in names if name not in RESERVED or name in STATED]
    if not stated:
        return images
    manifest = read_table(run, *DATASET_MANIFEST, columns=["image_id", *stated])
    return images.merge(manifest, "left", "image_id", validate="many_to_one")


def _images(
    run: Run, config: Config, splits: Sequence[str], limit: int, ids: NDArray[np.int64] | None
) -> pads.Expression:
    """Returns what selects the rows of some splits' images without augmented copies, or `limit` of them."""
    columns = ["image_id", "augment_seed"]
    rows = pa.concat_tables([read_columns(run, split, columns) for split in splits])
    chosen = rows["image_id"].to_numpy()[rows["augment_seed"].to_numpy() < 0]
    if ids is not None:
        chosen = chosen[np.isin(chosen, ids)]
    if len(chosen) > limit:
        chosen = np.random.default_rng(config.seed).choice(chosen, limit, replace=False)
    return pads.field("image_id").isin(chosen) & (pads.field("augment_seed") < 0)


def _files(run: Run, split: str) -> list[str]:
    return run.list_files(DATASET, split, suffix=".parquet")


def read_columns(
    run: Run, split: str, columns: Sequence[str], only: pads.Expression | None = None
) -> pa.Table:
    """Reads columns of a split's rows, all or only some; each file again after errors that pass.

    Raises:
        RunError: the split has no files.
    """
    return _read_files(run, split, _files(run, split), columns, only)


def _read_files(
    run: Run, split: str, files: Sequence[str], columns: Sequence[str], only: pads.Expression | None = None
) -> pa.Table:
    if not files:
        raise no_rows(run, split)
    return pa.concat_tables(_read_each(run, files, columns, only))


def _read_each(
    run: Run, files: Sequence[str], columns: Sequence[str], only: pads.Expression | None
) -> Iterator[pa.Table]:
    """Yields columns of the rows of each file, of up to `READERS` files read at a time."""

    def read(file: str) -> pa.Table:
        options = {"columns": list(columns), "filters": only, "filesystem": run.fs, "partitioning": None}
        return patiently()(pq.read_table, file, **options)

    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(files), READERS):
            yield from pool.map(read, files[start : start + READERS])
