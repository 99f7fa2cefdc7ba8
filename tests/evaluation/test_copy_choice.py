"""What a report shows of copies and labels: chosen from tables alone."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from support.slices import UNDO

from brain_ray.data.copies.placement import TRANSFORMS, VIEWS
from brain_ray.data.registry.match import fingerprint, recognise
from brain_ray.data.registry.store import Registry
from brain_ray.evaluation.copy_choice import (
    choose_clusters,
    choose_contradictions,
    choose_flagged,
    choose_largest,
    choose_pairs,
    conflicts_beyond,
    lay_out,
    spread,
)

PAIR_COLUMNS = ["path_a", "path_b", "split_a", "split_b", "transform", "class_a", "similarity"]


def make_pairs(*rows: tuple[int, int], transform: str = "identity") -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["a", "b"])
    return table.assign(transform=transform, similarity=[0.99 - k / 1000 for k in range(len(rows))])


def make_images(clusters: list[int], **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"cluster": clusters}, index=pd.RangeIndex(len(clusters), name="image_id"))
    table["cluster_size"] = table.groupby("cluster")["cluster"].transform("size")
    plain = {"class_name": "glioma", "source_split": "train", "chain": False, "path": table.index.astype(str)}
    return table.assign(**(plain | columns))


def test_chosen_pairs_cross_the_splits_first_and_take_turns_between_transforms_and_classes() -> None:
    pairs = pd.DataFrame(
        [("a0", "b0", "train", "train", "turned", "glioma", 0.991)]
        + [(f"a{i}", f"b{i}", "train", "test", "identity", "glioma", 0.99 + i / 1000) for i in range(1, 4)]
        + [("a1", "b8", "train", "test", "identity", "glioma", 0.9999)]
        + [("a5", "b5", "train", "test", "identity", "notumor", 0.9995)]
        + [("a6", "b6", "test", "train", "mirrored", "glioma", 0.992)],
        columns=PAIR_COLUMNS,
    )
    chosen = choose_pairs(pairs, limit=5)
    assert chosen["similarity"].tolist() == [0.991, 0.9995, 0.992, 0.992, 0.993]
    assert chosen["transform"].tolist() == ["identity", "identity", "mirrored", "identity", "identity"]
    everything = choose_pairs(pairs)
    assert len(everything) == len(pairs)
    assert everything["path_b"].tolist()[-2:] == ["b8", "b0"], (
        "an image shown before, then one within a split"
    )
    assert choose_pairs(pairs.head(0)).empty


def test_each_view_is_among_the_chosen_pairs_however_many_classes_and_transforms_another_has() -> None:
    rows = [
        (f"a{i}", f"b{i}", "train", "test", transform, name, 0.98)
        for i, (transform, name) in enumerate((t, c) for t in TRANSFORMS for c in "abcdefgh")
    ]
    pairs = pd.DataFrame([*rows, *rows[:2]], columns=PAIR_COLUMNS).assign(view="aligned")
    pairs.loc[[64, 65], "view"] = ["head", "whole"]
    pairs.loc[[64, 65], ["path_a", "path_b"]] = [["x", "y"], ["v", "w"]]
    chosen = choose_pairs(pairs, limit=10)
    assert set(chosen["view"][:3]) == set(VIEWS)
    assert chosen["transform"].nunique() > 1


def test_the_largest_clusters_come_first_and_pairs_are_none() -> None:
    images = make_images([0] * 3 + [1] * 5 + [2] * 2 + [3] * 3 + [4])
    images.loc[[8, 9, 11], "class_name"] = "pituitary"
    images.loc[12, "source_split"] = "test"
    pairs = make_pairs((0, 1), (1, 2), *((3, k) for k in range(4, 8)), (8, 9), (10, 11), (11, 12))
    five, mixed, three = choose_largest(images, pairs)
    assert [one.images for one in (five, mixed, three)] == [5, 3, 3]
    assert mixed.classes == {"glioma": 2, "pituitary": 1}
    assert mixed.splits == {"test": 1, "train": 2}
    assert mixed.similarity == pytest.approx(pairs["similarity"][8])
    assert not any(one.is_chain for one in (five, mixed, three))
    assert len(choose_largest(images, pairs, limit=1)) == 1
    assert choose_largest(images.head(0), pairs.head(0)) == []


def test_chains_come_first_up_to_half_of_the_clusters() -> None:
    images = make_images([0] * 5 + [1] * 3 + [2] * 4 + [3] * 4)
    images["chain"] = images["cluster"].isin([1, 2, 3])
    pairs = make_pairs(
        *((k, k + 1) for k in range(15) if images.at[k, "cluster"] == images.at[k + 1, "cluster"])
    )
    sizes = [(one.images, one.is_chain) for one in choose_largest(images, pairs, limit=4)]
    assert sizes == [(4, True), (4, True), (5, False), (3, True)]
    sizes = [(one.images, one.is_chain) for one in choose_largest(images, pairs, limit=2)]
    assert sizes == [(4, True), (5, False)]


def test_a_chain_is_laid_out_from_end_to_end() -> None:
    numbers = [4, 0, 3, 1, 2, 5]
    row = lay_out(make_pairs(*((min(step), max(step)) for step in pairwise(numbers))))
    assert [one.image_id for one in row] in (numbers, numbers[::-1])


@pytest.mark.parametrize("step", TRANSFORMS)
@pytest.mark.parametrize("other", TRANSFORMS)
def test_images_of_a_cluster_are_turned_as_the_first_one_lies(step: str, other: str) -> None:
    """Through two pairs, of which each may be walked in either direction."""
    rng = np.random.default_rng(1)
    pairs = make_pairs((1, 2), (1, 3))
    pairs["transform"] = [step, other]
    lies = {1: rng.normal(size=(5, 5))}
    undo = {name: name for name in TRANSFORMS}
    undo |= {"turned left": "turned right", "turned right": "turned left"}
    for image, transform in ((2, step), (3, other)):
        lies[image] = UNDO[undo[transform]](lies[1])
    row = lay_out(pairs)
    assert sorted(one.image_id for one in row) == [1, 2, 3]
    assert row[0].image_id in (2, 3), "an end"
    assert row[0].transform == "identity"
    first = lies[row[0].image_id]
    assert all(np.array_equal(UNDO[one.transform](lies[one.image_id]), first) for one in row)


def test_of_a_long_row_both_ends_and_every_class_are_shown() -> None:
    classes = ["glioma"] * 40
    classes[17] = "notumor"
    assert spread(classes[:8], 8) == list(range(8))
    shown = spread(classes, 8)
    assert len(shown) == 8
    assert {0, 17, 39} <= set(shown)
    assert max(np.diff(shown)) < 14, "evenly"
    assert len(spread([str(k) for k in range(40)], 8)) == 8


def test_clusters_are_chosen_by_their_numbers() -> None:
    images = make_images([0, 0, 1, 1], class_name=["glioma", "notumor", "glioma", "glioma"])
    (one,) = choose_clusters(images, make_pairs((0, 1), (2, 3)), [0], 4)
    assert one.classes == {"glioma": 1, "notumor": 1}
    assert [member.image_id for member in one.members] in ([0, 1], [1, 0])


def known_set(*contradictions: tuple[str, str, str]) -> dict[str, object]:
    told = [dict(zip(("path", "given", "source"), row, strict=True)) for row in contradictions]
    return {"name": "set", "title": "A set", "contradictions": told}


def test_a_contradicting_image_is_shown_beside_those_with_the_published_label() -> None:
    images = make_images(
        [0, 0, 0, 1, 2],
        class_name=["glioma", "meningioma", "Meningioma Tumor", "meningioma", "pituitary"],
        known_set=["set", "set", "set", "set", ""], known_orientation="identity",
        known_file=["x", "x", "x", "y", ""], known_label=["meningioma"] * 3 + ["glioma", ""],
    )  # fmt: skip
    told = known_set(("0", "glioma", "meningioma"), ("3", "meningioma", "glioma"))
    first, second = choose_contradictions(images, [told])
    assert (first.image_id, first.title, first.published) == (0, "A set", "meningioma")
    assert [one.image_id for one in first.beside] == [1, 2]
    assert (second.image_id, second.beside) == (3, [])
    assert conflicts_beyond(images, [0, 1, 7], [first, second]) == [1, 7], "0 shows both labels already"
    assert len(choose_contradictions(images, [told], limit=1)) == 1
    assert choose_contradictions(images, [known_set()]) == []
    assert choose_contradictions(images, []) == []


def test_the_copy_beside_a_contradicting_image_is_turned_as_that_lies() -> None:
    slice_shown = np.random.default_rng(2).integers(0, 256, (96, 96), dtype=np.uint8)
    lies = [UNDO[name](slice_shown) for name in TRANSFORMS]
    entries = pd.DataFrame({"file": ["x"], "label": "glioma", "set": "set"})
    found = recognise(np.stack(lies), Registry(entries, fingerprint(slice_shown[None]), {}))
    assert set(found["known_orientation"]) == set(TRANSFORMS)
    facts = {"known_set": "set", "known_file": "x", "known_label": "glioma"}
    for number, image in enumerate(lies):
        names = ["pituitary" if k == number else "glioma" for k in range(8)]
        images = make_images([0] * 8, class_name=names, **facts)
        images["known_orientation"] = found["known_orientation"].to_numpy()
        told = known_set((str(number), "pituitary", "glioma"))
        (one,) = choose_contradictions(images, [told], beside=8)
        assert len(one.beside) == 7
        assert all(np.array_equal(UNDO[other.transform](lies[other.image_id]), image) for other in one.beside)


def test_of_flagged_images_each_cluster_is_shown_before_a_second_of_one() -> None:
    images = make_images([5, 5, 6, 7, 7], looks_like=["CT", "CT", "", "CT", "CT"])
    assert choose_flagged(images, 3) == [0, 3, 1]
    assert choose_flagged(images.assign(looks_like=""), 3) == []
