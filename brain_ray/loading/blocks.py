"""Blocks of decoded rows: what a task of Ray Data makes of a part of the plan, and how it is read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from brain_ray.config import Config, ModelConfig
from brain_ray.data.parts import Part
from brain_ray.data.rows import ROW_COLUMNS, changes_of, read_input
from brain_ray.errors import RunError
from brain_ray.loading.kept_rows import KeptRows

TASK_ROWS = 256
"""Largest number of rows that a task decodes: some tenths of a second's work."""

TASK_PIXELS = 16_000_000
"""Approximate number of pixels that a task returns; large inputs are split into smaller pieces."""

_KEPT = KeptRows()


def task_rows(model: ModelConfig) -> int:
    """Returns how many rows a task decodes."""
    return max(1, min(TASK_ROWS, TASK_PIXELS // (model.height * model.width)))


def decode_plan(
    plan: pa.Table, parts: Sequence[Part], store: Any, config: Config, epoch: int | None
) -> pa.Table:
    """Decodes the rows that a plan lists by `part` and `row`; a task of Ray Data.

    Returns:
        A block for `read_block`: one row, whose `image` are the bytes of all images, so that neither Arrow
        nor Ray Data handles them one by one, with their `label` list and the first `error` (empty: none).
        Errors are returned and not raised, because Ray Data would wrap them beyond recognition.
    """
    cv2.setNumThreads(1)  # the other CPUs have rows of their own
    numbers = plan["part"].to_numpy()
    needed = np.unique(numbers).tolist()
    rows_of = dict(zip(needed, _KEPT.of(store, [parts[number] for number in needed]), strict=True))
    places = zip(numbers.tolist(), plan["row"].to_pylist(), strict=True)
    decoded = _decode((rows_of[part].row(row) for part, row in places), len(plan), config, epoch)
    pixels = pa.py_buffer(decoded["image"])
    ends = pa.py_buffer(np.array([0, pixels.size], np.int64))
    return pa.table(
        {
            "image": pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pixels]),
            "label": [decoded["label"]],
            "error": [next(filter(None, decoded["error"]), "")],
        }
    )


def read_block(block: pa.Table, model: ModelConfig) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns the images, uint8 (n, height, width, 1), and labels, int64 (n,), of a block; shares its memory.

    Raises:
        RunError: one of its rows could not be decoded.
    """
    if error := block["error"][0].as_py():
        raise RunError(error)
    labels = block["label"].chunk(0).values.to_numpy()
    images = np.frombuffer(block["image"][0].as_buffer(), np.uint8)
    return images.reshape(len(labels), model.height, model.width, 1), labels


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
