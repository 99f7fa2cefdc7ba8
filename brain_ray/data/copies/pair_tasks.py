"""Ray tasks of the search for duplicates, as functions of the tables that they are sent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from brain_ray.arrays import fixed_size, from_fixed_size
from brain_ray.data.copies.candidates import CANDIDATE, NUM_VIEWS, Index, Ints, search
from brain_ray.data.copies.head_view import SIDE
from brain_ray.data.copies.placement import TRANSFORMS, VIEWS, place
from brain_ray.data.copies.spectra import EMBEDDING_SIZE, PACKED_SIZE
from brain_ray.data.copies.verification import Pairs, alike, verify
from brain_ray.data.copies.whitening import Moments, Whitening, moments

SAME: dict[str, Any] = {
    "similarity": np.float32(1), "transform": "identity", "view": "whole",
    "shift": np.float32(0), "angle": np.float32(0), "zoom": np.float32(1),
}  # fmt: skip
"""What is said of two images with the same pixels."""

PLAIN = ("a", "b", "view", "changed")
"""Fields of `CANDIDATE` that are single numbers."""

NO_PAIRS = pd.DataFrame([{"a": 0, "b": 0, **SAME}]).iloc[:0]
"""Empty table of `verify_candidates`."""


def take_moments(block: pa.Table) -> Moments:
    """Returns the moments of the embeddings of a block from `Scan`."""
    return moments(_column(block, "embeddings", NUM_VIEWS, EMBEDDING_SIZE))


def select_index(block: pa.Table, passed_over: Ints, whitening: Whitening) -> pa.Table:
    """Returns a scanned block's columns from which candidates are found, a seventh of its bytes.

    Args:
        block: a block from `Scan`.
        passed_over: image_ids whose embeddings become zeros, so that they resemble nothing.
        whitening: what is done to the others.
    """
    embeddings = whitening.apply(_column(block, "embeddings", NUM_VIEWS, EMBEDDING_SIZE))
    embeddings[np.isin(block["image_id"].to_numpy(), passed_over)] = 0.0
    return block.select(["spectra"]).append_column("embeddings", fixed_size(embeddings))


def find_candidates(floor: float, count: int, *blocks: pa.Table) -> tuple[list[tuple[int, int]], pa.Table]:
    """Finds the pairs of rows, one from each group of blocks, that may be copies or near misses.

    Args:
        floor: least product of two embeddings.
        count: number of blocks in the first group; if there is no other, pairs are searched within it.
        blocks: tables from `select_index`, those of the first group, then those of the second.

    Returns:
        For each block that candidates are in, its position in `blocks` and that of its first row in all of
            them; and a table with the fields of `CANDIDATE`, where a and b are positions in all blocks.
    """
    starts = np.cumsum([0, *map(len, blocks)])
    found = search(_index(blocks[:count]), _index(blocks[count:]) if len(blocks) > count else None, floor)
    if len(blocks) > count:
        found["b"] += starts[count]
    numbers = np.unique(np.searchsorted(starts, _rows(found["a"], found["b"]), "right") - 1)
    used = [(int(number), int(starts[number])) for number in numbers]
    columns = {name: np.ascontiguousarray(found[name]) for name in PLAIN}
    return used, pa.table({**columns, "pose": fixed_size(np.ascontiguousarray(found["pose"]))})


COMPARED = ["image_id", "width", "height", "views", "heads"]
"""Columns of a block from `Scan` that pairs are compared by."""


def take_rows(block: pa.Table, candidates: pa.Table, start: int) -> pa.Table:
    """Returns the rows of a block that candidates are in.

    Args:
        block: a block from `Scan`.
        candidates: from `find_candidates`.
        start: position of the block's first row.
    """
    rows = _rows(candidates["a"].to_numpy(), candidates["b"].to_numpy()) - start
    return block.select(COMPARED).take(rows[(rows >= 0) & (rows < len(block))])


def take_images(block: pa.Table, ids: Ints) -> pa.Table:
    """Returns the rows of a block from `Scan` with some image_ids."""
    return block.select(COMPARED).take(np.flatnonzero(np.isin(block["image_id"].to_numpy(), ids)))


def alike_images(a: Ints, b: Ints, least: float, *blocks: pa.Table) -> NDArray[np.bool_]:
    """Returns whether pairs of images are alike (see `verification.alike`).

    Args:
        a: image_ids of the first images, (n,).
        b: image_ids of the second images, (n,).
        least: least similarity.
        blocks: all their rows, from `take_images`.
    """
    table = pa.concat_tables(blocks)
    position = pd.Series(np.arange(len(table)), table["image_id"].to_numpy())
    one, other = (position[ids].to_numpy(np.int64) for ids in (a, b))
    return alike(_column(table, "views", NUM_VIEWS, SIDE, SIDE), one, other, least)


def verify_candidates(candidates: pa.Table, threshold: float, *blocks: pa.Table) -> pd.DataFrame:
    """Returns the candidates that are copies or near misses.

    Args:
        candidates: from `find_candidates`.
        threshold: least similarity of two copies.
        blocks: the rows of each block that candidates are in, from `take_rows`, in their order.

    Returns:
        Table with a < b (image_ids), similarity, transform, view, shift, angle and zoom.
    """
    table = pa.concat_tables(blocks)
    pairs = np.empty(len(candidates), CANDIDATE)
    for name in PLAIN:
        pairs[name] = candidates[name].to_numpy()
    pairs["pose"] = _column(candidates, "pose", 2, 3)
    rows = _rows(pairs["a"], pairs["b"])
    for name in ("a", "b"):
        pairs[name] = np.searchsorted(rows, pairs[name])
    return _describe(table, verify(_column(table, "views", NUM_VIEWS, SIDE, SIDE), pairs, threshold))


def _describe(table: pa.Table, pairs: Pairs) -> pd.DataFrame:
    ids = table["image_id"].to_numpy()
    heads = _column(table, "heads", NUM_VIEWS, 3)
    sizes = np.column_stack([table["width"].to_numpy(), table["height"].to_numpy()])
    swapped = ids[pairs.a] > ids[pairs.b]
    a, b = np.where(swapped, pairs.b, pairs.a), np.where(swapped, pairs.a, pairs.b)
    linear = np.linalg.inv(pairs.transforms[:, :, :2])
    backwards = np.concatenate([linear, -(linear @ pairs.transforms[:, :, 2:])], axis=2)
    transforms = np.where(swapped[:, None, None], backwards, pairs.transforms)
    placed = place(transforms, heads[a, pairs.view], heads[b, pairs.view], sizes[a], sizes[b])
    return pd.DataFrame(
        {
            "a": ids[a],
            "b": ids[b],
            "similarity": pairs.similarity,
            "transform": np.array(TRANSFORMS)[placed.transform],
            "view": np.array(VIEWS)[placed.views(pairs.aligned)],
            "shift": placed.shift,
            "angle": placed.angle,
            "zoom": placed.zoom,
        }
    )


def _rows(a: Ints, b: Ints) -> Ints:
    """Returns the rows that candidates are in, in ascending order."""
    return np.unique(np.concatenate([a, b]))


def _index(blocks: Sequence[pa.Table]) -> Index:
    embeddings = [_column(block, "embeddings", NUM_VIEWS, EMBEDDING_SIZE) for block in blocks]
    packed = [_column(block, "spectra", NUM_VIEWS, PACKED_SIZE) for block in blocks]
    return Index(np.concatenate(embeddings), np.concatenate(packed))


def _column(table: pa.Table, name: str, *shape: int) -> np.ndarray[Any, Any]:
    return from_fixed_size(table[name]).reshape(-1, *shape)
