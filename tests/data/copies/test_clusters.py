"""Clusters join copies of copies; their ends tell a chain of neighbours, and large ones are doubtful."""

import itertools

import numpy as np
import pandas as pd
import pytest

from brain_ray.data.copies.clusters import cluster, doubtful, ends, equal_pairs


def pairs(*found: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.array(found, np.int64).reshape(-1, 2).T
    return a, b


def test_clusters_join_chains_of_pairs() -> None:
    ids = cluster(6, *pairs((0, 2), (2, 5)))
    assert ids[0] == ids[2] == ids[5]
    assert len(set(ids.tolist())) == 4


def test_equal_hashes_are_chained() -> None:
    a, b = equal_pairs(pd.Series(["x", "y", "x", "z", "x"]))
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == [(0, 2), (2, 4)]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 0, 5, 1, 4, 2]])
def test_the_ends_of_a_chain_are_found(order: list[int]) -> None:
    a, b = ends(8, *pairs(*itertools.pairwise(order)))
    assert [set(pair) for pair in zip(a.tolist(), b.tolist(), strict=True)] == [{order[0], order[-1]}]


def test_clusters_of_which_every_pair_is_known_have_no_ends() -> None:
    a, b = ends(9, *pairs((0, 1), (0, 2), (1, 2), (5, 6)))
    assert len(a) == len(b) == 0


def test_large_clusters_come_first() -> None:
    a, b = ends(20, *pairs((0, 1), (1, 2), (10, 11), (11, 12), (12, 13), (4, 5)))
    assert [{*pair} for pair in zip(a.tolist(), b.tolist(), strict=True)] == [{10, 13}, {0, 2}]


def test_no_pairs_have_no_ends() -> None:
    a, b = ends(0, *pairs())
    assert len(a) == len(b) == 0


def test_chains_and_large_clusters_are_doubtful() -> None:
    numbers = [0] * 5 + [1] * 3 + [2] * 4 + list(range(3, 391))
    manifest = pd.DataFrame(
        {
            "path": [f"{k}.png" for k in range(400)],
            "class_name": ["glioma"] * 6 + ["notumor"] * 394,
            "cluster": numbers,
            "chain": np.array(numbers) == 2,
        }
    )
    manifest["cluster_size"] = manifest.groupby("cluster")["path"].transform("size")
    told = doubtful(manifest)
    assert [one["cluster"] for one in told] == [0, 2, 1]
    assert told[0] == {
        "cluster": 0, "images": 5, "classes": ["glioma"], "share": 0.8333, "chain": False, "path": "0.png",
    }  # fmt: skip
    assert told[1]["chain"]
    assert told[2]["classes"] == ["glioma", "notumor"]
