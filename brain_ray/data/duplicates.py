"""Duplicate search over all scanned images: Ray tasks compare groups of blocks."""

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
"""Most blocks that a task compares with as many others: for 10 million images these are 47,000 tasks, which
are sent 3 TB; pair by pair they would be 3 million, and 25 TB."""

REPEATS = 16
"""Most images with the same pixels that are compared; thousands of one would be millions of pairs."""

T = TypeVar("T")


def find_copies(
    scanned: ray.data.Dataset, images: pd.DataFrame, threshold: float
) -> tuple[pd.DataFrame, int]:
    """Compare all pairs of images, block by block; return the copies and the number of near misses.

    Of more than `REPEATS` images with the same pixels, each further one is a copy of the one before it, and
    no other pair of it is listed.

    Args:
        scanned: what `Scan` returns.
        images: those of use, by their image_id.
        threshold: the similarity from which on two images are copies.
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
    # An even picture correlates with nothing, its equals are found by their hash.
    pairs = pd.concat([pairs, same.assign(similarity=1.0, transform="identity")])
    pairs = pairs.drop_duplicates(["a", "b"]).sort_values(["a", "b"], ignore_index=True)
    return _describe(pairs, images), near_misses


def run_tasks(start: Callable[[T], Any], inputs: Iterable[T]) -> Iterator[tuple[T, Any]]:
    """Start a task for each input, a few at a time; yield inputs and results as they come.

    Millions of tasks at once would fill the driver's memory, and each wait would look at all of them.
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
"""Positions of two blocks in their groups, and of the rows in them that may be copies of each other."""


NO_PAIRS = pd.DataFrame({"a": [], "b": [], "similarity": [], "transform": []}).astype(
    {"a": "int64", "b": "int64", "similarity": "float32", "transform": "str"}
)
"""What `verify_candidates` returns where there is no copy."""


def select_embeddings(block: pa.Table, passed_over: similarity.Ints) -> pa.Table:
    """Return what finds candidates for copies in a scanned block: a tenth of it.

    Args:
        block: what `Scan` returns.
        passed_over: image_ids of those that shall resemble nothing.
    """
    chosen = block.select(["embedding"])
    over = np.isin(block["image_id"].to_numpy(), passed_over)
    if not over.any():
        return chosen
    embeddings = _embeddings(chosen)
    embeddings[over] = 0.0
    return pa.table({"embedding": fixed_size(embeddings)})


def find_candidates(lowest: float, count: int, *blocks: pa.Table) -> Candidates:
    """Return the pairs of rows that may be copies or near misses, one of each group of blocks.

    Args:
        lowest: the similarity from which on pairs are wanted.
        count: how many blocks are of the first group; if all are, pairs are looked for within it.
        blocks: what `select_embeddings` returns, first those of the one group, then those of the other.
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
    """Return the candidates that are as similar as `lowest`: a < b (image_ids), similarity, transform."""
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
