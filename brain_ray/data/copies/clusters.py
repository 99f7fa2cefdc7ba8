"""Clusters of copies: copies, and copies of copies."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]

LARGE = 0.01
"""Share of a class above which a cluster of copies is doubtful."""


def cluster(count: int, a: Ints, b: Ints) -> Ints:
    """Joins pairs into clusters; returns (count,) ids. An image without a copy is a cluster of its own."""
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(_graph(count, a, b), directed=False)
    return np.asarray(labels, np.int64)


def equal_pairs(hashes: pd.Series) -> tuple[Ints, Ints]:
    """Returns positions (a, b) that chain the rows with equal hashes: k rows give k - 1 pairs."""
    groups = pd.Series(np.arange(len(hashes))).groupby(hashes.to_numpy(), sort=False)
    before = groups.shift()
    later = before.notna().to_numpy()
    return before[later].to_numpy(np.int64), np.flatnonzero(later).astype(np.int64)


def ends(count: int, a: Ints, b: Ints) -> tuple[Ints, Ints]:
    """Returns two far members of each cluster in which some pair is missing, those of large clusters first.

    From a member, the one that most pairs lie between; and from that one again. In a chain these are its
    ends.
    """
    labels = cluster(count, a, b)
    sizes = np.bincount(labels)
    complete = np.bincount(labels[a], minlength=len(sizes)) >= sizes * (sizes - 1) // 2
    starts = np.unique(labels, return_index=True)[1][~complete]
    graph = _graph(count, a, b)
    one = _farthest(graph, labels, starts)
    other = _farthest(graph, labels, one)
    order = np.argsort(-sizes[labels[one]], kind="stable")
    return one[order], other[order]


def _graph(count: int, a: Ints, b: Ints) -> Any:
    from scipy.sparse import coo_array

    both = np.concatenate([a, b]), np.concatenate([b, a])
    return coo_array((np.ones(2 * len(a), np.int32), both), shape=(count, count)).tocsr()


def _farthest(graph: Any, labels: Ints, starts: Ints) -> Ints:
    """Returns, for each of the starts in different clusters, the member of its cluster that most edges lie
    between."""
    distance = np.full(len(labels), -1)
    front = np.zeros(len(labels), np.int32)
    front[starts] = 1
    step = 0
    while front.any():
        distance[front > 0] = step
        step += 1
        front = ((graph @ front > 0) & (distance < 0)).astype(np.int32)
    reached = np.flatnonzero(distance >= 0)
    reached = reached[np.lexsort((distance[reached], labels[reached]))]
    last = np.append(np.diff(labels[reached]) != 0, True)[: len(reached)]
    farthest = dict(zip(labels[reached[last]].tolist(), reached[last].tolist(), strict=True))
    return np.array([farthest[label] for label in labels[starts].tolist()], np.int64)


def doubtful(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the clusters that a person should look at, large ones first: those with more than `LARGE` of a
    class, and chains, whose ends are not alike.

    Args:
        manifest: usable images with path, class_name, cluster, cluster_size and chain.

    Returns:
        For each, its number in the manifest, its images, classes, share (the largest one of a class), chain,
            and the path of one of its images.
    """
    totals = manifest["class_name"].value_counts()
    copied = manifest[manifest["cluster_size"] > 2]
    found = []
    for number, members in copied.groupby("cluster"):
        share = (members["class_name"].value_counts() / totals).max()
        chain = bool(members["chain"].iloc[0])
        if share > LARGE or chain:
            found.append(
                {
                    "cluster": int(str(number)),
                    "images": len(members),
                    "classes": sorted(set(members["class_name"])),
                    "share": round(float(share), 4),
                    "chain": chain,
                    "path": str(members["path"].iloc[0]),
                }
            )
    return sorted(found, key=lambda one: -one["images"])
