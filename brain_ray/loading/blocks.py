"""Blocks of decoded rows: what a task of Ray Data makes of a part of the plan, and how it is read."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from brain_ray.config import Config, ModelConfig
from brain_ray.data.outline_masks import mask_size, read_mask
from brain_ray.data.parts import Part
from brain_ray.data.rows import ROW_COLUMNS, changes_of, read_input
from brain_ray.errors import RunError
from brain_ray.loading.kept_rows import KeptMasks, KeptRows

TASK_ROWS = 256
"""Largest number of rows that a task decodes: some tenths of a second's work."""

TASK_PIXELS = 16_000_000
"""Approximate number of pixels that a task returns; large inputs are split into smaller pieces."""

LEAST_PRIORITY = 19
"""Niceness of what decodes; Ray starts its processes, those that train too, with 15."""

_KEPT, _MASKS = KeptRows(), KeptMasks()


def task_rows(model: ModelConfig) -> int:
    """Returns how many rows a task decodes."""
    return max(1, min(TASK_ROWS, TASK_PIXELS // (model.height * model.width)))


def decode_plan(
    plan: pa.Table, parts: Sequence[Part], store: Any, config: Config, epoch: int | None
) -> pa.Table:
    """Decodes the rows that a plan lists by `part` and `row`; a task of Ray Data.

    Returns:
        A block for `read_block`: one row, whose `image` are the bytes of all images, so that neither Arrow
        nor Ray Data handles them one by one, with their `label` list and the first `error` (empty: none). In
        an epoch that learns from outlines too (`train.outlines`), `mask` are the bytes of all masks, and the
        list `outlined` tells which images have one.
        Errors are returned and not raised, because Ray Data would wrap them beyond recognition.
    """
    cv2.setNumThreads(1)  # the other CPUs have rows of their own
    _let_training_go_first()
    numbers = plan["part"].to_numpy()
    needed = np.unique(numbers).tolist()
    rows_of = dict(zip(needed, _KEPT.of(store, [parts[number] for number in needed]), strict=True))
    places = zip(numbers.tolist(), plan["row"].to_pylist(), strict=True)
    rows = [rows_of[part].row(row) for part, row in places]
    decoded = _decode(rows, len(plan), config, epoch)
    columns: dict[str, Any] = {
        "image": _in_one(decoded["image"]),
        "label": [decoded["label"]],
        "error": [next(filter(None, decoded["error"]), "")],
    }
    if epoch is not None and config.train.learns_outlines:
        masks, outlined = _masks(rows, _MASKS.of(store), config, epoch)
        columns |= {"mask": _in_one(masks), "outlined": [outlined]}
    return pa.table(columns)


def _let_training_go_first() -> None:
    """Gives this thread the lowest priority: a step waits for each of its threads, loading is ahead of it."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, 0, LEAST_PRIORITY)


def _in_one(array: NDArray[np.uint8]) -> pa.Array:
    """Returns the bytes of an array as a column of one row."""
    data = pa.py_buffer(array)
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(np.array([0, data.size])), data])


def read_block(block: pa.Table, config: Config) -> tuple[NDArray[Any], ...]:
    """Returns the images, uint8 (n, height, width, 1), and labels, int64 (n,), of a block; shares its memory.

    Where it has them, then the masks, uint8 (n, `mask_size`), 255 inside, and which images are outlined,
    float32 (n,), 1 or 0.

    Raises:
        RunError: one of its rows could not be decoded.
    """
    if error := block["error"][0].as_py():
        raise RunError(error)
    labels = block["label"].chunk(0).values.to_numpy()
    images = np.frombuffer(block["image"][0].as_buffer(), np.uint8)
    found = images.reshape(len(labels), config.model.height, config.model.width, 1), labels
    if "mask" not in block.column_names:
        return found
    masks = np.frombuffer(block["mask"][0].as_buffer(), np.uint8).reshape(len(labels), *mask_size(config))
    return (*found, masks, block["outlined"].chunk(0).values.to_numpy())


def _masks(
    rows: Sequence[Mapping[str, Any]], known: Mapping[str, bytes], config: Config, epoch: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    masks = np.zeros((len(rows), *mask_size(config)), np.uint8)
    outlined = np.zeros(len(rows), np.float32)
    for i, row in enumerate(rows):
        if row["path"] in known:
            masks[i], outlined[i] = read_mask(known[row["path"]], config, changes_of(row, config, epoch)), 1
    return masks, outlined


def decode_rows(rows: pa.Table, config: Config, epoch: int | None) -> dict[str, NDArray[Any]]:
    """Decodes prepared rows into `image` (n, height, width, 1) uint8, `label` (n,) int64 and `error` (n,)
    str.

    Errors are returned (empty: none) and not raised, because Ray Data would wrap them beyond recognition.
    """
    return _decode(rows.select(ROW_COLUMNS).to_pylist(), len(rows), config, epoch)


def _decode(
    rows: Iterable[Mapping[str, Any]], count: int, config: Config, epoch: int | None
) -> dict[str, NDArray[Any]]:
    model = config.model
    pixels = np.empty((count, model.height, model.width, 1), np.uint8)
    labels = np.empty(count, np.int64)
    errors = np.full(count, "", object)
    spec, read = model.input_spec, config.data.read_spec
    for i, row in enumerate(rows):
        labels[i] = row["label"]
        try:
            changes = changes_of(row, config, epoch)
            pixels[i] = read_input(row, spec, config.data.max_pixels, read, changes)
        except RunError as error:
            errors[i] = str(error)
    return {"image": pixels, "label": labels, "error": errors}
