"""Folds: each image is left out once, and no training sees an image of a group that it leaves out."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal
from support.training_problem import write_dataset

from brain_ray.config import Config
from brain_ray.data.folds import Folds, read_folds
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.errors import RunError
from brain_ray.runs import DATASET_MANIFEST, Run


@pytest.fixture
def run(tmp_path) -> Run:
    """61 training and 13 validation images in groups of two; each fifth row is a copy that balances."""
    run = Run(str(tmp_path), "run")
    write_dataset(run)
    return run


def state_folds(run: Run, fold: list[int]) -> None:
    """Have the source state a fold for each image."""
    state(run, fold=fold)


def state(run: Run, **columns: object) -> None:
    """Have the source state something of each image."""
    with run.fs.open_input_file(run.path(*DATASET_MANIFEST)) as file:
        manifest = pq.read_table(file).to_pandas().assign(**columns)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(manifest, preserve_index=False), sink)
    run.write_bytes(sink.getvalue().to_pybytes(), *DATASET_MANIFEST)


def test_each_image_is_left_out_once_and_its_group_with_it(run: Run) -> None:
    folds = read_folds(run, Config(folds=4))
    assert folds.numbers == (1, 2, 3, 4)
    assert len(folds.image_id) == 74
    times = np.zeros(74, int)
    for fold in folds.numbers:
        masks = folds.split(fold, 0.2)
        times += masks["held_out"]
        groups = {name: set(folds.group[mask]) for name, mask in masks.items()}
        assert not groups["held_out"] & (groups["train"] | groups["valid"])
        assert not groups["train"] & groups["valid"]
        assert not (masks["train"] & masks["valid"]).any()
        assert folds.original[masks["valid"] | masks["held_out"]].all()
        assert not folds.original[masks["train"]].all(), "copies that balance the classes are learned from"
        # Folds are whole groups here, so that nothing but copies of other groups' images is left over.
        used = masks["train"] | masks["valid"] | masks["held_out"]
        assert not folds.original[~used].any()
        assert set(folds.label[masks["valid"]]) == set(range(4))
    assert_array_equal(times, folds.original.astype(int))


def test_the_images_that_choose_the_epoch_are_the_same_for_all_seeds_and_others_for_another_fold(
    run: Run,
) -> None:
    """Variants and seeds of a sweep are compared on equal terms."""
    folds = read_folds(run, Config(folds=4))
    first, again, other = (folds.split(fold, 0.2)["valid"] for fold in (1, 1, 2))
    assert_array_equal(first, again)
    assert (first != other).any()


def test_where_the_sources_folds_cut_a_group_the_rest_of_it_is_not_used(run: Run) -> None:
    state_folds(run, [1 + image % 3 for image in range(74)])
    folds = read_folds(run, Config(folds="source"))
    assert folds.numbers == (1, 2, 3)
    masks = folds.split(2, 0.2)
    unused = folds.original & ~(masks["train"] | masks["valid"] | masks["held_out"])
    assert unused.any()
    assert set(folds.group[unused]) <= set(folds.group[masks["held_out"]])


def test_folds_that_the_source_does_not_state_for_all_are_refused(run: Run) -> None:
    with pytest.raises(RunError, match=r"tells no fold of 74 of 74 training and validation images"):
        read_folds(run, Config(folds="source"))
    state_folds(run, [-1, *[1] * 73])
    with pytest.raises(RunError, match=r"tells no fold of 1 of 74 .* add a column fold"):
        read_folds(run, Config(folds="source"))
    state_folds(run, [1] * 74)
    with pytest.raises(RunError, match="all images are of one fold"):
        read_folds(run, Config(folds="source"))


def test_each_source_is_a_fold_and_a_group_of_two_sources_is_not_used_by_the_other(run: Run) -> None:
    state(run, source=["clinic" if image % 5 == 1 else "ward" for image in range(74)])
    folds = read_folds(run, Config(folds="each_source"))
    assert folds.numbers == (1, 2)
    held = folds.held_out(1)
    assert_array_equal(held, (folds.image_id % 5 == 1) & folds.original)
    masks = folds.split(1, 0.2)
    shared = np.isin(folds.group, folds.group[held]) & ~held
    assert shared.any(), "the ward has images of the clinic's patients"
    assert not (masks["train"] | masks["valid"])[shared].any()


def test_sources_that_are_not_known_or_one_are_no_folds(run: Run) -> None:
    with pytest.raises(RunError, match=r"source of 74 of 74 .* is not known: add a column source"):
        read_folds(run, Config(folds="each_source"))
    state(run, source=[None, "", *["ward"] * 72])
    with pytest.raises(RunError, match=r"source of 2 of 74 .* is not known"):
        read_folds(run, Config(folds="each_source"))
    state(run, source=["ward"] * 74)
    with pytest.raises(RunError, match="all images are of ward: two are needed"):
        read_folds(run, Config(folds="each_source"))


def test_a_fold_that_is_not_there_and_too_many_folds_are_refused(run: Run) -> None:
    with pytest.raises(RunError, match=r"there is no fold 5: the folds are \[1, 2, 3, 4\]"):
        read_folds(run, Config(folds=4)).split(5, 0.2)
    with pytest.raises(RunError, match=r"a class has 18 groups .* 20 folds are asked for: lower it to 18"):
        read_folds(run, Config(folds=20))


def test_a_class_that_only_one_fold_has_is_refused() -> None:
    labels = np.array([0, 0, 0, 0, 1])
    rows = np.arange(5)
    folds = Folds(rows, labels, rows, np.array([1, 1, 2, 2, 2]), np.ones(5, bool))
    with pytest.raises(RunError, match="without fold 2, no image of class 1 is left for train"):
        folds.split(2, 0.5)


def test_answers_are_pooled_in_the_order_of_the_rows_whatever_the_order_of_the_folds(run: Run) -> None:
    folds = read_folds(run, Config(folds=3))
    answers = {
        fold: np.repeat(folds.image_id[folds.held_out(fold), None], 4, axis=1).astype(np.float32)
        for fold in (3, 1, 2)
    }
    pooled = OutOfFold.pool(folds, answers)
    assert_array_equal(pooled.image_id, folds.image_id[folds.original])
    assert_array_equal(pooled.probabilities[:, 2], pooled.image_id)
    pooled.write(run)
    again = OutOfFold.read(run)
    assert again is not None
    frames = [
        pd.DataFrame({"fold": one.fold, "label": one.label, "group": one.group}) for one in (pooled, again)
    ]
    pd.testing.assert_frame_equal(*frames)
    assert_array_equal(again.probabilities, pooled.probabilities)
    assert OutOfFold.read(Run(run.storage, "other")) is None


def test_a_smaller_share_of_the_groups_is_part_of_a_larger_one_and_keeps_all_classes(run: Run) -> None:
    folds = read_folds(run, Config(folds=4))
    learned = {share: folds.split(1, 0.2, share)["train"] for share in (0.1, 0.5, 1.0)}
    assert not (learned[0.1] & ~learned[0.5]).any()
    assert not (learned[0.5] & ~learned[1.0]).any()
    assert_array_equal(learned[1.0], folds.split(1, 0.2)["train"])
    groups = {share: len(set(folds.group[mask])) for share, mask in learned.items()}
    assert 0.4 < groups[0.5] / groups[1.0] < 0.6
    for mask in learned.values():
        assert set(folds.label[mask]) == set(range(4))
        assert not (np.isin(folds.group, folds.group[mask]) & ~mask & learned[1.0]).any(), "no group is cut"
