"""Clusters of copies: copies, and copies of copies."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def cluster(count: int, a: Ints, b: Ints) -> Ints:
    """Joins pairs into clusters; returns (count,) ids. An image without a copy is a cluster of its own."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    _, labels = connected_components(edges, directed=False)
    return np.asarray(labels, np.int64)


def equal_pairs(hashes: pd.Series) -> tuple[Ints, Ints]:
    """Returns positions (a, b) that chain the rows with equal hashes: k rows give k - 1 pairs."""
    groups = pd.Series(np.arange(len(hashes))).groupby(hashes.to_numpy(), sort=False)
    before = groups.shift()
    later = before.notna().to_numpy()
    return before[later].to_numpy(np.int64), np.flatnonzero(later).astype(np.int64)
