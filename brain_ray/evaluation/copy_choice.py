"""Choice of the copies and labels that a report shows, from the tables of a prepared data set.

The images of a cluster are laid out in a row, from one end to the other, by the number of pairs that lie
between each of them and the first. Where slices that merely resemble each other hang together, the row shows
it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pandas as pd

from brain_ray.data.copies.placement import TRANSFORMS, combine, reverse
from brain_ray.data.registry.summary import label_of

MIN_CLUSTER = 3
"""Least number of images of a cluster that is shown as a row; two images are a pair."""


@dataclass(frozen=True)
class Turned:
    """An image, and the transform after which it lies as the first one beside it."""

    image_id: int
    transform: str = "identity"


@dataclass(frozen=True)
class ChosenCluster:
    """A cluster of copies."""

    images: int
    classes: Mapping[str, int]
    """Number of images of each class."""
    splits: Mapping[str, int]
    """Number of images of each of the source's splits."""
    is_chain: bool
    similarity: float
    """Least similarity of two images that count as copies."""
    members: Sequence[Turned]
    """Those to show, from one end of the cluster to the other."""


@dataclass(frozen=True)
class Contradiction:
    """A recognised image whose label contradicts that of the published set."""

    image_id: int
    title: str
    """Title of the set."""
    published: str
    """The label there."""
    beside: Sequence[Turned]
    """Other images of the same slice, whose label is the set's."""


def choose_pairs(pairs: pd.DataFrame, limit: int = 40) -> pd.DataFrame:
    """Returns the rows of pairs.parquet that a person should look at first.

    Pairs across the source's splits come before those within one, and pairs of images that were not shown yet
    before others. Among equals the views take turns, and within each view classes and transforms; the least
    similar pair of each comes first: if that one shows the same slice, the others do.

    Args:
        pairs: needs the columns path_a, path_b, split_a, split_b, class_a, similarity and transform; that of
            an earlier version has no view.
        limit: largest number of rows.
    """
    ordered = pairs.sort_values("similarity", kind="stable")
    across = ordered["split_a"] != ordered["split_b"]
    chosen: list[Any] = []
    for part in (ordered[across], ordered[~across]):
        seen = part["path_a"].duplicated() | part["path_b"].duplicated()
        for rows in (part[~seen], part[seen]):
            views = [rows] if "view" not in rows else [group for _, group in rows.groupby("view", sort=True)]
            chosen += _in_turns([_by_class(view) for view in views])
    return pairs.loc[chosen[:limit]]


def _by_class(rows: pd.DataFrame) -> list[Any]:
    return _in_turns([list(group.index) for _, group in rows.groupby(["transform", "class_a"], sort=True)])


def _in_turns(queues: Sequence[Sequence[Any]]) -> list[Any]:
    return [row for row in chain.from_iterable(zip_longest(*queues)) if row is not None]


def choose_largest(
    images: pd.DataFrame, pairs: pd.DataFrame, limit: int = 10, members: int = 8
) -> list[ChosenCluster]:
    """Returns the largest chains, half of the limit at most, then the largest other clusters.

    Of clusters with as many images those with several labels come first.

    Args:
        images: usable images by image_id, with class_name, source_split, cluster, cluster_size and chain.
        pairs: their pairs, with a, b, transform and similarity.
        limit: largest number of clusters.
        members: largest number of images to show of each.
    """
    copied = images[images["cluster_size"] >= MIN_CLUSTER].groupby("cluster")
    found = copied.agg({"cluster_size": "first", "chain": "first", "class_name": "nunique"})
    found = found.sort_values(["cluster_size", "class_name"], ascending=False, kind="stable")
    chains = found.index[found["chain"].to_numpy(bool)][: limit // 2]
    others = found.index.difference(chains, sort=False)[: limit - len(chains)]
    return choose_clusters(images, pairs, [*chains, *others], members)


def choose_clusters(
    images: pd.DataFrame, pairs: pd.DataFrame, numbers: Sequence[int], members: int
) -> list[ChosenCluster]:
    """Returns the clusters with some numbers, in their order; see `choose_largest`."""
    of = images["cluster"].reindex(pairs["a"].to_numpy()).to_numpy()
    wanted = np.isin(of, numbers)
    joined: dict[Any, pd.DataFrame] = dict(list(pairs[wanted].groupby(of[wanted])))
    belongs = images[images["cluster"].isin(numbers)]
    groups: dict[Any, pd.DataFrame] = dict(list(belongs.groupby("cluster")))
    return [_describe(groups[number], joined[number], members) for number in numbers]


def _describe(images: pd.DataFrame, pairs: pd.DataFrame, members: int) -> ChosenCluster:
    row = lay_out(pairs)
    shown = spread(images["class_name"].reindex([one.image_id for one in row]).tolist(), members)
    return ChosenCluster(
        images=len(images),
        classes=_count(images["class_name"]),
        splits=_count(images["source_split"]),
        is_chain=bool(images["chain"].iloc[0]),
        similarity=float(pairs["similarity"].min()),
        members=[row[position] for position in shown],
    )


def _count(values: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in values.value_counts().sort_index().items()}


def lay_out(pairs: pd.DataFrame) -> list[Turned]:
    """Returns the images of a cluster from one end to the other, each turned as the first one lies.

    Args:
        pairs: all pairs of the cluster: a, b (image_ids), and transform from b to a.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order

    ids, ends = np.unique(pairs[["a", "b"]].to_numpy(np.int64), return_inverse=True)
    a, b = ends.reshape(-1, 2).T
    there = pairs["transform"].map(TRANSFORMS.index).to_numpy(np.int64)
    back = np.array([reverse(k) for k in range(len(TRANSFORMS))])[there]
    # A pair's value is its transform plus one, as 0 is no pair.
    values, rows, columns = (np.concatenate(both) for both in ((there, back), (a, b), (b, a)))
    graph = coo_array((values + 1, (rows, columns)), shape=(len(ids), len(ids))).tocsr()
    start = breadth_first_order(graph, 0, return_predecessors=False)[-1]
    order, before = breadth_first_order(graph, start)
    steps = graph[before[order[1:]], order[1:]] - 1
    turns = {int(start): 0}
    for node, step in zip(order[1:].tolist(), np.asarray(steps).ravel().tolist(), strict=True):
        turns[node] = combine(step, turns[int(before[node])])
    return [Turned(int(ids[node]), TRANSFORMS[turn]) for node, turn in turns.items()]


def spread(classes: Sequence[str], limit: int) -> list[int]:
    """Returns sorted positions of a row to show, `limit` at most: both ends, the first of each class, and
    others evenly between them."""
    last = len(classes) - 1
    if last < limit:
        return list(range(last + 1))
    wanted = [0, last, *(classes.index(name) for name in dict.fromkeys(classes))]
    wanted = list(dict.fromkeys(wanted))[:limit]
    between = np.linspace(0, last, limit - len(wanted) + 2)[1:-1]
    return sorted({*wanted, *np.rint(between).astype(int).tolist()})


def choose_contradictions(
    images: pd.DataFrame, known_sets: Sequence[Mapping[str, Any]], limit: int = 24, beside: int = 2
) -> list[Contradiction]:
    """Returns recognised images whose labels contradict the set's, with copies whose labels do not.

    Args:
        images: usable images by image_id, with path, class_name, known_set, known_file, known_label and
            known_orientation.
        known_sets: of audit.json: name, title, and contradictions (path, given and source).
        limit: largest number of contradictions.
        beside: largest number of copies beside each.
    """
    found: list[Contradiction] = []
    for known in known_sets:
        recognised = images[images["known_set"] == known["name"]]
        told = {(row["path"], row["given"], row["source"]) for row in known["contradictions"]}
        right = recognised["class_name"].map(label_of) == recognised["known_label"]
        keys = zip(*(recognised[name] for name in ("path", "class_name", "known_label")), strict=True)
        wrong = recognised[np.fromiter((key in told for key in keys), bool)]
        for row in wrong.head(limit - len(found)).itertuples():
            others = recognised[right & (recognised["known_file"] == row.known_file)].head(beside)
            here = TRANSFORMS.index(str(row.known_orientation))
            turns = [reverse(TRANSFORMS.index(lies)) for lies in others["known_orientation"]]
            copies = [
                Turned(int(number), TRANSFORMS[combine(turn, here)])
                for number, turn in zip(others.index, turns, strict=True)
            ]
            found.append(Contradiction(int(str(row.Index)), known["title"], str(row.known_label), copies))
    return found


def conflicts_beyond(
    images: pd.DataFrame, numbers: Sequence[int], shown: Collection[Contradiction]
) -> list[int]:
    """Returns those of some clusters of which no contradiction shows two images side by side."""
    of = images["cluster"]
    together = {
        of[one.image_id] for one in shown for other in one.beside if of[other.image_id] == of[one.image_id]
    }
    return [number for number in numbers if number not in together]


def choose_flagged(images: pd.DataFrame, limit: int) -> list[int]:
    """Returns image_ids of images that look like another kind, one of each cluster of copies first.

    Args:
        images: usable images, indexed by image_id, with looks_like and cluster.
        limit: largest number of images.
    """
    flagged = images[images["looks_like"] != ""]
    order = flagged.groupby("cluster").cumcount().sort_values(kind="stable").index
    return [int(number) for number in order[:limit]]
