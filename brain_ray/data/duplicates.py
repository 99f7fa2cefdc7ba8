"""Search for duplicates among all scanned images: Ray tasks compare groups of blocks."""

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations_with_replacement
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import ray
import ray.data

from brain_ray.arrays import fixed_size, from_fixed_size
from brain_ray.cluster import capacity
from brain_ray.data import similarity
from brain_ray.data.transforms import THUMBNAIL_SIDE

GROUP_BLOCKS = 8
"""Largest number of blocks in a group; a task compares two groups. For 10 million images these are 47,000
tasks, which are sent 3 TB; pair by pair they would be 3 million, and 25 TB."""

REPEATS = 16
"""Largest number of images with equal pixels that are compared; thousands of equal images would be millions
of pairs."""

T = TypeVar("T")


def find_copies(
    scanned: ray.data.Dataset, images: pd.DataFrame, threshold: float
) -> tuple[pd.DataFrame, int]:
    """Compares all pairs of images, block by block; returns the copies and the number of near misses.

    Of more than `REPEATS` images with equal pixels, each further one is listed as a copy of the one before
    it, and in no other pair.

    Args:
        scanned: the result of `Scan`.
        images: the usable images, indexed by image_id, with the manifest's columns.
        threshold: least similarity of two copies.

    Returns:
        Table of pairs with a < b (image_ids), similarity, transform (one of `TRANSFORMS`), and columns that
            describe both images.
    """
    blocks = scanned.to_arrow_refs()
    select, find, verify = (
        ray.remote(work).options(num_cpus=1)
        for work in (select_embeddings, find_candidates, verify_candidates)
    )
    further = images.groupby("pixel_sha256").cumcount().to_numpy() >= REPEATS
    passed_over = ray.put(images["image_id"].to_numpy()[further])
    embeddings = [select.remote(block, passed_over) for block in blocks]
    lowest = similarity.lowest_counted(threshold)
    size = min(GROUP_BLOCKS, max(1, len(blocks) // (2 * capacity.cpus())))
    groups = [range(k, min(k + size, len(blocks))) for k in range(0, len(blocks), size)]

    def start_finding(pair: tuple[range, range]) -> Any:
        members = [embeddings[k] for group in dict.fromkeys(pair) for k in group]
        return find.remote(lowest, len(pair[0]), *members)

    def start_verifying(found: tuple[int, int, Any, Any]) -> Any:
        i, j, a, b = found
        return verify.remote(blocks[i], blocks[j], a, b, lowest)

    candidates = (
        (one[i], other[j], a, b)
        for (one, other), found in run_tasks(start_finding, combinations_with_replacement(groups, 2))
        for i, j, a, b in found
    )
    found = [pairs for _, pairs in run_tasks(start_verifying, candidates)]
    pairs: pd.DataFrame = pd.concat([NO_PAIRS, *found], ignore_index=True)
    pairs = pairs[pairs["a"].isin(images.index) & pairs["b"].isin(images.index)]
    near = pairs["similarity"] < threshold
    near_misses = int(near.sum())
    pairs = pairs[~near]
    same = pd.DataFrame(_same_pixels(images), columns=["a", "b"])
    # A uniform image correlates with nothing; its copies are found by their hash.
    pairs = pd.concat([pairs, same.assign(similarity=1.0, transform="identity")])
    pairs = pairs.drop_duplicates(["a", "b"]).sort_values(["a", "b"], ignore_index=True)
    return _describe(pairs, images), near_misses


def run_tasks(start: Callable[[T], Any], inputs: Iterable[T]) -> Iterator[tuple[T, Any]]:
    """Starts a task for each input, a few at a time; yields inputs and results as the tasks finish.

    Millions of tasks at once would fill the driver's memory, and each wait would check all of them.
    """
    waiting: dict[Any, T] = {}
    for item in inputs:
        if len(waiting) >= 4 * capacity.cpus():
            (done,), _ = ray.wait(list(waiting))
            yield waiting.pop(done), ray.get(done)
        waiting[start(item)] = item
    while waiting:
        (done,), _ = ray.wait(list(waiting))
        yield waiting.pop(done), ray.get(done)


def _same_pixels(images: pd.DataFrame) -> list[tuple[int, int]]:
    a, b = similarity.equal_pairs(images["pixel_sha256"])
    ids = images["image_id"].to_numpy()
    return list(zip(ids[a].tolist(), ids[b].tolist(), strict=True))


def _describe(pairs: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    a, b = images.loc[pairs["a"]], images.loc[pairs["b"]]
    for name, column in (("path", "path"), ("class", "class_name"), ("split", "source_split")):
        pairs[f"{name}_a"], pairs[f"{name}_b"] = a[column].to_numpy(), b[column].to_numpy()
    pairs["kind"] = "near"
    pairs.loc[(a["pixel_sha256"].to_numpy() == b["pixel_sha256"].to_numpy()), "kind"] = "same pixels"
    pairs.loc[(a["file_sha256"].to_numpy() == b["file_sha256"].to_numpy()), "kind"] = "same bytes"
    return pairs


Candidates = list[tuple[int, int, similarity.Ints, similarity.Ints]]
"""Positions of two blocks in their groups, and of rows in them that may be copies of each other."""


NO_PAIRS = pd.DataFrame({"a": [], "b": [], "similarity": [], "transform": []}).astype(
    {"a": "int64", "b": "int64", "similarity": "float32", "transform": "str"}
)
"""Empty table of `verify_candidates`."""


def select_embeddings(block: pa.Table, passed_over: similarity.Ints) -> pa.Table:
    """Returns a scanned block's column `embedding`, a tenth of its bytes, from which candidates are found.

    Args:
        block: a block from `Scan`.
        passed_over: image_ids whose embeddings become zeros, so that they resemble nothing.
    """
    chosen = block.select(["embedding"])
    over = np.isin(block["image_id"].to_numpy(), passed_over)
    if not over.any():
        return chosen
    embeddings = _embeddings(chosen)
    embeddings[over] = 0.0
    return pa.table({"embedding": fixed_size(embeddings)})


def find_candidates(lowest: float, count: int, *blocks: pa.Table) -> Candidates:
    """Returns the pairs of rows, one from each group of blocks, that may be copies or near misses.

    Args:
        lowest: least similarity of the pairs.
        count: number of blocks in the first group; if there is no other, pairs are searched within it.
        blocks: tables from `select_embeddings`, those of the first group, then those of the second.
    """
    first = [_embeddings(block) for block in blocks[:count]]
    second = [_embeddings(block) for block in blocks[count:]] or first
    a, b = similarity.candidates(np.concatenate(first), np.concatenate(second), lowest)
    if len(blocks) == count:
        a, b = a[a < b], b[a < b]
    starts_a, starts_b = (np.cumsum([0, *map(len, group)]) for group in (first, second))
    block_a, block_b = (
        np.searchsorted(starts, rows, "right") - 1 for starts, rows in ((starts_a, a), (starts_b, b))
    )
    found: Candidates = []
    for i, j in sorted(set(zip(block_a.tolist(), block_b.tolist(), strict=True))):
        chosen = (block_a == i) & (block_b == j)
        found.append((i, j, a[chosen] - starts_a[i], b[chosen] - starts_b[j]))
    return found


def verify_candidates(
    first: pa.Table, second: pa.Table, a: similarity.Ints, b: similarity.Ints, lowest: float
) -> pd.DataFrame:
    """Returns the candidates with a similarity of at least `lowest`.

    Args:
        first: a block from `Scan`.
        second: another block, or the same one.
        a: positions of the candidates in `first`.
        b: positions of the candidates in `second`.
        lowest: least similarity.

    Returns:
        Table with a < b (image_ids), similarity, and transform (one of `TRANSFORMS`).
    """
    pairs = similarity.verify(_thumbnails(first), _thumbnails(second), a, b, lowest)
    ids_a, ids_b = first["image_id"].to_numpy()[pairs.a], second["image_id"].to_numpy()[pairs.b]
    names = np.array(similarity.TRANSFORMS)[pairs.transform]
    return pd.DataFrame(
        {
            "a": np.minimum(ids_a, ids_b),
            "b": np.maximum(ids_a, ids_b),
            "similarity": pairs.similarity,
            "transform": names,
        }
    )


def _thumbnails(table: pa.Table) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return from_fixed_size(table["thumbnail"]).reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)


def _embeddings(table: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
    return from_fixed_size(table["embedding"]).reshape(-1, similarity.EMBEDDING_SIZE)
