"""Rows are counted by class, and weigh what the settings say."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils.class_weight import compute_class_weight

from brain_ray.data.dataset import count_labels
from brain_ray.errors import RunError
from brain_ray.runs import Run
from brain_ray.training.class_weights import class_weights, split_weights

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
COUNTS = np.array([1, 4, 2, 3])


def write_labels(run: Run, labels: list[int | None], part_rows: int = 3) -> None:
    """Write a split's files with these labels; what is in the other columns is no image."""
    table = pa.table({"bytes": [b"x"] * len(labels), "label": pa.array(labels, pa.int64())})
    folder = Path(run.path("dataset", "train"))
    folder.mkdir(parents=True)
    for start in range(0, len(labels), part_rows):
        pq.write_table(table.slice(start, part_rows), folder / f"{start:05}.parquet")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path), "run")


def test_labels_are_counted_over_all_files(run: Run) -> None:
    write_labels(run, [1, 1, 3, 0, 2, 1, 3, 2, 3, 1])
    counts = count_labels(run, "train", 4)
    assert_array_equal(counts, COUNTS)
    assert counts.dtype == np.int64


def test_a_class_without_rows_and_a_split_without_files_count_0(run: Run) -> None:
    write_labels(run, [0, 1])
    assert count_labels(run, "train", 4).tolist() == [1, 1, 0, 0]
    assert count_labels(run, "test", 4).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("label", "named"), [(4, "4"), (-1, "-1"), (None, "nan")])
def test_a_label_that_is_none_of_the_classes_is_refused(label: int | None, named: str, run: Run) -> None:
    write_labels(run, [0, 1, 2, 3, label])
    with pytest.raises(RunError, match=rf"dataset/train has rows of label {named}, and there are 4 classes"):
        count_labels(run, "train", 4)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    weights = class_weights("balanced", COUNTS, CLASSES)
    rows = np.repeat(np.arange(4), COUNTS)
    assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(4), y=rows), rtol=1e-6)
    assert weights[rows].mean() == pytest.approx(1)
    assert weights.dtype == np.float32


def test_no_weights_are_1_and_given_ones_are_as_given() -> None:
    assert_array_equal(class_weights("none", COUNTS, CLASSES), np.ones(4, np.float32))
    given = class_weights((0.5, 0, 2, 1), COUNTS, CLASSES)
    assert_array_equal(given, np.array([0.5, 0, 2, 1], np.float32))


@pytest.mark.parametrize(
    ("setting", "counts", "message"),
    [
        ("balanced", [3, 0, 2, 0], "no rows of meningioma, pituitary: give the weights"),
        ((1.0, 2.0), COUNTS, "has 2 numbers: expected one for each of the 4 classes, glioma, "),
        ((1.0, -0.5, 1.0, 1.0), COUNTS, r"is \[1.0, -0.5, 1.0, 1.0\]: expected finite numbers from 0 up"),
        ((1.0, float("nan"), 1.0, 1.0), COUNTS, "nan.*expected finite"),
        ((1.0, float("inf"), 1.0, 1.0), COUNTS, "inf.*expected finite"),
        ((0.0, 0.0, 0.0, 0.0), COUNTS, "not all of them 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(setting: Any, counts: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        class_weights(setting, np.asarray(counts), CLASSES)


def test_the_balance_is_described_by_name() -> None:
    counts = {"train": COUNTS, "test": np.zeros(4, np.int64)}
    described = split_weights(CLASSES, counts, class_weights("balanced", COUNTS, CLASSES))
    assert described["split/train/meningioma"] == pytest.approx(0.4)
    assert described["split/test/glioma"] == 0
    assert described["class_weight/glioma"] == pytest.approx(2.5)
    assert len(described) == 12
