"""Preparation as a whole, on phantoms with everything planted that a folder of images can hold."""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.data._internal.execution.resource_manager import ResourceManager
from support import volumes
from support.slices import ct_slice
from support.timed_scan import TimedScan, notes_of
from support.watched_disk import OPENED, BusyRun, CountedRun

from brain_ray.config import Config, DataConfig, PhantomConfig
from brain_ray.data import decoding, prepare, transforms
from brain_ray.data.copies.find import REPEATS
from brain_ray.data.dataset import first_rows, read_labels, read_rows
from brain_ray.data.file_names import ALONE
from brain_ray.data.parts import count_labels, find_parts, parts_of
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.phantoms.files import Planted
from brain_ray.data.rows import BOX, ROW_SCHEMA, SPLITS
from brain_ray.data.scan import Scan
from brain_ray.data.source_changes import compare_files
from brain_ray.data.sources.find import list_source
from brain_ray.data.transforms import Box
from brain_ray.data.writing import Write
from brain_ray.errors import RunError
from brain_ray.runs import Run

PHANTOMS = PhantomConfig(train_per_class=16, test_per_class=6, copies=6, conflicts=1, faults=6)
DATA = DataConfig(phantoms=PHANTOMS, max_rejected=0.1, balance_to=20, leaks="drop")
TRANSFORMS = {"mirrored": "mirrored", "flipped": "flipped", "turned": "turned"}


@dataclass(frozen=True)
class Prepared:
    """A prepared run, the folder it was prepared from, and what was planted there."""

    run: Run
    source: Path
    planted: list[Planted]
    text: str

    @property
    def manifest(self) -> pd.DataFrame:
        return pq.read_table(self.run.path("dataset", "manifest.parquet")).to_pandas()

    def rows(self, split: str) -> pd.DataFrame:
        table = pq.read_table(self.run.path("dataset", split)).to_pandas()
        return table.sort_values("row_id", ignore_index=True)


def prepare_folder(
    root: Path,
    source: Path,
    data: DataConfig,
    seed: int = 7,
    block_images: int = prepare.BLOCK_IMAGES,
    kind: type[Run] = Run,
) -> tuple[Run, str]:
    run = kind(str(root), "run")
    config = Config(seed=seed, data=data.model_copy(update={"source": str(source)}))
    return run, prepare.prepare(run, config, block_images)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Planted]]:
    folder = tmp_path_factory.mktemp("phantoms")
    return folder, phantom.write_tree(folder, PHANTOMS, DATA.classes, seed=7)


@pytest.fixture(scope="module")
def prepared(
    source: tuple[Path, list[Planted]], tmp_path_factory: pytest.TempPathFactory, ray_cluster: None
) -> Prepared:
    run, text = prepare_folder(tmp_path_factory.mktemp("runs"), source[0], DATA)
    return Prepared(run, *source, text)


def test_every_file_is_accounted_for(prepared: Prepared) -> None:
    manifest = prepared.manifest
    files = {str(p.relative_to(prepared.source)) for p in prepared.source.rglob("*-*.*")}
    assert set(manifest["path"]) == files
    assert len(manifest) == len(files)
    found = prepared.run.read_json("dataset", "audit.json")
    assert found["files"] == found["used"] + found["rejected"] + found["dropped"] == len(files)


def test_what_is_of_no_use_is_rejected_with_a_reason(prepared: Prepared) -> None:
    rejected = pq.read_table(prepared.run.path("dataset", "rejected.parquet")).to_pandas()
    assert set(rejected["path"]) == {item.path for item in prepared.planted if not item.usable}
    assert (rejected["reason"].str.len() > 0).all()


def test_a_blank_image_is_kept_whole_and_counted(prepared: Prepared) -> None:
    manifest = prepared.manifest.set_index("path")
    blank = manifest.loc[next(item.path for item in prepared.planted if item.kind == "blank")]
    assert not blank["has_box"]
    assert (blank["bottom"], blank["right"]) == (blank["height"], blank["width"])
    found = prepared.run.read_json("dataset", "audit.json")
    assert found["no_contour"] == 1
    assert blank["grey_levels"] == 1
    assert found["few_grey_levels"] == {"images": 1, "first": [blank.name]}
    assert f"1 images: {blank.name}" in prepared.text
    assert found["modalities"] == {}
    assert found["looks_like"] == {}
    assert "CT" not in prepared.text


def test_images_that_look_like_ct_are_used_and_told(tmp_path: Path, ray_cluster: None) -> None:
    source = tmp_path / "source"
    phantom.write_tree(source, PhantomConfig(train_per_class=6, test_per_class=2), DATA.classes, seed=1)
    places = {"Training/notumor": 3, "Testing/notumor": 1, "Training/glioma": 1}
    flagged = {f"{place}/zz{k}.png" for place, count in places.items() for k in range(count)}
    for seed, name in enumerate(sorted(flagged)):
        cv2.imwrite(str(source / name), ct_slice(seed))
    run, text = prepare_folder(tmp_path, source, DATA.model_copy(update={"balance_to": None}))
    manifest = pq.read_table(run.path("dataset", "manifest.parquet")).to_pandas().set_index("path")
    assert set(manifest.index[manifest["looks_like"] == "CT"]) == flagged
    assert set(manifest.loc[sorted(flagged), "split"]) <= set(SPLITS)
    found = run.read_json("dataset", "audit.json")["looks_like"]
    assert list(found) == ["CT"]
    assert (found["CT"]["images"], set(found["CT"]["first"])) == (5, flagged)
    counts = pd.DataFrame(found["CT"]["splits"])
    assert counts.sum(axis=1).to_dict() == {"glioma": 1, "meningioma": 0, "notumor": 4, "pituitary": 0}
    assert counts["test"].sum() == 1
    assert "look like CT, not MR, by a closed bright ring of bone: 5 images (1 glioma, 4 notumor)" in text


def test_every_planted_copy_is_found_as_what_it_is(prepared: Prepared) -> None:
    pairs = pq.read_table(prepared.run.path("dataset", "pairs.parquet")).to_pandas()
    found = {frozenset((row.path_a, row.path_b)): row for row in pairs.itertuples()}
    copies = [item for item in prepared.planted if item.of]
    assert len(found) == len(copies) == 7
    for item in copies:
        pair = found[frozenset((item.path, str(item.of)))]
        assert pair.transform == TRANSFORMS.get(item.kind, "identity")
        assert (pair.kind == "same bytes") == (item.kind in ("same bytes", "conflict"))


def test_training_copies_of_test_images_leave_training(prepared: Prepared) -> None:
    manifest = prepared.manifest.set_index("path")
    for item in prepared.planted:
        if item.of and item.kind != "conflict":
            assert manifest.loc[item.path, "split"] == "test"
            assert manifest.loc[item.of, "split"] == "dropped"
            assert manifest.loc[item.of, "reason"] == "a copy is in the test split"
    learned = manifest[manifest["split"].isin(["train", "valid"])]
    assert not set(learned["cluster"]) & set(manifest[manifest["split"] == "test"]["cluster"])


def test_a_slice_with_two_labels_is_reported_and_left_out(prepared: Prepared) -> None:
    conflict = next(item for item in prepared.planted if item.kind == "conflict")
    (reported,) = prepared.run.read_json("dataset", "audit.json")["copies"]["label_conflicts"]
    assert set(reported["paths"]) == {conflict.path, conflict.of}
    splits = prepared.manifest.set_index("path").loc[[conflict.path, str(conflict.of)], "split"]
    assert set(splits) == {"dropped"}


def test_rows_hold_the_original_bytes_and_what_to_do_with_them(prepared: Prepared) -> None:
    manifest = prepared.manifest.set_index("path")
    for split in SPLITS:
        rows = prepared.rows(split)
        assert list(rows.columns) == ROW_SCHEMA.names
        assert rows["row_id"].tolist() == list(range(len(rows)))
        assert set(rows["path"]) == set(manifest.index[manifest["split"] == split])
        for row in rows.to_dict("records"):
            assert row["bytes"] == (prepared.source / row["path"]).read_bytes()
            grey = decoding.decode(row["bytes"])
            box = transforms.find_box(grey, DATA.crop) or Box.whole(grey)
            assert tuple(row[side] for side in BOX) == (box.top, box.bottom, box.left, box.right)
            assert row["pixel_sha256"] == decoding.pixel_hash(grey)


def test_training_classes_are_filled_up_with_augmented_copies(prepared: Prepared) -> None:
    rows = prepared.rows("train")
    assert rows["label"].value_counts().to_dict() == dict.fromkeys(range(4), 20)
    copies = rows[rows["augment_seed"] >= 0]
    assert copies["augment_seed"].is_unique
    assert len(rows[rows["augment_seed"] < 0]) == rows["image_id"].nunique()
    for split in ("valid", "test"):
        assert (prepared.rows(split)["augment_seed"] == -1).all()


def test_validation_is_stratified_and_shares_no_cluster_with_training(prepared: Prepared) -> None:
    train, valid = prepared.rows("train"), prepared.rows("valid")
    assert not set(train["cluster"]) & set(valid["cluster"])
    assert set(valid["label"]) == {0, 1, 2, 3}


def test_the_table_tells_counts_copies_and_leaks(prepared: Prepared) -> None:
    assert "train, balanced" in prepared.text
    assert "6 test images have a copy among 6 training images" in prepared.text
    assert "leaks=drop: dropped from training: 6 copies of test images, 0 others" in prepared.text


def test_auto_says_what_it_chose_and_why(prepared: Prepared, tmp_path: Path) -> None:
    run, text = prepare_folder(tmp_path, prepared.source, DATA.model_copy(update={"leaks": "auto"}))
    assert "leaks=auto: all splits are drawn anew over whole groups of patients and copies (regroup)" in text
    assert "cost a class more than 25 % of its training images: glioma " in text
    manifest = pq.read_table(run.path("dataset", "manifest.parquet")).to_pandas()
    used = manifest[manifest["split"].isin(SPLITS)]
    assert (used.groupby("group")["split"].nunique() == 1).all()
    found = run.read_json("dataset", "audit.json")
    assert (found["leaks"]["asked"], found["leaks"]["policy"]) == ("auto", "regroup")


def test_folds_are_kept_in_the_data_set(prepared: Prepared, tmp_path: Path) -> None:
    run, text = prepare_folder(tmp_path, prepared.source, DATA.model_copy(update={"folds": 3}))
    manifest = pq.read_table(run.path("dataset", "manifest.parquet")).to_pandas()
    developed = manifest["split"].isin(["train", "valid"])
    assert set(manifest.loc[developed, "fold"]) == {1, 2, 3}
    assert (manifest.loc[~developed, "fold"] == -1).all()
    assert "folds, images (groups): 1: " in text


def test_other_blocks_give_the_same_rows(prepared: Prepared, tmp_path: Path) -> None:
    run, _ = prepare_folder(tmp_path, prepared.source, DATA, block_images=3)
    again = Prepared(run, prepared.source, prepared.planted, "")
    pd.testing.assert_frame_equal(again.manifest, prepared.manifest)
    for split in SPLITS:
        pd.testing.assert_frame_equal(again.rows(split), prepared.rows(split))


def test_a_storage_that_is_busy_for_a_moment_loses_nothing(prepared: Prepared, tmp_path: Path) -> None:
    """In each process, the first opening of each file fails as in a bucket that is asked too often."""
    run, _ = prepare_folder(tmp_path, prepared.source, DATA, kind=BusyRun)
    again = Prepared(Run(run.storage, run.name), prepared.source, prepared.planted, "")
    pd.testing.assert_frame_equal(again.manifest, prepared.manifest)
    for split in SPLITS:
        pd.testing.assert_frame_equal(again.rows(split), prepared.rows(split))
        assert read_labels(run, split).tolist() == prepared.rows(split)["label"].tolist()


def test_a_large_block_becomes_several_files_with_each_row_once(
    source: tuple[Path, list[Planted]], tmp_path: Path
) -> None:
    files = list_source(str(source[0]), DATA).files.head(40).rename_axis("image_id").reset_index()
    images = files[["image_id", "path"]].assign(frame=ALONE)
    block = Scan(str(source[0]), DATA)(pa.Table.from_pandas(images))
    plan = files.set_index("image_id")[["label"]].assign(split="train", cluster=0, copies=1)
    plan["first_row"] = 2 * np.arange(len(plan))
    run = Run(str(tmp_path), "run")
    run.fs.create_dir(run.path("dataset", "train"), recursive=True)
    written = Write(run, str(source[0]), DATA, 7, plan, file_images=16)(block)
    assert [(file.split, file.num_rows) for file in written] == [("train", 32), ("train", 32), ("train", 16)]
    assert len(run.list_files("dataset", "train", suffix=".parquet")) == 3
    rows = pq.read_table(run.path("dataset", "train")).to_pandas()
    assert sorted(rows["row_id"]) == list(range(80))
    assert (rows["row_id"] // 2 == rows["image_id"] - files["image_id"].min()).all()


def test_what_is_in_the_files_is_known_without_opening_one(prepared: Prepared) -> None:
    run = CountedRun(prepared.run.storage, prepared.run.name)
    for split in SPLITS:
        OPENED.clear()
        parts, counts = find_parts(run, split), count_labels(run, split, 4)
        assert set(OPENED) == {"parts.parquet"}
        read = parts_of(run, "dataset", split)
        assert [(part.path, part.num_rows) for part in parts] == [(part.path, part.num_rows) for part in read]
        for part, file in zip(parts, read, strict=True):
            assert 0 < file.num_bytes - part.num_bytes < 8_000  # a file has a footer, too
            labels = pq.read_table(part.path, columns=["label"])["label"].to_numpy()
            assert part.label == np.bincount(labels).argmax()
        assert counts.tolist() == np.bincount(prepared.rows(split)["label"], minlength=4).tolist()
    with pytest.raises(RunError, match="dataset/train has rows of label 3, and there are 3 classes"):
        count_labels(run, "train", 3)
    assert count_labels(run, "train", 5).tolist() == [*count_labels(run, "train", 4), 0]


def test_rows_are_read_from_the_files_that_hold_them(prepared: Prepared) -> None:
    run, rows = CountedRun(prepared.run.storage, prepared.run.name), prepared.rows("train")
    parts = find_parts(run, "train")
    assert len(parts) > 4
    for part in parts:
        ids = pq.read_table(part.path, columns=["row_id"])["row_id"].to_pylist()
        OPENED.clear()
        assert [row["row_id"] for row in read_rows(run, "train", [ids[-1], ids[0]])] == [ids[-1], ids[0]]
        assert set(OPENED) == {"parts.parquet", Path(part.path).name}
    OPENED.clear()
    first = rows.groupby("label")["row_id"].first()
    assert [row["row_id"] for row in first_rows(run, "train")] == first.tolist()
    assert len(OPENED) <= 1 + len(first)
    with pytest.raises(RunError, match=rf"dataset/train has no row {len(rows)}: prepare again"):
        read_rows(run, "train", [len(rows)])


def test_full_object_stores_do_not_leave_the_scan_to_a_single_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    """Simulated: Ray Data's limit is a few hundred bytes here, which the first block exceeds."""
    monkeypatch.setattr(ResourceManager, "DEFAULT_OBJECT_STORE_MEMORY_LIMIT_FRACTION", 1e-7)
    monkeypatch.setattr(prepare, "Scan", TimedScan)
    source = tmp_path / "source"
    phantom.write_tree(source, PhantomConfig(train_per_class=6, test_per_class=2), DATA.classes, seed=1)
    notes_of(str(source)).mkdir()
    prepare_folder(tmp_path, source, DATA)
    scans = sorted(json.loads(note.read_text()) for note in notes_of(str(source)).iterdir())
    after_another = [began > before_ended for (_, before_ended), (began, _) in pairwise(scans)]
    assert len(scans) == 16
    assert sum(after_another) < len(scans) / 2, "most begin before the one before them has ended"


def test_too_many_bad_files_stop_with_counts_and_the_first_ten(
    source: tuple[Path, list[Planted]], tmp_path: Path, ray_cluster: None
) -> None:
    folder = tmp_path / "bad"
    phantom.write_tree(folder, PHANTOMS.model_copy(update={"faults": 36}), DATA.classes, seed=1)
    with pytest.raises(RunError, match=r"24 of \d+ files cannot be used") as stop:
        prepare_folder(tmp_path, folder, DATA)
    assert str(stop.value).count("Training/") == 10
    assert not Run(str(tmp_path), "run").exists("dataset", "manifest.parquet")


def test_many_images_with_the_same_pixels_are_one_cluster_and_few_pairs(
    tmp_path: Path, ray_cluster: None
) -> None:
    phantom.write_tree(tmp_path / "source", PHANTOMS.model_copy(update={"faults": 0}), DATA.classes, seed=3)
    folder = tmp_path / "source/Training/glioma"
    slices = [phantom.draw("glioma", 77, 0), np.zeros((64, 64), np.uint8)]
    for k, pixels in enumerate(slices):
        for number in range(200):
            cv2.imwrite(str(folder / f"again-{k}-{number:03d}.png"), pixels)
    run, _ = prepare_folder(tmp_path, tmp_path / "source", DATA)
    manifest = pq.read_table(run.path("dataset", "manifest.parquet")).to_pandas()
    pairs = pq.read_table(run.path("dataset", "pairs.parquet")).to_pandas()
    for k in range(len(slices)):
        again = manifest["path"].str.contains(f"again-{k}-")
        assert manifest.loc[again, "cluster"].nunique() == 1
        assert not manifest.loc[~again, "cluster"].isin(manifest.loc[again, "cluster"]).any()
        listed = pairs["path_a"].str.contains(f"again-{k}-").sum()
        assert 199 <= listed <= 199 + REPEATS**2 / 2


def test_leaks_can_be_an_error(source: tuple[Path, list[Planted]], tmp_path: Path, ray_cluster: None) -> None:
    with pytest.raises(RunError, match=r"6 training images have a copy or .* in the test split"):
        prepare_folder(tmp_path, source[0], DATA.model_copy(update={"leaks": "fail"}))


def test_exported_images_are_cropped_and_balanced(
    source: tuple[Path, list[Planted]], tmp_path: Path, ray_cluster: None
) -> None:
    data = DATA.model_copy(update={"export_images": str(tmp_path / "tree")})
    run, _ = prepare_folder(tmp_path, source[0], data)
    for name in data.classes:
        files = sorted((tmp_path / "tree/train" / name).iterdir())
        assert len(files) == 20
    row = pq.read_table(run.path("dataset", "test")).to_pylist()[0]
    written = (
        tmp_path
        / "tree/test"
        / data.classes[row["label"]]
        / f"{Path(row['path']).stem}_{row['image_id']}.jpg"
    )
    shape = decoding.decode(written.read_bytes()).shape
    assert shape == (row["bottom"] - row["top"], row["right"] - row["left"])
    assert not np.array_equal(shape, decoding.decode(row["bytes"]).shape)


def repeated_names(folder: Path) -> None:
    """Draw the same few names in folders of patients, with two suffixes, and in both split folders."""
    number = 0
    for place in ("Training", "Training", "Testing"):
        for label in ("glioma", "notumor"):
            for patient in ("p1", "p2", "."):
                for name in ("slice1.jpg", "slice1.png", "slice2.jpg", "SLICE2.jpg"):
                    path = folder / place / label / patient / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(phantom.encode(phantom.draw(label, 3, number), path.suffix))
                    number += 1


@pytest.mark.parametrize("leaks", ["drop", "regroup"])
def test_as_many_images_are_exported_as_there_are_rows(leaks: str, tmp_path: Path, ray_cluster: None) -> None:
    repeated_names(tmp_path / "source")
    data = DataConfig(
        classes=("glioma", "notumor"), leaks=leaks, balance_to=20, export_images=str(tmp_path / "tree")
    )
    run, _ = prepare_folder(tmp_path, tmp_path / "source", data)
    for split in SPLITS:
        rows = pq.read_table(run.path("dataset", split)).to_pandas()
        names = [path.name.casefold() for path in (tmp_path / "tree" / split).rglob("*.jpg")]
        assert len(names) == len(rows)
        for label, name in enumerate(data.classes):
            folder = tmp_path / "tree" / split / name
            assert len(list(folder.iterdir())) == (rows["label"] == label).sum()


def test_an_export_is_made_anew_by_its_own_run_and_mixed_with_no_other(
    tmp_path: Path, ray_cluster: None
) -> None:
    repeated_names(tmp_path / "source")
    data = DataConfig(classes=("glioma", "notumor"), export_images=str(tmp_path / "tree"))
    prepare_folder(tmp_path / "one", tmp_path / "source", data)
    first = {path.relative_to(tmp_path) for path in (tmp_path / "tree").rglob("*.jpg")}
    prepare_folder(tmp_path / "one", tmp_path / "source", data, seed=8)
    again = {path.relative_to(tmp_path) for path in (tmp_path / "tree").rglob("*.jpg")}
    assert again != first
    assert len(again) == len(first) == 48

    with pytest.raises(RunError, match=r"tree is not empty, and not an export of .*other/run: set"):
        prepare_folder(tmp_path / "other", tmp_path / "source", data)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    with pytest.raises(RunError, match=r"mine is not empty, and not an export of"):
        prepare_folder(
            tmp_path, tmp_path / "source", data.model_copy(update={"export_images": f"{tmp_path}/mine"})
        )
    assert again == {path.relative_to(tmp_path) for path in (tmp_path / "tree").rglob("*.jpg")}


def heads(folder: Path, label: str, count: int, first: int) -> None:
    """Draw phantoms of a class into a folder."""
    folder.mkdir(parents=True)
    for k in range(count):
        (folder / f"{k:02d}.jpg").write_bytes(phantom.encode(phantom.draw(label, 9, first + k), ".jpg"))


def test_official_splits_are_used_and_what_is_left_out_is_named(tmp_path: Path, ray_cluster: None) -> None:
    source, classes = tmp_path / "source", ("glioma", "notumor")
    for number, (split, count) in enumerate((("train", 20), ("valid", 5), ("test", 5), ("extra", 3))):
        for label in classes:
            heads(source / split / label, label, count, 100 * number)
        (source / split / label / "Thumbs.db").write_bytes(bytes(100))
    (source / "train/glioma/metadata.csv").write_text("file_name,label\n")
    copied = (source / "train/glioma/00.jpg").read_bytes()
    (source / "valid/glioma/copy.jpg").write_bytes(copied)
    (source / "train/stray.png").write_bytes(copied)

    run, text = prepare_folder(tmp_path, source, DataConfig(classes=classes))

    found = run.read_json("dataset", "audit.json")
    assert found["splits"]["train"] == {"glioma": 19, "notumor": 20}
    assert found["splits"]["valid"] == {"glioma": 6, "notumor": 5}
    assert found["splits"]["test"] == {"glioma": 5, "notumor": 5}
    assert found["rejected"] == 1
    assert found["leaks"]["dropped_for_valid"] == 1
    assert found["copies"]["across_splits"]["train_images"] == 0
    beside, loose = "neither a split nor a class by their names", "images in no class's folder"
    junk = "hidden files, and files that systems and archives add"
    assert found["left_out"] == [
        {"path": "extra", "files": 6, "reason": beside, "first": ""},
        {"path": "test/notumor", "files": 1, "reason": junk, "first": "Thumbs.db"},
        {"path": "train", "files": 1, "reason": loose, "first": "stray.png"},
        {"path": "train/notumor", "files": 1, "reason": junk, "first": "Thumbs.db"},
        {"path": "valid/notumor", "files": 1, "reason": junk, "first": "Thumbs.db"},
    ]
    assert found["no_images"] == ["train/glioma/metadata.csv"]
    assert found["source"]["folders"] == {"train": "train", "valid": "valid", "test": "test"}
    assert "splits by folders: train from train/, valid from valid/, test from test/" in text
    assert f"left out, 6 files, {beside}: extra (6)" in text
    assert f"left out, 1 file, {loose}: train (stray.png)" in text
    assert f"left out, 3 files, {junk}: test/notumor (Thumbs.db), train/notumor (Thumbs.db)" in text
    assert "rejected, no images by their names: 1 files: train/glioma/metadata.csv" in text


def test_slices_of_a_volume_have_labels_of_their_own(tmp_path: Path, ray_cluster: None) -> None:
    source, rows = tmp_path / "source", ["path,frame,label"]
    source.mkdir()
    for number in range(12):
        (source / f"{number}.nii.gz").write_bytes(volumes.nifti(volumes.heads(9, 2, 10 * number)))
        rows += [f"{number}.nii.gz,{frame},{'yes' if frame < 4 else 'no'}" for frame in (0, 2, 3, 4, 5)]
    (source / "whole.nii.gz").write_bytes(volumes.nifti(volumes.heads(9, 2, 150)))
    cv2.imwrite(str(source / "one.png"), volumes.head(170))
    rows += ["whole.nii.gz,,no", "one.png,0,yes"]
    listed = source / "slices.csv"
    listed.write_text("\n".join(rows))
    data = DataConfig(classes=("no", "yes"), leaks="keep")

    run, text = prepare_folder(tmp_path, listed, data)

    manifest = pq.read_table(run.path("dataset", "manifest.parquet")).to_pandas()
    named = manifest[manifest["path"] == "1.nii.gz"].set_index("frame")["class_name"]
    assert named.to_dict() == {2: "yes", 3: "yes", 4: "no", 5: "no"}, "0 is empty"
    assert "empty slices left out: 16 of 0.nii.gz, 1.nii.gz" in text
    assert manifest.loc[manifest["path"] == "whole.nii.gz", "frame"].tolist() == [2, 3, 4, 5, 6]
    assert manifest.loc[manifest["path"] == "one.png", "frame"].tolist() == [-1]
    assert manifest[manifest["path"] == "1.nii.gz"]["patient"].nunique() == 1

    def changes(text: str) -> list[str]:
        listed.write_text(text)
        return compare_files(run, list_source(str(listed), data))

    for file in source.iterdir():
        file.touch()
    assert changes("\n".join(rows)) == []
    assert changes("\n".join(rows).replace("\n1.nii.gz,5,", "\n1.nii.gz,6,")) == [
        "1 new (1.nii.gz[6])",
        "1 gone (1.nii.gz[5])",
    ]
    assert changes("\n".join(rows).replace("\n1.nii.gz,5,no", "\n1.nii.gz,5,yes")) != []


def test_studies_of_many_patients_are_split_by_patient_and_no_header_text_gets_out(
    tmp_path: Path, ray_cluster: None
) -> None:
    """Of each patient two series, a slice each file; of one patient they lie in two classes' folders."""
    plane = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    for number in range(24):
        for series in range(2):
            label = "yes" if number % 2 and not (number == 1 and series) else "no"
            folder = tmp_path / "source" / label / f"exam {number}-{series}"
            folder.mkdir(parents=True)
            for k in range(2):
                ids = {
                    "PatientID": f"{volumes.PATIENT}-{number}",
                    "StudyInstanceUID": f"1.2.{number}.{series}",
                }
                ids["SeriesInstanceUID"] = f"{ids['StudyInstanceUID']}.1"
                place = {"ImagePositionPatient": [0, 0, 5.0 * k], "InstanceNumber": k + 1}
                pixels = volumes.head(40 * number + 10 * series + k).astype(np.uint16) * 8
                (folder / f"{k}.dcm").write_bytes(volumes.dicom(pixels, **plane, **ids, **place))
    data = DataConfig(classes=("no", "yes"), test_fraction=0.2, valid_fraction=0.2, balance_to=30)

    run, text = prepare_folder(tmp_path, tmp_path / "source", data)

    manifest = pq.read_table(run.path("dataset", "manifest.parquet")).to_pandas()
    assert len(manifest) == 96
    exam = manifest["path"].str.extract(r"exam (\d+)-")[0]
    assert manifest["patient"].nunique() == exam.nunique() == 24
    for unit in ("patient", "group"):
        assert manifest.groupby(exam)[unit].nunique().eq(1).all()
    assert manifest.groupby("group")["split"].nunique().eq(1).all(), "no patient is cut"
    assert set(manifest["split"]) == {"train", "valid", "test"}, "two labels of a patient are no conflict"
    assert manifest.groupby("split")["class_name"].nunique().eq(2).all()
    assert "patients: 24, of 96 images" in text
    for file in Path(run.path()).rglob("*"):
        if file.is_file():
            assert not any(secret.encode() in file.read_bytes() for secret in (volumes.PATIENT, volumes.NAME))


def test_what_a_manifest_states_is_kept_and_names_in_any_encoding_are_used(
    tmp_path: Path, ray_cluster: None
) -> None:
    rows = ["file,label,split,patient,fold,scanner"]
    for number, label in enumerate(("glioma", "notumor")):
        heads(tmp_path / "source" / label, label, 12, 100 * number)
        for k in range(12):
            path = f"{label}/{k:02d}.jpg"
            rows.append(f"{path},{label},{'test' if k < 3 else ''},{label[0]}{k // 3},{k // 3 % 5},S{k}")
    odd = Path((bytes(tmp_path) + b"/source/glioma/caf\xe9.jpg").decode("utf-8", "surrogateescape"))
    (tmp_path / "source/glioma/00.jpg").rename(odd)
    rows[1] = rows[1].replace("00.jpg", r"caf\xe9.jpg")
    (tmp_path / "source/list.csv").write_text("\n".join(rows))
    data = DataConfig(classes=("glioma", "notumor"), export_images=str(tmp_path / "tree"))

    run, text = prepare_folder(tmp_path, tmp_path / "source/list.csv", data)

    manifest = pq.read_table(run.path("dataset", "manifest.parquet")).to_pandas()
    assert manifest["image_id"].tolist() == list(range(24))
    assert manifest["source_split"].value_counts().to_dict() == {"": 18, "test": 6}
    assert set(manifest.loc[manifest["source_split"] == "test", "split"]) == {"test"}
    assert set(manifest.loc[manifest["source_split"] == "", "split"]) == {"train", "valid"}
    first = manifest[manifest["path"] == r"glioma/caf\xe9.jpg"].iloc[0]
    assert first[["patient", "fold", "scanner", "source"]].tolist() == ["g0", 0, "S0", ""]
    tested = pq.read_table(run.path("dataset", "test")).to_pandas().set_index("path")
    assert tested.loc[r"glioma/caf\xe9.jpg", "bytes"] == odd.read_bytes()
    assert len(list((tmp_path / "tree").rglob("*.jpg"))) == 24
    assert "columns: path from file, label, split, patient, fold; carried along: scanner" in text
