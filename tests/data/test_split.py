"""Who goes where: stratified splits, whole clusters, leaks, conflicts, balance."""

import numpy as np
import pandas as pd
import pytest

from brain_ray.config import DataConfig
from brain_ray.data.groups import fold_numbers, hold_out_groups, hold_out_images, join_groups
from brain_ray.data.rows import augment_seed
from brain_ray.data.split import Assignment, assign, balancing_copies
from brain_ray.errors import RunError
from brain_ray.recipes import paper

SEED_TRAINING = {"glioma": 1321, "meningioma": 1339, "notumor": 1595, "pituitary": 1457}
"""Images per class of the notebooks' training folder."""


def table(train: int = 400, test: int = 80, copies: int = 0) -> pd.DataFrame:
    """Images of four classes in turn, each a cluster of its own, but for `copies` test images of train's."""
    labels = np.arange(train + test) % 4
    clusters = np.arange(train + test)
    clusters[train : train + copies] = clusters[:copies]
    return pd.DataFrame(
        {
            "path": [f"image{k}" for k in range(train + test)],
            "label": labels,
            "source_split": ["train"] * train + ["test"] * test,
            "cluster": clusters,
            "chain": False,
        }
    )


def assign_all(images: pd.DataFrame, data: DataConfig, seed: int) -> Assignment:
    """Assigns images, grouped by their clusters and, if they have any, by their patients."""
    patients = images.get("patient", pd.Series("", index=images.index))
    return assign(images.assign(group=join_groups(images["cluster"].to_numpy(), patients)), data, seed)


def draw(images: pd.DataFrame, data: DataConfig, seed: int) -> pd.DataFrame:
    """Splits and reasons."""
    return assign_all(images, data, seed).table


def test_paper_draws_the_seeds_split_and_balance() -> None:
    config = paper()
    labels = np.repeat(np.arange(4), list(SEED_TRAINING.values()))
    held = hold_out_images(labels, config.data.valid_fraction, config.seed)
    assert len(labels) - len(held) == 4569
    assert len(held) == 1143
    share = np.bincount(labels[held]) / np.bincount(labels)
    assert np.allclose(share, 0.2, atol=0.001)
    training = pd.DataFrame({"label": np.delete(labels, held)})
    copies = balancing_copies(training, config.data.balance_to)
    rows = np.bincount(training["label"], weights=copies + 1)
    assert rows.tolist() == [1600, 1600, 1600, 1600]
    assert int(rows.sum()) == 6400


@pytest.mark.parametrize("test", [80, 0])
def test_an_external_set_is_scored_and_nothing_else(test: int) -> None:
    """Its test split, or all images if it has none; copies in its training folder change nothing."""
    images = table(test=test, copies=test // 2)
    found = draw(images[images["label"] != 2], DataConfig(external=True), seed=1)
    source = images.loc[found.index, "source_split"]
    scored = (source == "test") if test else (source == "train")
    assert (found.loc[scored, "split"] == "test").all()
    assert (found.loc[~scored, "split"] == "dropped").all()
    assert (found.loc[~scored, "reason"] != "").all()


def test_the_same_seed_draws_the_same_split_and_another_seed_another() -> None:
    data = DataConfig()
    first, again, other = (draw(table(), data, seed)["split"] for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


@pytest.mark.parametrize("seed", range(5))
def test_no_cluster_is_cut_and_every_class_gets_its_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, 200)
    clusters = np.repeat(np.arange(200), sizes)
    labels = np.repeat(rng.integers(0, 4, 200), sizes)
    held = hold_out_groups(labels, clusters, 0.2, seed)
    inside = np.zeros(len(labels), bool)
    inside[held] = True
    for number in range(200):
        assert len(set(inside[clusters == number])) == 1
    share = np.bincount(labels[held], minlength=4) / np.bincount(labels, minlength=4)
    assert np.all(np.abs(share - 0.2) < 0.03)


def test_drop_takes_training_copies_of_test_images_out() -> None:
    images = table(copies=40)
    result = draw(images, DataConfig(leaks="drop"), 1)
    assert (result["split"][:40] == "dropped").all()
    assert set(result["reason"][:40]) == {"a copy is in the test split"}
    assert (result["split"][400:] == "test").all()
    kept = set(images["cluster"][result["split"].isin(["train", "valid"])])
    assert not kept & set(images["cluster"][result["split"] == "test"])


def test_keep_leaves_them() -> None:
    result = draw(table(copies=40), DataConfig(leaks="keep"), 1)
    assert not (result["split"] == "dropped").any()


def test_fail_names_them() -> None:
    with pytest.raises(
        RunError, match=r"40 training images have a copy or .* in the test split: image0, image1"
    ):
        draw(table(copies=40), DataConfig(leaks="fail"), 1)


def test_fail_passes_where_there_is_no_leak() -> None:
    assert set(draw(table(), DataConfig(leaks="fail"), 1)["split"]) == {"train", "valid", "test"}


def test_regroup_draws_all_splits_anew_over_whole_clusters() -> None:
    images = table(copies=40)
    result = draw(images, DataConfig(leaks="regroup"), 1)
    assert not (result["split"] == "dropped").any()
    assert abs((result["split"] == "test").sum() - 80) <= 8
    splits = result["split"].groupby(images["cluster"]).nunique()
    assert (splits == 1).all()


def test_without_a_test_folder_a_share_is_split_off() -> None:
    result = draw(table(test=0), DataConfig(test_fraction=0.25), 1)
    counts = result["split"].value_counts()
    assert counts.to_dict() == {"train": 240, "test": 100, "valid": 60}


def pairs(classes: int = 4, each: int = 100) -> pd.DataFrame:
    """Training images of which each two in a row are copies of one another."""
    labels = np.repeat(np.arange(classes), each)
    return pd.DataFrame(
        {
            "path": [f"image{k}" for k in range(len(labels))],
            "label": labels,
            "source_split": "train",
            "cluster": np.arange(len(labels)) // 2,
            "chain": False,
        }
    )


def shared(images: pd.DataFrame, result: pd.DataFrame, held: str, *others: str) -> int:
    """How many images of other splits share a cluster with one of the held split."""
    clusters = images.loc[result["split"] == held, "cluster"]
    return int((images["cluster"].isin(clusters) & result["split"].isin(others)).sum())


@pytest.mark.parametrize("split_by", ["cluster", "image"])
@pytest.mark.parametrize("leaks", ["drop", "fail", "regroup"])
def test_a_drawn_test_split_shares_no_cluster_with_what_is_learned_from(leaks: str, split_by: str) -> None:
    images = pairs()
    result = draw(images, DataConfig(leaks=leaks, split_by=split_by), 123)
    assert shared(images, result, "test", "train", "valid") == 0
    assert abs((result["split"] == "test").sum() - 60) <= 4
    assert not (result["split"] == "dropped").any()


@pytest.mark.parametrize("split_by", ["cluster", "image"])
def test_regroup_cuts_no_cluster_whatever_the_source_and_split_by_say(split_by: str) -> None:
    images = pairs()
    images.loc[::5, "source_split"] = "test"
    result = draw(images, DataConfig(leaks="regroup", split_by=split_by), 123)
    assert (result["split"].groupby(images["cluster"]).nunique() == 1).all()


def test_leaks_that_are_kept_may_be_drawn_by_image() -> None:
    images = pairs()
    result = draw(images, DataConfig(leaks="keep", split_by="image"), 123)
    assert shared(images, result, "test", "train", "valid") > 0


@pytest.mark.parametrize("seed", range(5))
def test_regroup_learns_from_no_test_image_with_two_labels(seed: int) -> None:
    images = table()
    images.loc[401, "cluster"] = images.loc[400, "cluster"]
    assert images.loc[400:401, "label"].nunique() == 2
    result = draw(images, DataConfig(leaks="regroup"), seed)
    assert result.loc[400:401, "split"].tolist() == ["dropped"] * 2


def with_valid(copies: bool = True) -> pd.DataFrame:
    """400 training, 80 validation and 80 test images; some are copies across these folders."""
    images = table(test=160)
    images.loc[400:479, "source_split"] = "valid"
    if copies:
        images.loc[400:409, "cluster"] = np.arange(10)  # training images 0 to 9
        images.loc[480:483, "cluster"] = np.arange(12, 16)  # training images 12 to 15
        images.loc[484:487, "cluster"] = np.arange(412, 416)  # validation images 412 to 415
    return images


def test_a_validation_folder_is_the_validation_split() -> None:
    result = draw(with_valid(copies=False), DataConfig(), 1)
    assert result["split"].value_counts().to_dict() == {"train": 400, "valid": 80, "test": 80}
    assert (result.loc[400:479, "split"] == "valid").all()


def test_copies_across_a_validation_folder_are_dropped_from_what_learns() -> None:
    images = with_valid()
    result = draw(images, DataConfig(), 1)
    assert result.loc[0:9, "reason"].eq("a copy is in the validation split").all()
    assert result.loc[12:15, "reason"].eq("a copy is in the test split").all()
    assert result.loc[412:415, "reason"].eq("a copy is in the test split").all()
    assert (result["split"] == "dropped").sum() == 18


def test_copies_across_a_validation_folder_can_be_an_error_or_be_kept() -> None:
    images = with_valid()
    with pytest.raises(
        RunError, match=r"8 training and validation images have a copy or .* in the test split"
    ):
        draw(images, DataConfig(leaks="fail"), 1)
    images.loc[480:, "cluster"] = np.arange(1000, 1080)
    with pytest.raises(
        RunError, match=r"10 training images have a copy or .* in the validation split: image0,"
    ):
        draw(images, DataConfig(leaks="fail"), 1)
    assert not (draw(images, DataConfig(leaks="keep"), 1)["split"] == "dropped").any()


def test_regroup_draws_as_large_a_validation_split_as_the_folder_is() -> None:
    images = with_valid()
    result = draw(images, DataConfig(leaks="regroup"), 1)
    assert (result["split"].groupby(images["cluster"]).nunique() == 1).all()
    counts = result["split"].value_counts()
    assert abs(counts["valid"] - 80) <= 8
    assert abs(counts["test"] - 80) <= 8


def test_a_test_split_is_drawn_beside_a_validation_folder_without_sharing_clusters() -> None:
    images = with_valid()
    images = images[images["source_split"] != "test"]
    result = draw(images, DataConfig(split_by="image"), 1)
    assert (result.loc[400:479, "split"] == "valid").all()
    assert shared(images, result, "test", "train", "valid") == 0
    assert (result["split"] == "test").sum() > 40


@pytest.mark.parametrize(("policy", "dropped"), [("drop", 2), ("keep", 0)])
def test_training_copies_with_two_labels(policy: str, dropped: int) -> None:
    images = table()
    images.loc[1, "cluster"] = images.loc[0, "cluster"]
    result = draw(images, DataConfig(conflicts=policy), 1)
    assert (result["split"] == "dropped").sum() == dropped
    assert set(result.loc[result["split"] == "dropped", "reason"]) <= {"a copy carries another label"}


def test_a_label_may_change_along_a_chain_of_neighbouring_slices() -> None:
    images = table()
    images.loc[0:39, "cluster"] = 0
    images.loc[0:39, "chain"] = True
    result = draw(images, DataConfig(conflicts="drop"), 1)
    assert not (result["split"] == "dropped").any()
    assert result.loc[0:39, "split"].nunique() == 1


def test_an_emptied_class_is_an_error_that_says_why() -> None:
    images = table(train=40, test=10)
    glioma = images["label"] == 0
    images.loc[glioma, "cluster"] = 0
    with pytest.raises(RunError, match=r"no image is left in the train split of \['glioma'\]"):
        draw(images, DataConfig(leaks="drop"), 1)


MIXES = ((0.25, 0.25, 0.25, 0.25), (0.4, 0.3, 0.2, 0.1), (0.55, 0.15, 0.15, 0.15))


def patients(seed: int, mix: tuple[float, ...], test: float) -> pd.DataFrame:
    """2,000 images of 200 patients, ten of each; a share `test` of the images is in the test folder."""
    rng = np.random.default_rng(seed)
    counts = np.round(200 * np.cumsum(mix)).astype(int)
    label_of_patient = rng.permutation(np.searchsorted(counts, np.arange(200), "right"))
    patient = np.repeat(np.arange(200), 10)
    images = pd.DataFrame(
        {
            "path": [f"p{number:03d}/{k % 10}" for k, number in enumerate(patient)],
            "label": label_of_patient[patient],
            "source_split": np.where(rng.random(2000) < test, "test", "train"),
            "cluster": np.arange(2000),
            "chain": False,
            "patient": [f"p{number:03d}" for number in patient],
        }
    )
    twins = rng.choice(2000, 40, replace=False)  # of the same label, also of two patients
    for a, b in twins.reshape(-1, 2):
        if images.loc[a, "label"] == images.loc[b, "label"]:
            images.loc[b, "cluster"] = images.loc[a, "cluster"]
    return images


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize(
    ("leaks", "test"),
    [
        ("drop", 0.0),
        ("keep", 0.0),
        ("fail", 0.0),
        ("auto", 0.0),
        ("regroup", 0.0),
        ("regroup", 0.2),
        ("auto", 0.2),
    ],
)
def test_no_patient_is_cut_and_every_class_gets_its_share(
    leaks: str, test: float, mix: tuple[float, ...], seed: int
) -> None:
    images = patients(seed, mix, test)
    result = draw(images, DataConfig(leaks=leaks), seed)
    assert not (result["split"] == "dropped").any()
    assert (result["split"].groupby(images["patient"]).nunique() == 1).all()
    assert (result["split"].groupby(images["cluster"]).nunique() == 1).all()
    wanted = float((images["source_split"] == "test").mean()) or DataConfig().test_fraction
    for label in range(4):
        own = result.loc[images["label"] == label, "split"]
        assert (own == "test").mean() == pytest.approx(wanted, abs=0.02)
        asked = DataConfig().valid_fraction * (own != "test").mean()
        assert (own == "valid").mean() == pytest.approx(asked, abs=0.0201)  # half a patient of 200 is 0.025


def test_a_patient_in_both_folders_obeys_leaks_as_a_copy_does() -> None:
    images = table().assign(patient="")
    images.loc[[0, 400], "patient"] = "p1"
    dropped = draw(images, DataConfig(leaks="drop"), 1)
    assert dropped.loc[0].tolist() == ["dropped", "its patient is in the test split"]
    assert dropped.loc[400, "split"] == "test"
    with pytest.raises(RunError, match="1 training images have a copy or another image of their patient"):
        draw(images, DataConfig(leaks="fail"), 1)
    assert draw(images, DataConfig(leaks="keep"), 1).loc[0, "split"] in ("train", "valid")


def test_images_of_a_patient_with_two_labels_are_no_conflict() -> None:
    images = table().assign(patient="")
    images.loc[[0, 1], "patient"] = "p1"
    assert not (draw(images, DataConfig(), 1)["split"] == "dropped").any()


def test_auto_drops_where_no_class_loses_more_than_a_quarter() -> None:
    images = table(copies=20)
    found = assign_all(images, DataConfig(), 1)
    assert (found.leaks, found.cost["glioma"]) == ("drop", pytest.approx(0.05))
    pd.testing.assert_frame_equal(found.table, draw(images, DataConfig(leaks="drop"), 1))


def test_auto_draws_anew_where_one_class_would_lose_more_than_a_quarter() -> None:
    images = table().assign(patient="")
    images.loc[(images["label"] == 2) & (images.index < 120), "patient"] = "p1"  # 30 of 100
    images.loc[402, "patient"] = "p1"
    found = assign_all(images, DataConfig(), 1)
    assert (found.leaks, found.cost["notumor"], found.cost["glioma"]) == ("regroup", pytest.approx(0.3), 0.0)
    pd.testing.assert_frame_equal(found.table, draw(images, DataConfig(leaks="regroup"), 1))


def test_groups_join_patients_by_their_copies() -> None:
    clusters = np.array([0, 1, 1, 2, 3, 4])
    who = pd.Series(["p1", "p1", "p2", "p2", "", ""])
    assert join_groups(clusters, who).tolist() == [0, 0, 0, 0, 1, 2]


def test_groups_join_what_two_sources_tell_of_patients() -> None:
    clusters = np.arange(5)
    listed, known = pd.Series(["p1", "", "", "p1", "p2"]), pd.Series(["", "q7", "q7", "q7", ""])
    assert join_groups(clusters, listed, known).tolist() == [0, 0, 0, 0, 1]
    assert join_groups(clusters).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_folds_cut_no_group_and_have_all_classes_alike(seed: int) -> None:
    images = patients(seed, MIXES[1], 0.0)
    images["group"] = join_groups(images["cluster"].to_numpy(), images["patient"])
    images["split"] = draw(images, DataConfig(), seed)["split"]
    folds = pd.Series(fold_numbers(images, 5, seed))
    developed = images["split"].isin(["train", "valid"])
    assert set(folds[developed]) == {1, 2, 3, 4, 5}
    assert (folds[~developed] == -1).all()
    assert (folds.groupby(images["group"]).nunique() == 1).all()
    for label in range(4):
        shares = folds[developed & (images["label"] == label)].value_counts(normalize=True)
        assert shares.between(0.1, 0.3).all()


def test_more_folds_than_patients_of_a_class_are_refused() -> None:
    images = pd.DataFrame({"split": "train", "label": [0, 0, 1, 1, 1], "group": [0, 1, 2, 3, 4]})
    with pytest.raises(RunError, match=r"a class has 2 groups .* 3 folds are asked for: lower it to 2"):
        fold_numbers(images, 3, 1)


def test_copies_are_spread_evenly_over_a_class() -> None:
    images = pd.DataFrame({"label": [0] * 10 + [1] * 3})
    copies = balancing_copies(images, 10)
    assert copies[:10].tolist() == [0] * 10
    assert sorted(copies[10:].tolist()) == [2, 2, 3]
    assert not balancing_copies(images, None).any()


def test_a_copys_seed_depends_on_run_image_and_number_only() -> None:
    assert augment_seed(1, 2, 3) == augment_seed(1, 2, 3)
    seeds = {augment_seed(s, i, k) for s in range(5) for i in range(20) for k in range(1, 5)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
