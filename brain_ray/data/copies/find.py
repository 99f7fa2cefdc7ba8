"""Search for duplicates among all scanned images: Ray tasks compare groups of blocks."""

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
import ray
import ray.data
from numpy.typing import NDArray

from brain_ray.cluster import capacity
from brain_ray.cluster.tasks import run_tasks
from brain_ray.data.copies.clusters import cluster, ends, equal_pairs
from brain_ray.data.copies.pair_tasks import (
    NO_PAIRS,
    SAME,
    alike_images,
    find_candidates,
    select_index,
    take_images,
    take_moments,
    take_rows,
    verify_candidates,
)
from brain_ray.data.copies.whitening import whitening

GROUP_BLOCKS = 8
"""Largest number of blocks in a group; a task compares two groups. Pair by pair, each block would be sent to
eight times as many tasks."""

REPEATS = 16
"""Largest number of images with equal pixels that are compared; thousands of equal images would be millions
of pairs."""

MEASURED_BLOCKS = 64
"""About the largest number of blocks whose embeddings are measured."""

ALIKE = 0.9
"""Least similarity of the ends of a cluster of copies; below it is a chain."""

ENDS = 1000
"""Largest number of clusters whose ends are compared."""


def find_copies(
    scanned: ray.data.Dataset, images: pd.DataFrame, threshold: float
) -> tuple[pd.DataFrame, int]:
    """Compares all pairs of images, block by block; returns the copies and the number of near misses.

    Candidates stay in the cluster's memory: the driver sees the copies and near misses alone. Of more than
    `REPEATS` images with equal pixels, each further one is listed as a copy of the one before it, and in no
    other pair.

    Args:
        scanned: the result of `Scan`.
        images: the usable images, indexed by image_id, with the manifest's columns.
        threshold: least similarity of two copies.

    Returns:
        Table of pairs with a < b (image_ids), similarity, transform (of `TRANSFORMS`), view (of `VIEWS`),
            shift, angle and zoom (see `Placement`), chain (whether it belongs to a cluster whose ends are
            not alike: slices that lie next to each other rather than copies), and columns that describe both
            images.
    """
    blocks = scanned.to_arrow_refs()
    sums, select, take, verify = (
        ray.remote(work).options(num_cpus=1)
        for work in (take_moments, select_index, take_rows, verify_candidates)
    )
    find = ray.remote(find_candidates).options(num_cpus=1, num_returns=2)
    further = images.groupby("pixel_sha256").cumcount().to_numpy() >= REPEATS
    passed_over = ray.put(images["image_id"].to_numpy()[further])
    measured = [sums.remote(block) for block in blocks[:: 1 + len(blocks) // MEASURED_BLOCKS]]
    white = whitening(ray.get(measured))
    shared = ray.put(white)
    selected = [select.remote(block, passed_over, shared) for block in blocks]
    size = min(GROUP_BLOCKS, max(1, len(blocks) // (2 * capacity.cpus())))
    groups = [range(k, min(k + size, len(blocks))) for k in range(0, len(blocks), size)]
    candidates: dict[Any, Any] = {}

    def start_finding(pair: tuple[range, range]) -> Any:
        members = [selected[k] for group in dict.fromkeys(pair) for k in group]
        used, candidates[pair] = find.remote(white.floor, len(pair[0]), *members)
        return used

    def start_verifying(found: tuple[tuple[range, range], Sequence[tuple[int, int]]]) -> Any:
        pair, used = found
        members = [blocks[k] for group in dict.fromkeys(pair) for k in group]
        own = candidates.pop(pair)
        return verify.remote(own, threshold, *(take.remote(members[k], own, start) for k, start in used))

    searched = run_tasks(start_finding, combinations_with_replacement(groups, 2))
    verified = run_tasks(start_verifying, (found for found in searched if found[1]))
    pairs: pd.DataFrame = pd.concat([NO_PAIRS, *(table for _, table in verified)], ignore_index=True)
    pairs = pairs[pairs["a"].isin(images.index) & pairs["b"].isin(images.index)]
    near = pairs["similarity"] < threshold
    near_misses = int(near.sum())
    same = pd.DataFrame(_same_pixels(images), columns=["a", "b"])
    # A uniform image correlates with nothing; its copies are found by their hash.
    pairs = pd.concat([same.assign(**SAME), pairs[~near]])
    pairs = pairs.drop_duplicates(["a", "b"]).sort_values(["a", "b"], ignore_index=True)
    pairs["chain"] = _in_chains(blocks, pairs, images)
    return _describe(pairs, images), near_misses


def _in_chains(blocks: Sequence[Any], pairs: pd.DataFrame, images: pd.DataFrame) -> NDArray[np.bool_]:
    """Returns whether each pair belongs to a chain; only the largest clusters are looked at."""
    a, b = (pairs[name].to_numpy(np.int64) for name in ("a", "b"))
    count = 1 + int(images.index.max()) if len(images) else 0
    one, other = (found[:ENDS] for found in ends(count, a, b))
    hashes = images["pixel_sha256"]
    same = hashes.reindex(one).to_numpy() == hashes.reindex(other).to_numpy()
    one, other = one[~same], other[~same]
    if not len(one):
        return np.zeros(len(pairs), np.bool_)
    ids = ray.put(np.concatenate([one, other]))
    take, compare = (ray.remote(work).options(num_cpus=1) for work in (take_images, alike_images))
    found = ray.get(compare.remote(one, other, ALIKE, *(take.remote(block, ids) for block in blocks)))
    labels = cluster(count, a, b)
    return np.isin(labels[a], labels[one[~found]])


def _same_pixels(images: pd.DataFrame) -> list[tuple[int, int]]:
    a, b = equal_pairs(images["pixel_sha256"])
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
