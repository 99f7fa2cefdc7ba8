"""Finding files: what is there, and what is refused before anything is computed."""

from pathlib import Path

import pytest
from support.s3_server import s3_server

from brain_ray.checks.locations import try_data, try_folder
from brain_ray.config import Config, DataConfig
from brain_ray.data.sources import check_folders, find_files, find_layout, listing_hash
from brain_ray.errors import RunError
from brain_ray.runs import Run

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
        RunError, match=r"has no folder Training/, but \['images'\]: set --data\.train-folder .* or to \. if"
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


TWO = DataConfig(classes=("no", "yes"), train_folder="train")


def two(root: Path, *folders: str) -> Path:
    """Fill folders with three files each, named as images."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(3):
            (root / folder / f"{k}.jpg").write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("test", "set --data.test-folder test"),
        ("testing", "set --data.test-folder testing"),
        ("valid", "set --data.valid-folder valid"),
        ("val", "set --data.valid-folder val"),
        ("validation", "set --data.valid-folder validation"),
        ("pred", "set --data.test-folder, --data.valid-folder or --data.classes"),
    ],
)
def test_a_folder_with_images_beside_the_training_folder_is_never_left_out_in_silence(
    name: str, setting: str, tmp_path: Path
) -> None:
    two(tmp_path, "train/no", "train/yes", f"{name}/no", f"{name}/yes/deep")
    with pytest.raises(RunError) as refused:
        check_folders(str(tmp_path), TWO)
    said = str(refused.value)
    assert said == (
        f"{tmp_path} has images in folders that are not used: {name}/ (6 images): {setting} to use them, or "
        f"leave them out by --data.ignore-folders {name}"
    )
    data = TWO.model_copy(update={"ignore_folders": (f"{name}/",)})
    assert set(find_files(str(tmp_path), data)["source_split"]) == {"train"}
    assert find_layout(str(tmp_path), data).ignored == {name: 6}


def test_all_folders_and_the_settings_for_them_are_named_in_a_line(tmp_path: Path) -> None:
    two(tmp_path, "train/no", "train/yes", "test/no", "test/yes", "valid/no", "valid/yes", "my pictures")
    with pytest.raises(RunError) as refused:
        find_files(str(tmp_path), TWO)
    assert "test/ (6 images), valid/ (6 images)" in str(refused.value)
    assert "set --data.test-folder test --data.valid-folder valid to use them" in str(refused.value)
    assert str(refused.value).endswith("--data.ignore-folders 'my pictures' test valid")
    assert "\n" not in str(refused.value)


def test_validation_and_test_folders_are_used_where_they_are_named(tmp_path: Path) -> None:
    two(tmp_path, "train/no", "train/yes", "test/no", "test/yes", "valid/no", "valid/yes")
    data = TWO.model_copy(update={"test_folder": "test", "valid_folder": "valid"})
    index = find_files(str(tmp_path), data)
    assert index["source_split"].value_counts().to_dict() == {"train": 6, "valid": 6, "test": 6}
    assert index.loc[index["path"] == "valid/yes/1.jpg", "source_split"].item() == "valid"


def test_a_validation_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    two(tmp_path, "train/no", "train/yes")
    with pytest.raises(RunError, match=r"has no folder vald/, but \['train'\]: set --data\.valid-folder"):
        find_files(str(tmp_path), TWO.model_copy(update={"valid_folder": "vald"}))


def test_one_folder_is_no_two_splits(tmp_path: Path) -> None:
    two(tmp_path, "train/no", "train/yes")
    with pytest.raises(RunError, match="name one folder twice"):
        find_files(str(tmp_path), TWO.model_copy(update={"test_folder": "train/"}))


def test_folders_without_images_are_no_reason_to_end(tmp_path: Path) -> None:
    two(tmp_path, "train/no", "train/yes")
    for name in (
        "logs/events.out.1",
        "models/b0.h5",
        "__MACOSX/train/no/._0.jpg",
        ".git/x.png",
        "train/.x/a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "train/empty").mkdir()
    layout = find_layout(str(tmp_path), TWO)
    assert (layout.folders, layout.ignored, layout.loose) == ({"train": "train"}, {}, {})


def test_runs_and_exports_below_the_source_are_none_of_its_images(tmp_path: Path) -> None:
    two(tmp_path, "train/no", "train/yes", "runs/first/report", "exported/train/no")
    (tmp_path / "runs/first/report/stage.json").touch()
    (tmp_path / "exported/export.json").touch()
    assert check_folders(str(tmp_path), TWO) == {"train": "train"}


def test_classes_at_the_top_are_used_and_others_beside_them_named(tmp_path: Path) -> None:
    two(tmp_path, "no", "yes", "pred", "augmented data/yes", "test/no", "test/yes")
    (tmp_path / "__MACOSX/yes").mkdir(parents=True)
    data = DataConfig(classes=("no", "yes"))
    with pytest.raises(RunError, match=r"or to \. if these are they"):
        find_files(str(tmp_path), data)
    data = data.model_copy(update={"train_folder": ".", "test_folder": "test"})
    with pytest.raises(
        RunError, match=r"augmented data/ \(3 images\), pred/ \(3 images\): set --data\.classes"
    ):
        find_files(str(tmp_path), data)
    data = data.model_copy(update={"ignore_folders": ("augmented data", "pred")})
    index = find_files(str(tmp_path), data)
    assert index.groupby("source_split")["path"].first().to_dict() == {
        "train": "no/0.jpg",
        "test": "test/no/0.jpg",
    }
    assert len(index) == 12


def test_folders_beside_a_nested_training_folder_are_seen(tmp_path: Path) -> None:
    two(tmp_path, "data/train/no", "data/train/yes", "data/val/no", "other")
    data = TWO.model_copy(update={"train_folder": "data/train"})
    with pytest.raises(RunError, match=r"other/ \(3 images\), data/val/ \(3 images\)"):
        find_files(str(tmp_path), data)
    data = data.model_copy(update={"ignore_folders": ("data/val", "other")})
    assert len(find_files(str(tmp_path), data)) == 6


def test_an_unknown_class_can_be_left_out(tmp_path: Path) -> None:
    two(tmp_path, "train/no", "train/yes", "train/unsure")
    with pytest.raises(RunError, match=r"train/unsure/ \(3 images\): set --data\.classes to use them"):
        find_files(str(tmp_path), TWO)
    data = TWO.model_copy(update={"ignore_folders": ("train/unsure",)})
    assert len(find_files(str(tmp_path), data)) == 6
    assert find_layout(str(tmp_path), data).ignored == {"train/unsure": 3}


def test_images_in_no_folder_of_a_class_are_named(tmp_path: Path) -> None:
    two(tmp_path, "train/no", "train/yes")
    for name in ("example.PNG", "README.md", "train/stray.tif", "train/labels.csv", "train/._a.jpg"):
        (tmp_path / name).touch()
    assert find_layout(str(tmp_path), TWO).loose == {".": ["example.PNG"], "train": ["stray.tif"]}


def test_test_images_without_labels_are_told_from_renamed_classes(tmp_path: Path) -> None:
    two(tmp_path, "train/no", "train/yes", "Testing")
    with pytest.raises(RunError, match=r"Testing has 3 images and no folders of classes: .*jobs/predict\.py"):
        find_files(str(tmp_path), TWO)
    data = TWO.model_copy(update={"ignore_folders": ("Testing",)})
    assert find_layout(str(tmp_path), data).ignored == {"Testing": 3}


def test_folders_are_seen_in_a_bucket_as_on_a_disk(tmp_path: Path) -> None:
    two(tmp_path, "no", "yes", "pred")
    (tmp_path / "stray.png").touch()
    with s3_server("images") as server:
        Run("s3://images", "tree").upload(tmp_path)
        for place in ("s3://images/tree", f"s3://images/tree?{server.query}"):
            data = DataConfig(classes=("no", "yes"), train_folder=".", source=place)
            with pytest.raises(RunError, match=r"pred/ \(3 images\)"):
                find_files(place, data)
            data = data.model_copy(update={"ignore_folders": ("pred",)})
            assert find_files(place, data)["path"].tolist()[0] == "no/0.jpg"
            assert find_layout(place, data).loose == {".": ["stray.png"]}
            assert try_folder(Config(data=data)) == try_data(Config(data=data)) == ""
