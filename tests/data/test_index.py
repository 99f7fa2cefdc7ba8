"""Finding files: what is there, and what is refused before anything is computed."""

from pathlib import Path

import pytest

from brain_ray.config import DataConfig
from brain_ray.data.index import find_files, listing_hash
from brain_ray.runs import RunError

DATA = DataConfig()


def tree(
    root: Path, classes: tuple[str, ...] = DATA.classes, splits: tuple[str, ...] = ("Training",)
) -> Path:
    for split in splits:
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(3):
                (folder / f"{k}.jpg").write_bytes(b"x")
    return root


def test_files_are_listed_in_order_with_split_and_class(tmp_path: Path) -> None:
    index = find_files(str(tree(tmp_path, splits=("Training", "Testing"))), DATA)
    assert len(index) == 24
    assert index["path"].is_monotonic_increasing
    assert index["image_id"].tolist() == list(range(24))
    row = index[index["path"] == "Testing/notumor/1.jpg"].iloc[0]
    assert (row["source_split"], row["class_name"], row["label"]) == ("test", "notumor", 2)


def test_folders_inside_a_class_are_searched_and_hidden_files_are_not(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "Training/glioma/patient1").mkdir()
    (tmp_path / "Training/glioma/patient1/a.png").write_bytes(b"x")
    (tmp_path / "Training/glioma/.DS_Store").write_bytes(b"x")
    index = find_files(str(tmp_path), DATA)
    assert "Training/glioma/patient1/a.png" in index["path"].tolist()
    assert len(index) == 13


def test_split_folders_have_configurable_names(tmp_path: Path) -> None:
    tree(tmp_path, splits=("fit", "score"))
    index = find_files(str(tmp_path), DataConfig(train_folder="fit", test_folder="score"))
    assert index["source_split"].value_counts().to_dict() == {"train": 12, "test": 12}


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere is not a folder: set --data\.source"):
        find_files(str(tmp_path / "nowhere"), DATA)


def test_no_training_folder_says_what_is_there(tmp_path: Path) -> None:
    tree(tmp_path, splits=("images",))
    with pytest.raises(
        RunError, match=r"has no folder Training/, but \['images'\]: set --data\.train-folder"
    ):
        find_files(str(tmp_path), DATA)


def test_an_unknown_and_a_missing_class_are_named(tmp_path: Path) -> None:
    tree(tmp_path, classes=("glioma", "meningioma", "no_tumor", "pituitary"))
    with pytest.raises(RunError, match=r"unknown \['no_tumor'\], missing \['notumor'\]"):
        find_files(str(tmp_path), DATA)


def test_a_class_with_one_image_is_refused(tmp_path: Path) -> None:
    tree(tmp_path)
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / "Training/glioma" / name).unlink()
    with pytest.raises(RunError, match=r"too few files in \{'glioma': 1\}"):
        find_files(str(tmp_path), DATA)


def test_the_listing_hash_follows_names_and_sizes(tmp_path: Path) -> None:
    tree(tmp_path)
    before = listing_hash(find_files(str(tmp_path), DATA))
    assert before == listing_hash(find_files(str(tmp_path), DATA))
    (tmp_path / "Training/glioma/0.jpg").write_bytes(b"longer")
    assert before != listing_hash(find_files(str(tmp_path), DATA))
