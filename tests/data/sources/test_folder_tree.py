"""Folder trees: what is used, what is left out and told, and what is refused before anything is computed."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyarrow import fs
from support.s3_server import s3_server

from brain_ray.checks.locations import try_data, try_folder
from brain_ray.config import Config, DataConfig
from brain_ray.data.sources import stored_tree
from brain_ray.data.sources.find import Source, list_source
from brain_ray.data.sources.listing import Listing, listing_hash
from brain_ray.data.sources.walk import File, LocalTree
from brain_ray.errors import RunError
from brain_ray.runs import Run

DATA = DataConfig()
TWO = DataConfig(classes=("no", "yes"))


def tree(
    root: Path, classes: tuple[str, ...] = DATA.classes, splits: tuple[str, ...] = ("Training",)
) -> Path:
    return fill(root, *(f"{split}/{name}" for split in splits for name in classes))


def fill(root: Path, *folders: str) -> Path:
    """Fill folders with three files each, named as images."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(3):
            (root / folder / f"{k}.jpg").write_bytes(b"x")
    return root


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def find(root: Path, data: DataConfig = TWO, **settings: object) -> Listing:
    return list_source(str(root), data.model_copy(update=settings))


def splits(listing: Listing) -> dict[str, int]:
    return listing.files["source_split"].value_counts().to_dict()


def left_out(listing: Listing) -> dict[str, tuple[int, str]]:
    """Number of files and reason by folder, but for what is hidden."""
    table = listing.left_out
    table = table[~table["reason"].str.startswith("hidden")]
    return {row.path: (row.files, row.reason) for row in table.itertuples()}


# --- how it is listed


def test_the_folders_of_classes_are_listed_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket tells a thousand names in a request, and the next thousand in the next one."""
    root = tree(tmp_path, splits=("Training", "Testing"))
    fill(root, "Training/glioma/inner", "Testing/pituitary/.hidden")
    expected = find(root, DATA)
    together, walk = threading.Barrier(8), LocalTree.walk

    def wait_for_others(*args: Any, **settings: Any) -> Iterator[File]:
        together.wait(timeout=30)
        return walk(*args, **settings)

    monkeypatch.setattr(LocalTree, "walk", wait_for_others)
    found = find(root, DATA)
    assert found.files.equals(expected.files)
    assert len(found.files) == 27
    assert found.left_out.equals(expected.left_out)
    assert found.left_out["first"].tolist() == [".hidden"]


# --- a set that only scores a bundle


@pytest.mark.parametrize("folder", ["", "Testing/", "Training/"])
def test_an_external_set_may_lack_classes_and_have_others(folder: str, tmp_path: Path) -> None:
    root = fill(tmp_path, f"{folder}yes", f"{folder}maybe")
    with pytest.raises(RunError, match=r"missing \['no'\]"):
        find(root)
    found = find(root, external=True)
    assert set(found.files["class_name"]) == {"yes"}
    assert left_out(found) == {f"{folder}maybe": (3, "none of data.classes")}
    assert any("has no images of no" in note for note in found.notes)


def test_an_external_set_of_other_classes_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected"):
        find(fill(tmp_path, "train/a", "train/b"), external=True)


# --- the usual layout


def test_files_are_listed_in_order_with_split_and_class(tmp_path: Path) -> None:
    files = find(tree(tmp_path, splits=("Training", "Testing")), DATA).files
    assert len(files) == 24
    assert files["path"].is_monotonic_increasing
    row = files[files["path"] == "Testing/notumor/1.jpg"].iloc[0]
    assert (row["source_split"], row["class_name"], row["label"]) == ("test", "notumor", 2)
    assert (row["patient"], row["source"], row["fold"], row["size"]) == ("", "", -1, 1)
    assert row["mtime_ns"] == (tmp_path / "Testing/notumor/1.jpg").stat().st_mtime_ns


def test_a_real_set_is_listed_as_it_lies() -> None:
    real = Path(__file__).parents[4] / "shared/data/brain-mri"
    if not real.is_dir():
        pytest.skip("no real images at ../shared/data/brain-mri")
    listing = find(real, DATA)
    assert splits(listing) == {"train": 5708, "test": 327}
    assert listing.left_out.empty


def test_folders_of_patients_within_a_class_are_searched(tmp_path: Path) -> None:
    touch(tree(tmp_path), "Training/glioma/patient1/a.png", "Training/glioma/patient2/scan/a.png")
    files = find(tmp_path, DATA).files
    assert files["path"].tolist()[3:5] == [
        "Training/glioma/patient1/a.png",
        "Training/glioma/patient2/scan/a.png",
    ]


def test_split_folders_have_configurable_names(tmp_path: Path) -> None:
    tree(tmp_path, splits=("fit", "check", "score"))
    listing = find(tmp_path, DATA, train_folder="fit", valid_folder="check", test_folder="score")
    assert splits(listing) == {"train": 12, "valid": 12, "test": 12}


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere is not a folder: set --data\.source to a folder .*\.csv"):
        find(tmp_path / "nowhere")


@pytest.mark.parametrize(("name", "said"), [("a.zip", "unpack it first, and set"), ("a.xlsx", "file: set")])
def test_a_file_is_no_folder(name: str, said: str, tmp_path: Path) -> None:
    touch(tmp_path, name)
    with pytest.raises(RunError, match=rf"is a file: {said.removeprefix('file: ')} --data\.source"):
        find(tmp_path / name)


def test_an_unknown_and_a_missing_class_are_named_with_the_words_to_add(tmp_path: Path) -> None:
    tree(tmp_path, classes=("glioma", "meningioma", "no_tumor", "pituitary"))
    with pytest.raises(RunError) as refused:
        find(tmp_path, DATA)
    assert "unknown ['no_tumor'], missing ['notumor']" in str(refused.value)
    assert str(refused.value).endswith("add --data.classes glioma meningioma no_tumor pituitary")


def test_a_class_with_one_image_is_refused(tmp_path: Path) -> None:
    tree(tmp_path)
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / "Training/glioma" / name).unlink()
    with pytest.raises(RunError, match=r"Training has too few files in \{'glioma': 1\}"):
        find(tmp_path, DATA)


def test_the_listing_hash_follows_names_and_sizes(tmp_path: Path) -> None:
    tree(tmp_path)
    before = listing_hash(find(tmp_path, DATA))
    assert before == listing_hash(find(tmp_path, DATA))
    (tmp_path / "Training/glioma/0.jpg").write_bytes(b"longer")
    assert before != listing_hash(find(tmp_path, DATA))


# --- splits by their names


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "train_set", "Training Images"])
@pytest.mark.parametrize(
    ("valid", "test"), [("valid", "test"), ("val", "Testing"), ("Validation", "test_data")]
)
def test_splits_are_found_by_their_names(train: str, valid: str, test: str, tmp_path: Path) -> None:
    fill(tmp_path, *(f"{split}/{name}" for split in (train, valid, test) for name in ("no", "yes")))
    listing = find(touch(tmp_path, "README.dataset.txt"))
    assert splits(listing) == {"train": 6, "valid": 6, "test": 6}
    assert listing.notes == (
        f"splits by folders: train from {train}/, valid from {valid}/, test from {test}/",
    )
    assert listing.left_out.empty
    assert Source(str(tmp_path), TWO).splits() == {"train", "valid", "test"}


def test_a_named_training_folder_has_the_others_found_beside_it(tmp_path: Path) -> None:
    fill(tmp_path, "data/train/no", "data/train/yes", "data/val/no", "data/val/yes", "other")
    listing = find(tmp_path, train_folder="data/train")
    assert splits(listing) == {"train": 6, "valid": 6}
    assert left_out(listing) == {"other": (3, "neither a split nor a class by their names")}


def test_folders_that_archives_put_around_the_splits_are_opened(tmp_path: Path) -> None:
    fill(tmp_path, *(f"archive/Brain MRI/{s}/{c}" for s in ("Training", "Testing") for c in ("no", "yes")))
    listing = find(tmp_path)
    assert splits(listing) == {"train": 6, "test": 6}
    assert listing.files["path"][0] == "archive/Brain MRI/Testing/no/0.jpg"


def test_two_folders_for_a_split_are_refused_by_their_names(tmp_path: Path) -> None:
    fill(tmp_path, "train/no", "train/yes", "test/no", "Testing/yes")
    with pytest.raises(
        RunError, match=r"several folders for the split test: Testing/, test/: say .*test-folder"
    ):
        find(tmp_path)
    assert splits(find(tmp_path, test_folder="Testing")) == {"train": 6, "test": 3}
    assert left_out(find(tmp_path, test_folder="Testing")).keys() == {"test"}
    assert splits(find(tmp_path, ignore_folders=("test",))) == {"train": 6, "test": 3}
    fill(tmp_path, "Training/no")
    with pytest.raises(RunError, match="several folders for the split train: Training/, train/"):
        find(tmp_path)


def test_several_sources_side_by_side_are_not_guessed_at(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{name}/Training/{label}" for name in ("a", "b") for label in ("no", "yes")))
    with pytest.raises(RunError, match=r"split train: a/, b/: say which by --data\.train-folder"):
        find(tmp_path)


def test_a_folder_that_is_left_out_by_a_setting_is_counted(tmp_path: Path) -> None:
    fill(tmp_path, "train/no", "train/yes", "valid/no", "valid/yes/deep", "train/no/patient 7")
    listing = find(tmp_path, ignore_folders=("valid/", "train/no/patient 7", "vaild"))
    assert splits(listing) == {"train": 6}
    assert left_out(listing)["valid"] == (6, "named by data.ignore_folders")
    assert "data.ignore_folders names folders that are not there: vaild" in listing.notes


def test_a_validation_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "train/no", "train/yes")
    with pytest.raises(RunError, match=r"has no folder vald/, but \['train'\]: set --data\.valid-folder"):
        find(tmp_path, valid_folder="vald")


def test_a_test_folder_that_is_not_there_is_an_error_if_another_could_be_meant(tmp_path: Path) -> None:
    fill(tmp_path, "train/no", "train/yes")
    assert "there is no folder Testing/: a test split is drawn" in find(tmp_path, test_folder="Testing").notes
    fill(tmp_path, "test/no", "test/yes")
    with pytest.raises(
        RunError, match=r"has no folder Testing/, but \['test', 'train'\]: set --data\.test-f"
    ):
        find(tmp_path, test_folder="Testing")


def test_one_folder_is_no_two_splits(tmp_path: Path) -> None:
    fill(tmp_path, "train/no", "train/yes")
    with pytest.raises(RunError, match=r"for the splits train and test, are one folder"):
        find(tmp_path, test_folder="train/")
    (tmp_path / "test").symlink_to("train")
    with pytest.raises(RunError, match=r"train/ and test/, for the splits train and test, are one folder"):
        find(tmp_path)


def test_no_training_folder_says_what_is_there_and_what_could_be_meant(tmp_path: Path) -> None:
    touch(fill(tmp_path, "a", "b"), "labels.csv")
    with pytest.raises(RunError) as refused:
        find(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} has no folder Training/ or train/, and none of the classes' folders, but ['a', 'b']: "
        "set --data.train-folder to the one that holds the classes' folders, or, if these are the classes, "
        f"--data.classes a b, or, if labels.csv lists the images, --data.source {tmp_path}/labels.csv"
    )


def test_a_flat_folder_says_that_it_has_no_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a.jfif", "b")
    with pytest.raises(RunError, match="none of the classes' folders, but 2 files and no folders: set"):
        find(tmp_path)


# --- classes at the top, and what lies beside them


def test_classes_at_the_top_are_used_and_others_beside_them_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "no", "yes", "pred", "augmented data/yes", "test/no", "test/yes", "__MACOSX/yes")
    listing = find(touch(tmp_path, "logs/events.out.1", "models/b0.h5"))
    assert listing.files.groupby("source_split")["path"].first().to_dict() == {
        "train": "no/0.jpg",
        "test": "test/no/0.jpg",
    }
    assert len(listing.files) == 12
    assert left_out(listing) == {
        "augmented data": (3, "none of data.classes"),
        "pred": (3, "none of data.classes"),
    }
    assert listing.files.equals(find(tmp_path, train_folder=".").files)


def test_some_of_the_classes_can_be_used(tmp_path: Path) -> None:
    tree(tmp_path, splits=("Training", "Testing"))
    listing = find(tmp_path, classes=("pituitary", "glioma"))
    assert listing.files.groupby("class_name")["label"].first().to_dict() == {"glioma": 1, "pituitary": 0}
    assert left_out(listing)["Testing/notumor"] == (3, "none of data.classes")
    assert len(left_out(listing)) == 4


def test_a_folder_of_files_without_suffixes_is_not_left_out_in_silence(tmp_path: Path) -> None:
    touch(fill(tmp_path, "train/no", "train/yes"), "train/unsure/IM0001", "train/unsure/IM0002")
    assert left_out(find(tmp_path)) == {"train/unsure": (2, "none of data.classes")}


def test_splits_within_the_folders_of_the_classes_are_splits(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{label}/{split}" for label in ("no", "yes") for split in ("train", "test")))
    fill(tmp_path, "no/odd", "yes/val", "no/validation")
    listing = find(touch(tmp_path, "no/stray.png"))
    assert splits(listing) == {"train": 6, "test": 6, "valid": 6}
    assert left_out(listing) == {
        "no/odd": (3, "beside the folders of the splits"),
        "no": (1, "beside the folders of the splits"),
    }
    assert Source(str(tmp_path), TWO).splits() == {"train", "valid", "test"}
    fill(tmp_path, "test/no")
    with pytest.raises(RunError, match=r"\(\*/train\), and there is test/ beside them: leave one out"):
        find(tmp_path)


def test_folders_without_images_and_hidden_ones_are_no_matter(tmp_path: Path) -> None:
    fill(tmp_path, "train/no", "train/yes", "train/yes/.ipynb_checkpoints", ".git", "train/.x", "__MACOSX/no")
    touch(tmp_path, "logs/events.out.1", "models/b0.h5", "train/no/._0.jpg", "train/no/patient/Thumbs.db")
    touch(tmp_path, "train/no/desktop.ini")
    (tmp_path / "train/empty").mkdir()
    listing = find(tmp_path)
    assert len(listing.files) == 6
    assert left_out(listing) == {}
    found = {row.path: (row.files, row.first) for row in listing.left_out.itertuples()}
    assert found.keys() == {".", "train", "train/no", "train/yes"}
    assert sorted(found["train/no"][1].split(", ")) == ["._0.jpg", "desktop.ini", "patient/Thumbs.db"]
    assert found["train/yes"] == (1, ".ipynb_checkpoints")


def test_runs_and_exports_below_the_source_are_none_of_its_images(tmp_path: Path) -> None:
    fill(tmp_path, "train/no", "train/yes", "runs/first/report", "exported/train/no")
    touch(tmp_path, "runs/first/report/stage.json", "exported/export.json")
    assert left_out(find(tmp_path)) == {}


def test_images_in_no_folder_of_a_class_are_named(tmp_path: Path) -> None:
    fill(tmp_path, "train/no", "train/yes")
    touch(tmp_path, "example.PNG", "README.md", "train/stray.tif", "train/labels.csv", "train/._a.jpg")
    table = find(tmp_path).left_out.set_index("path")
    table = table[table["reason"] == "images in no class's folder"]
    assert table["first"].to_dict() == {".": "example.PNG", "train": "stray.tif"}


def test_tables_beside_the_images_are_said_not_to_be_read(tmp_path: Path) -> None:
    touch(fill(tmp_path, "no", "yes"), "patients.csv")
    assert find(tmp_path).notes[-1] == "not read: patients.csv (to use a list of images: --data.source)"


# --- odd test and validation folders


def test_a_test_folder_may_lack_a_class(tmp_path: Path) -> None:
    listing = find(fill(tmp_path, "Training/no", "Training/yes", "Testing/yes"))
    assert splits(listing) == {"train": 6, "test": 3}
    assert "the test split has no images of no" in listing.notes


def test_test_images_without_labels_are_left_out_and_said_to_be_for_prediction(tmp_path: Path) -> None:
    fill(tmp_path, "Training/no", "Training/yes", "Testing")
    listing = find(tmp_path)
    assert splits(listing) == {"train": 6}
    assert left_out(listing) == {"Testing": (3, "images without labels, which are for jobs/predict.py")}
    assert Source(str(tmp_path), TWO).splits() == {"train"}


@pytest.mark.parametrize("names", [("no", "positive"), ("negative", "positive")])
def test_a_renamed_class_of_the_test_split_is_not_lost(names: tuple[str, ...], tmp_path: Path) -> None:
    fill(tmp_path, "train/no", "train/yes", *(f"test/{name}" for name in names))
    with pytest.raises(RunError, match=r"test has the class folders .*missing .*--data\.ignore-folders test"):
        find(tmp_path)
    assert left_out(find(tmp_path, ignore_folders=("test",))).keys() == {"test"}


def test_a_validation_folder_without_a_class_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "train/no", "train/yes", "val/yes")
    with pytest.raises(
        RunError,
        match=r"val has .*missing \['no'\].*--data\.ignore-folders val \(a validation split is drawn",
    ):
        find(tmp_path)


# --- masks


def test_masks_beside_images_are_left_out_and_can_be_kept(tmp_path: Path) -> None:
    fill(tmp_path, "no", "yes", "yes/images", "yes/masks")
    touch(tmp_path, *(f"no/{k}_mask.png" for k in range(3)), "yes/patient/a.tif", "yes/patient/a_mask.tif")
    listing = find(tmp_path)
    assert len(listing.files) == 10
    masks = listing.left_out.set_index("path")
    assert masks["files"].to_dict() == {"no": 3, "yes": 4}
    assert masks["first"]["no"] == "0_mask.png, 1_mask.png, 2_mask.png"
    assert set(masks["reason"]) == {"masks of other files, by their names (to keep them: --data.masks keep)"}
    kept = find(tmp_path, masks="keep")
    assert len(kept.files) == 17
    assert kept.left_out.empty


# --- links, and names in any encoding


def test_links_are_followed_once_and_cycles_told(tmp_path: Path) -> None:
    source = fill(tmp_path / "source", "Training/no", "Training/yes")
    far = fill(tmp_path / "far", ".", "inner")
    (far / "back").symlink_to(far)
    (source / "Training/no/up").symlink_to(source)
    (source / "Training/no/self").symlink_to(".")
    (source / "Training/yes/far").symlink_to(far)
    (source / "Training/yes/far again").symlink_to(far / "inner")
    (source / "Training/yes/one.jpg").symlink_to(far / "0.jpg")
    (source / "Training/yes/broken.jpg").symlink_to("nowhere.jpg")
    (source / "Training/yes/loop.jpg").symlink_to("loop.jpg")
    listing = find(source)
    paths = set(listing.files["path"])
    assert {f"Training/yes/far/inner/{k}.jpg" for k in range(3)} <= paths
    assert "Training/yes/one.jpg" in paths
    assert len(paths) == len(listing.files) == 13
    told = {(row.path, row.reason): row.first for row in listing.left_out.itertuples()}
    twice = "links to folders that are listed by themselves, or hold the link"
    assert set(told["Training/no", twice].split(", ")) == {"self", "up"}
    assert set(told["Training/yes", twice].split(", ")) == {"far again", "far/back"}
    nothing = "links to nothing, devices, and other things that are no files"
    assert set(told["Training/yes", nothing].split(", ")) == {"broken.jpg", "loop.jpg"}
    assert listing.notes[-1].startswith(
        "2 links lead out of the source, and are followed: Training/yes/far ->"
    )


def test_a_name_that_is_not_utf8_is_listed_in_a_form_that_can_be_stored_and_read(tmp_path: Path) -> None:
    from brain_ray.data.scan import read_files

    tree(tmp_path, ("no", "yes"))
    names = [b"caf\xe9 (1).jpg", b"\\xe9.jpg", b"\xff/\xe4.jpg"]
    for k, name in enumerate(names):
        path = bytes(tmp_path) + b"/Training/yes/" + name
        Path(path.decode("utf-8", "surrogateescape")).parent.mkdir(exist_ok=True)
        Path(path.decode("utf-8", "surrogateescape")).write_bytes(b"%d" % k)
    files = find(tmp_path).files
    stored = [r"caf\xe9 (1).jpg", r"\x5cxe9.jpg", r"\xff/\xe4.jpg"]
    assert {f"Training/yes/{name}" for name in stored} <= set(files["path"])
    assert list(read_files(str(tmp_path), [f"Training/yes/{name}" for name in stored])) == [b"0", b"1", b"2"]
    assert pd.DataFrame(files).to_parquet() is not None


# --- buckets


def test_folders_are_seen_in_a_bucket_as_on_a_disk(tmp_path: Path) -> None:
    fill(tmp_path, "no", "yes", "pred", "test/no", "test/yes", "yes/.ipynb_checkpoints", "yes/old")
    touch(tmp_path, "stray.png", "no/0_mask.png", "no/Thumbs.db")
    data = TWO.model_copy(update={"ignore_folders": ("yes/old",)})
    here = list_source(str(tmp_path), data)
    with s3_server("images") as server:
        Run("s3://images", "tree").upload(tmp_path)
        for place in ("s3://images/tree", f"s3://images/tree?{server.query}"):
            there = list_source(place, data)
            assert there.files.drop(columns="mtime_ns").equals(here.files.drop(columns="mtime_ns"))
            assert left_out(there) == left_out(here)
            assert left_out(there).keys() == {".", "pred", "no"}
            assert Source(place, data).splits() == {"train", "test"}
            config = Config(data=data.model_copy(update={"source": place}))
            assert try_folder(config) == try_data(config) == ""


def test_each_folder_in_a_bucket_is_listed_once_and_again_where_that_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "split/Training/no", "split/Training/yes", "split/Testing/no", "split/Testing/yes")
    fill(tmp_path, "whole/no", "whole/yes")  # the folders of classes are looked into for those of splits
    with s3_server("images", refuse_first="LIST .*(split|Testing|whole/no)/$") as server:
        Run("s3://images", "tree").upload(tmp_path)
        for name, folders in (("split", 7), ("whole", 3)):
            there, here = Source(f"s3://images/tree/{name}", TWO), Source(str(tmp_path / name), TWO)
            assert there.splits() == here.splits()
            found = there.files().files
            assert found.drop(columns="mtime_ns").equals(here.files().files.drop(columns="mtime_ns"))
            assert there.splits() == here.splits()
            listed = Counter(
                call.name
                for call in server.calls()
                if call.name.startswith(f"LIST /images/tree/{name}/") and not call.refused
            )
            assert len(listed) == folders
            assert set(listed.values()) == {1}
        assert sum(call.refused for call in server.calls()) == 3


def test_a_bucket_of_googles_is_listed_once_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated, by a disk that lists no folder: nobody has created one there."""

    class Google:
        type_name = "gcs"
        calls = 0

        def get_file_info(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
            self.calls += 1
            assert selector.recursive
            infos = fs.LocalFileSystem().get_file_info(selector)
            return [info for info in infos if info.type == fs.FileType.File]

    fill(tmp_path, "train/no/deep/er", "train/yes", "test/no", "test/yes", "pred", "train/yes/.hidden/x")
    touch(tmp_path, "stray.png", "train/no/Thumbs.db", ".git/config", "train/no/old/a.png")
    data, google = TWO.model_copy(update={"ignore_folders": ("train/no/old",)}), Google()
    here = list_source(str(tmp_path), data)
    monkeypatch.setattr(stored_tree, "filesystem", lambda _: (google, str(tmp_path)))
    source = Source("gs://images/tree", data)
    assert source.splits() == {"train", "test"}
    there = source.files()
    assert google.calls == 1
    assert there.files.equals(here.files)
    assert there.left_out.equals(here.left_out)
    with pytest.raises(RunError, match=r"none \(in gs://images/tree\)|has no folder"):
        list_source("gs://images/tree", TWO.model_copy(update={"train_folder": "none"}))
