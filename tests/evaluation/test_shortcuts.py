"""What a model of views without the head gets right, too, of what the network got right."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.data.shortcuts.table import tabulate
from brain_ray.data.shortcuts.views import NUM_SCANNED
from brain_ray.evaluation.shortcuts import compare, compare_folds_with_shortcuts, compare_with_shortcuts
from brain_ray.runs import DATASET_MANIFEST, DATASET_SHORTCUTS, Run
from brain_ray.scoring.intervals import GroupBootstrap


def test_shares_of_what_both_get_right() -> None:
    labels = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    answers = [0, 0, 0, 1, 1, 1, 1, 0, 2, 0]  # 7 right
    guesses = [0, 0, 1, 0, 1, 0, 0, 1, 0, 0]  # 5 right, 3 of them the network too
    found = compare(labels, answers, guesses, 0, GroupBootstrap(np.arange(10)))
    assert (found["images"], found["groups"]) == (10, 10)
    assert found["shortcut_accuracy"]["value"] == 0.5
    assert found["usual_accuracy"] == 0.4
    assert found["decided"]["value"] == pytest.approx(3 / 7)
    assert found["decided"]["low"] < 3 / 7 < found["decided"]["high"]
    assert found["decided_by_usual"] == pytest.approx(3 / 7)
    assert found["accuracy_where_right"]["value"] == pytest.approx(3 / 5)
    assert found["accuracy_where_wrong"]["value"] == pytest.approx(4 / 5)


def test_what_there_is_none_of_has_no_share() -> None:
    found = compare([0, 1], [1, 0], [0, 1], 0, GroupBootstrap([0, 1]))
    assert found["decided"] is found["decided_by_usual"] is found["accuracy_where_wrong"] is None
    assert found["accuracy_where_right"]["value"] == 0


def test_intervals_are_those_of_groups() -> None:
    labels, answers, guesses = np.zeros(60, int), np.zeros(60, int), np.repeat([0, 1], 30)
    single = compare(labels, answers, guesses, 0, GroupBootstrap(np.arange(60)))["decided"]
    grouped = compare(labels, answers, guesses, 0, GroupBootstrap(np.arange(60) // 10))["decided"]
    assert grouped["high"] - grouped["low"] > 1.5 * (single["high"] - single["low"])


def make_run(folder: Path, table: bool = True) -> tuple[Run, pd.DataFrame]:
    """A data set in which label 1 is wider, but for two test images; and a network's perfect answers."""
    count = 90
    label = np.arange(count) % 2
    split = np.where(np.arange(count) < 30, "test", np.where(np.arange(count) < 40, "valid", "train"))
    ids = np.arange(count) + 7
    manifest = pd.DataFrame({"image_id": ids, "label": label, "split": split, "group": np.arange(count) // 2})
    run = Run(str(folder), "run")
    run.fs.create_dir(run.path("dataset"), recursive=True)
    pq.write_table(pa.Table.from_pandas(manifest), run.path(*DATASET_MANIFEST))
    width = np.where((label == 1) & ~np.isin(np.arange(count), [1, 3]), 300, 200)
    images = manifest.assign(width=width, height=200, size=1000, file_images=1)
    if table:
        views = np.full((count, NUM_SCANNED), np.nan, np.float32)
        pq.write_table(tabulate(images, views), run.path(*DATASET_SHORTCUTS))
    tested = manifest[manifest["split"] == "test"]
    predictions = tested[["image_id", "label"]].assign(predicted=tested["label"], leak_free=True)
    return run, predictions.sample(frac=1, random_state=1)


def test_the_model_learns_from_training_images_and_is_asked_of_test_images(tmp_path: Path) -> None:
    run, predictions = make_run(tmp_path)
    found = compare_with_shortcuts(run, predictions)
    assert found is not None
    assert (found["learned_from"], found["images"], found["groups"], found["leak_free"]) == (50, 30, 15, True)
    assert found["shortcut_accuracy"]["value"] == found["decided"]["value"] == pytest.approx(28 / 30)
    assert found["decided_by_usual"] == 0.5
    assert found["accuracy_where_wrong"]["value"] == 1.0


def test_of_images_with_leaks_only_the_others_are_compared(tmp_path: Path) -> None:
    run, predictions = make_run(tmp_path)
    clean = predictions["image_id"] < 17
    found = compare_with_shortcuts(run, predictions.assign(leak_free=clean))
    assert found is not None
    assert (found["images"], found["leak_free"]) == (10, True)
    found = compare_with_shortcuts(run, predictions.assign(leak_free=False))
    assert found is not None
    assert (found["images"], found["leak_free"]) == (30, False)


def test_a_data_set_of_an_earlier_version_has_no_views(tmp_path: Path) -> None:
    assert compare_with_shortcuts(*make_run(tmp_path, table=False)) is None


def test_where_no_figure_can_be_had_it_says_why(tmp_path: Path) -> None:
    run, predictions = make_run(tmp_path)
    found = compare_with_shortcuts(run, predictions.assign(image_id=predictions["image_id"] + 1000))
    assert found == {"reason": "none of the test images was drawn for this comparison"}


def answers_of_folds(images: pd.DataFrame) -> OutOfFold:
    """Perfect answers in three folds of whole groups."""
    label, group = images["label"].to_numpy(np.int64), images["group"].to_numpy(np.int64)
    chances = np.eye(2, dtype=np.float32)[label]
    return OutOfFold(images["image_id"].to_numpy(np.int64), group % 3, label, group, chances)


def test_each_fold_is_asked_of_a_model_of_the_others(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path)
    manifest = pq.read_table(run.path(*DATASET_MANIFEST)).to_pandas()
    answers = answers_of_folds(manifest[manifest["split"] != "test"])
    found = compare_folds_with_shortcuts(run, answers)
    assert found is not None
    assert (found["images"], found["groups"]) == (60, 30)
    assert found["shortcut_accuracy"]["value"] == found["decided"]["value"] == 1.0
    assert found["usual_accuracy"] == 0.5
    assert found["accuracy_where_wrong"] is None


def test_a_fold_learns_nothing_of_its_own_groups(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path)
    manifest = pq.read_table(run.path(*DATASET_MANIFEST)).to_pandas()
    # The one group with label 1 is in fold 0: nothing of it is left to learn from.
    manifest["group"] = np.where(manifest["label"] == 1, 0, manifest["group"] + 1)
    pq.write_table(pa.Table.from_pandas(manifest), run.path(*DATASET_MANIFEST))
    answers = answers_of_folds(manifest[manifest["split"] != "test"])
    assert compare_folds_with_shortcuts(run, answers) == {
        "reason": "the images drawn for this comparison outside fold 0 are of one class"
    }


def test_folds_of_an_earlier_version_have_no_views(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, table=False)
    manifest = pq.read_table(run.path(*DATASET_MANIFEST)).to_pandas()
    assert compare_folds_with_shortcuts(run, answers_of_folds(manifest)) is None
