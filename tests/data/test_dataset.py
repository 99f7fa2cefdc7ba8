"""A prepared data set is read by label, by row and as a network's inputs."""

import resource
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from brain_ray.config import Config, ModelConfig
from brain_ray.data.dataset import (
    add_source_columns,
    first_rows,
    group_column,
    read_input_facts,
    read_inputs,
    read_labels,
    read_rows,
    read_table,
    sample_rows,
)
from brain_ray.data.parts import count_labels, find_parts
from brain_ray.data.rows import ROW_COLUMNS, ROW_SCHEMA
from brain_ray.errors import RunError
from brain_ray.input_spec import InputSpec
from brain_ray.runs import DATASET_MANIFEST, Run

LABELS = [3, 0, 2, 2, 3, 0, 1]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path), "run")


def write_parts(run: Run, table: pa.Table, part_rows: int = 3) -> None:
    folder = Path(run.path("dataset", "train"))
    folder.mkdir(parents=True)
    for start in range(0, len(table), part_rows):
        pq.write_table(table.slice(start, part_rows), folder / f"{start:05}.parquet")


def write_labels(run: Run, labels: list[int | None]) -> None:
    """Write a split's files with these labels; what is in the other columns is no image."""
    write_parts(run, pa.table({"bytes": [b"x"] * len(labels), "label": pa.array(labels, pa.int64())}))


def write_rows(run: Run, augmented: tuple[int, ...] = ()) -> list[dict]:
    """Write grey squares of 40 pixels, each brighter than the one before, with LABELS."""
    rows = []
    for i, label in enumerate(LABELS):
        data = cv2.imencode(".png", np.full((40, 40), 20 * i, np.uint8))[1].tobytes()
        facts = {"row_id": i, "image_id": i, "path": f"{i}.png", "label": label, "bytes": data, "cluster": i}
        facts |= {"top": 0, "bottom": 40, "left": 0, "right": 40, "augment_seed": i if i in augmented else -1}
        rows.append(facts | {"file_sha256": "", "pixel_sha256": ""})
    write_parts(run, pa.Table.from_pylist(rows, ROW_SCHEMA))
    return rows


def test_files_without_rows_are_no_parts(run: Run) -> None:
    write_labels(run, [0, 1, 2, 3])
    empty = pa.table({"bytes": pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
    pq.write_table(empty, run.path("dataset", "train", "00001.parquet"))
    assert [part.num_rows for part in find_parts(run, "train")] == [3, 1]


def test_labels_are_counted_over_all_files(run: Run) -> None:
    write_labels(run, [1, 1, 3, 0, 2, 1, 3, 2, 3, 1])
    counts = count_labels(run, "train", 4)
    assert_array_equal(counts, [1, 4, 2, 3])
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


def test_labels_come_in_the_order_of_the_rows(run: Run) -> None:
    write_labels(run, list(LABELS))
    labels = read_labels(run, "train")
    assert labels.tolist() == LABELS
    assert labels.dtype == np.int64


def test_rows_come_in_the_order_that_is_asked_for(run: Run) -> None:
    rows = write_rows(run)
    wanted = [5, 0, 6]
    expected = [{name: rows[number][name] for name in ROW_COLUMNS} for number in wanted]
    assert read_rows(run, "train", wanted) == expected


def test_a_row_that_is_not_there_is_named(run: Run) -> None:
    write_rows(run)
    with pytest.raises(RunError, match=r"dataset/train has no row 7: prepare again"):
        read_rows(run, "train", [1, 7])


def test_a_sample_holds_no_row_twice_and_depends_on_the_seed_alone(run: Run) -> None:
    write_rows(run)
    first, again, other = (
        [row["row_id"] for row in sample_rows(run, "train", 5, seed)] for seed in (1, 1, 2)
    )
    assert len(set(first)) == 5
    assert first == again != other
    assert sorted(row["row_id"] for row in sample_rows(run, "train", 25, 1)) == list(range(7))


def test_the_first_row_of_each_label_is_found(run: Run) -> None:
    write_rows(run)
    assert [row["row_id"] for row in first_rows(run, "train")] == [1, 6, 2, 0]


def test_inputs_are_of_images_and_not_of_their_augmented_copies(run: Run) -> None:
    write_rows(run, augmented=(2, 4))
    config = Config(model=ModelConfig(height=24, width=32))
    inputs, labels = read_inputs(run, config, ["train"], 100)
    assert (inputs.shape, inputs.dtype) == ((5, 24, 32, 1), np.uint8)
    assert inputs[:, 0, 0, 0].tolist() == [0, 20, 60, 100, 120]
    assert labels.tolist() == [3, 0, 2, 0, 1]


def test_inputs_are_fitted_as_the_settings_of_the_model_say(run: Run) -> None:
    write_rows(run)
    model = ModelConfig(height=24, width=32, fit="pad", crop_size=(40, 80))
    assert model.input_spec == InputSpec(24, 32, "pad", (40, 80))
    pixels = read_inputs(run, Config(model=model), ["train"], 100)[0][-1, ..., 0]
    assert (pixels[[3, -4]] == 0).all(), "twice as wide as high, it leaves four rows black on either side"
    assert (pixels[4:-4] == 120).all()


def test_inputs_are_not_held_in_memory(run: Run) -> None:
    data = cv2.imencode(".png", np.full((16, 16), 7, np.uint8))[1].tobytes()
    facts = {"path": "x.png", "label": 1, "bytes": data, "cluster": 0, "augment_seed": -1}
    facts |= {"top": 0, "bottom": 16, "left": 0, "right": 16, "file_sha256": "", "pixel_sha256": ""}
    rows = [facts | {"row_id": k, "image_id": k} for k in range(200)]
    write_parts(run, pa.Table.from_pylist(rows, ROW_SCHEMA), part_rows=100)
    config = Config(model=ModelConfig(height=200, width=300))
    tracemalloc.start()
    inputs, labels = read_inputs(run, config, ["train"], 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert inputs.nbytes == 200 * 200 * 300
    assert peak < inputs.nbytes / 3
    assert (inputs[[0, 99, 100, 199]] == 7).all()
    assert labels.tolist() == [1] * 200


def test_a_disk_without_room_for_the_inputs_is_named(run: Run) -> None:
    write_rows(run)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as if the disk were full
    try:
        with pytest.raises(RunError, match=r"cannot write the network's inputs .*set TMPDIR to a folder"):
            read_inputs(run, Config(model=ModelConfig(height=48, width=48)), ["train"], 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_of_many_images_some_are_drawn_in_the_order_of_the_rows(run: Run) -> None:
    write_rows(run, augmented=(2, 4))
    inputs, labels = read_inputs(run, Config(model=ModelConfig(height=24, width=24)), ["train"], 3)
    rows = (inputs[:, 0, 0, 0] // 20).tolist()
    assert rows == sorted(rows)
    assert len(set(rows) - {2, 4}) == 3
    assert labels.tolist() == [LABELS[row] for row in rows]


@pytest.mark.parametrize("limit", [100, 3])
def test_facts_are_those_of_the_images_whose_inputs_are_read(run: Run, limit: int) -> None:
    rows = write_rows(run, augmented=(2, 4))
    config = Config(model=ModelConfig(height=24, width=24))
    images = (read_inputs(run, config, ["train"], limit)[0][:, 0, 0, 0] // 20).tolist()
    numbers = [row["image_id"] for row in rows][::-1]  # in another order than the rows
    manifest = pd.DataFrame({"image_id": numbers, "cluster": numbers, "group": [n // 2 for n in numbers]})
    file = Path(run.path(*DATASET_MANIFEST))
    manifest.to_parquet(file)
    assert group_column(read_input_facts(run, config, ["train"], limit)).tolist() == [
        image // 2 for image in images
    ]
    manifest.drop(columns="group").to_parquet(file)  # as an earlier version wrote it
    assert group_column(read_input_facts(run, config, ["train"], limit)).tolist() == images


def test_a_split_that_was_not_prepared_is_refused_by_name(run: Run) -> None:
    for read in (
        lambda: find_parts(run, "valid"),
        lambda: read_labels(run, "valid"),
        lambda: read_rows(run, "valid", [0]),
        lambda: sample_rows(run, "valid", 1, 0),
        lambda: first_rows(run, "valid"),
        lambda: read_inputs(run, Config(), ["valid"], 1),
    ):
        with pytest.raises(RunError, match=r"run/dataset/valid has no rows: run jobs/prepare\.py"):
            read()


def test_a_table_is_read_as_it_was_written_or_some_of_its_columns(run: Run) -> None:
    Path(run.path("dataset")).mkdir(parents=True)
    table = pd.DataFrame({"path": ["a", "b"], "size": [1, 2]})
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), run.path("dataset", "pairs.parquet"))
    pd.testing.assert_frame_equal(read_table(run, "dataset", "pairs.parquet"), table)
    assert list(read_table(run, "dataset", "pairs.parquet", columns=["size"])) == ["size"]


def test_what_the_source_states_of_images_is_added(run: Run) -> None:
    stated = {"source_split": "test", "patient": ["a", "b"], "source": "", "fold": [1, 2], "age": [61, 70]}
    manifest = pd.DataFrame({"image_id": [5, 3], "path": "x.png", "width": 7, "cluster": 0, **stated})
    Path(run.path("dataset")).mkdir(parents=True)
    manifest.to_parquet(run.path("dataset", "manifest.parquet"))
    images = pd.DataFrame({"image_id": [3, 5], "path": "x.png", "predicted": [0, 1]})
    found = add_source_columns(images, run)
    assert list(found) == [*images, "source_split", "patient", "source", "fold", "age"]
    assert found[["patient", "fold", "age"]].to_numpy().tolist() == [["b", 2, 70], ["a", 1, 61]]
    manifest.drop(columns=stated).to_parquet(run.path("dataset", "manifest.parquet"))
    assert add_source_columns(images, run).equals(images)
