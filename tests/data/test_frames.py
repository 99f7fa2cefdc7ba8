"""A table of files becomes a table of images: slices in their order, patients known, ids in nobody's
sight."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom.uid import RLELossless
from support import volumes
from support.picture_files import picture_file

from brain_ray.config import DataConfig, VolumeConfig
from brain_ray.data.decoder import Description
from brain_ray.data.decoding import OpenFile, check_file, decode
from brain_ray.data.expansion import expand_files, open_files
from brain_ray.data.frames import FileImages, expand, hashed, images_of, is_picture, pick
from brain_ray.data.rows import BOX, ROW_SCHEMA, rows_digest
from brain_ray.data.scan import AUDITED, Scan
from brain_ray.data.writing import Write
from brain_ray.errors import RunError
from brain_ray.runs import Run

DATA = DataConfig(classes=("no", "yes"))
SALT = "of the run"
SECRETS = (volumes.NAME, volumes.PATIENT, volumes.DATE, volumes.STUDY, volumes.SERIES, "Jane", "ACC-98765")


def files(*paths: str, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"path": list(paths), "class_name": "yes"} | columns)


def described(**facts: Any) -> Description:
    usual = {
        "format": "DICOM",
        "width": 8,
        "height": 8,
        "positions": [0.0],
        "empty": [],
        "patient": "",
        "study": "",
        "series": "",
    }
    return Description(**usual | {"modality": "", "class_name": "", "tumour": None} | facts)


def test_pictures_are_known_by_their_suffix_and_others_are_opened() -> None:
    assert all(map(is_picture, ["a.JPG", "b/c.tiff", "d.jfif", "e.Gif"]))
    assert not any(map(is_picture, ["a.dcm", "b", "c.nii.gz", "d.mat", "IM-0001", "e.xyz"]))


def test_slices_of_a_series_come_in_their_order_and_pictures_by_path() -> None:
    opened = {
        f"s/{name}": FileImages(positions=[position], series="one")
        for name, position in (("c", 1), ("a", 3), ("b", 2))
    }
    opened["r.nii"] = FileImages(frames=[2, 3], positions=[4.0, 6.0], series="two", patient="file")
    table = files("z.png", "s/c", "s/a", "a.png", "s/b", "r.nii", size=[1, 2, 3, 4, 5, 6])
    found = expand(table, pick(table, opened))
    assert found["path"].tolist() == ["a.png", "r.nii", "r.nii", "s/c", "s/b", "s/a", "z.png"]
    assert found["frame"].tolist() == [-1, 2, 3, -1, -1, -1, -1]
    assert found["size"].tolist() == [4, 6, 6, 2, 5, 3, 1]
    assert found["position"].tolist()[1:6] == [4, 6, 1, 2, 3]
    assert found["patient"].tolist()[1] == "file"
    assert (found["series"] == "").tolist() == [True, *[False] * 5, True]
    assert expand(table.iloc[:0], []).empty


def test_ids_are_hashed_with_the_run_s_salt_and_by_kind() -> None:
    one = images_of("a", described(patient="17", study="17", series="17"), SALT)
    assert one.patient == hashed(SALT, "patient", "17") != one.study
    assert len(one.patient) == 16
    assert images_of("b", described(patient="17"), SALT).patient == one.patient
    assert images_of("a", described(patient="17"), "another").patient != one.patient
    assert images_of("a", described(), SALT).patient == ""
    nameless = images_of("a", described(study="17", series="1"), SALT)
    assert nameless.patient == images_of("b", described(study="17", series="2"), SALT).patient != ""
    volume = images_of("v.nii", described(positions=[0.0, 1.0]), SALT)
    assert (
        volume.patient == volume.series != images_of("w.nii", described(positions=[0.0, 1.0]), SALT).patient
    )


def test_empty_slices_are_left_out_and_a_file_of_them_keeps_a_row() -> None:
    found = images_of("v", described(positions=[0.0, 1.0, 2.0], empty=[0, 2]), SALT)
    assert (found.frames, found.positions, found.empty) == ([1], [1.0], [0, 2])
    found = images_of("v", described(positions=[0.0, 1.0], empty=[0, 1]), SALT)
    assert (found.frames, found.positions, found.empty) == ([-1], [0.0], [0, 1])


def test_a_row_may_name_one_image_of_a_file() -> None:
    opened = {
        "v.nii": FileImages(frames=[1, 2], positions=[4.0, 6.0], series="s", patient="p", empty=[0]),
        "one.dcm": FileImages(positions=[7.0], series="t"),
    }
    table = files(
        "v.nii", "v.nii", "one.dcm", "x.png", "cut.nii", frame=[2, 0, 0, -1, 3], label=[1, 2, 3, 4, 5]
    )
    found = expand(table, pick(table, opened))
    assert found["path"].tolist() == ["cut.nii", "one.dcm", "v.nii", "x.png"]
    assert found["frame"].tolist() == [3, -1, 2, -1], "an empty slice is left out though it is named"
    assert found["position"].tolist() == [0, 7, 6, 0]
    assert found["label"].tolist() == [5, 3, 1, 4]
    assert found["patient"].tolist()[2] == "p"
    for path, frame, there in (
        ("v.nii", 3, "3 images, 0 to 2"),
        ("one.dcm", 1, "one image"),
        ("x.png", 1, "one"),
    ):
        with pytest.raises(RunError, match=rf"names image {frame} of {path}, which has {there}"):
            pick(files(path, frame=[frame]), opened)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, most of them without a suffix that says so."""
    folder = tmp_path_factory.mktemp("source")
    for number, data in enumerate(volumes.series(4)):
        (folder / f"IM-{number:04}").write_bytes(data)
    deep = np.stack([volumes.head(k).astype(np.uint16) for k in range(3)])
    made = {
        "enhanced.dcm": volumes.dicom(deep, SeriesInstanceUID="1.2.3"),
        "volume.nii.gz": volumes.nifti(volumes.heads(9, empty=2)),
        "empty.nii": volumes.nifti(volumes.heads(4, empty=2), packed=False),
        "slice.mat": volumes.mat(volumes.head(8).astype(np.int16)),
        "picture.png": picture_file(volumes.head(4), ".png"),
        "without": picture_file(volumes.head(5), ".jpg"),
        "broken.dcm": volumes.dicom(deep)[:500],
        "cut.dcm": volumes.dicom(deep)[:-9000],
        "notes.txt": f"of {volumes.NAME}".encode(),
        "junk": b"nothing",
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return folder


def images_of_source(source: Path) -> tuple[pd.DataFrame, dict[str, list[int]]]:
    paths = sorted(path.name for path in source.iterdir())
    opened = open_files(str(source), DATA, SALT, [path for path in paths if not is_picture(path)])
    table = expand(files(*paths), pick(files(*paths), opened))
    table.insert(0, "image_id", range(len(table)))
    return table, {path: list(one.empty) for path, one in opened.items() if one.empty}


def test_files_are_looked_at_by_content(source: Path) -> None:
    found, empty = images_of_source(source)
    frames = found.groupby("path")["frame"].apply(list).to_dict()
    assert frames == {
        **{f"IM-{number:04}": [-1] for number in range(4)},
        "enhanced.dcm": [0, 1, 2],
        "volume.nii.gz": [2, 3, 4, 5, 6],
        "cut.dcm": [-1],
        **{name: [-1] for name in ("empty.nii", "slice.mat", "picture.png", "without", "broken.dcm")},
        **{name: [-1] for name in ("notes.txt", "junk")},
    }
    assert empty == {"volume.nii.gz": [0, 1, 7, 8], "empty.nii": [0, 1, 2, 3]}
    series = found[found["path"].str.startswith("IM-")]
    assert series["path"].tolist() == ["IM-0000", "IM-0001", "IM-0002", "IM-0003"]
    assert series["position"].tolist() == [-20, -15, -10, -5]
    assert series["patient"].nunique() == series["series"].nunique() == series["study"].nunique() == 1
    assert set(series["modality"]) == {"MR"}
    mat = found[found["path"] == "slice.mat"].iloc[0]
    assert mat["patient"] == series["patient"].iloc[0], "it has the same id"
    assert mat["file_class"] == "glioma"
    assert (found[found["path"] == "without"]["patient"] == "").all()


def test_all_are_scanned_and_stored_and_no_text_of_a_header_is(source: Path, tmp_path: Path) -> None:
    images, _ = images_of_source(source)
    scanned = Scan(str(source), DATA)(pa.Table.from_pandas(images[["image_id", "path", "frame"]]))
    facts = scanned.drop(list(AUDITED)).to_pandas()
    reasons = facts[facts["reason"] != ""].set_index("path")["reason"].to_dict()
    assert reasons == {
        "broken.dcm": "a DICOM file without pixels, such as a directory, a report or a structure",
        "cut.dcm": "damaged DICOM: its pixels cannot be decoded (ValueError)",
        "empty.nii": "each of its 4 images is empty, by data.volumes.min_content",
        "junk": "not an image",
        "notes.txt": "not an image",
    }
    usable = facts[facts["reason"] == ""]
    assert (usable["grey_levels"] > 64).all()
    assert usable["pixel_sha256"].nunique() == len(usable)
    assert usable.groupby("path")["file_sha256"].nunique().max() == 1
    manifest = images.join(facts.drop(columns=["path", "frame"]).set_index("image_id"), on="image_id")
    plan = pd.DataFrame(
        {
            "split": "train",
            "label": 1,
            "cluster": usable["image_id"],
            "copies": 0,
            "first_row": range(len(usable)),
        }
    ).set_index(usable["image_id"])
    run = Run(str(tmp_path), "run")
    run.fs.create_dir(run.path("dataset", "train"), recursive=True)
    block = scanned.filter(pa.array(facts["reason"] == ""))
    Write(run, str(source), DATA, 1, plan)(block)
    rows = pq.read_table(run.path("dataset", "train")).to_pandas()
    assert rows.columns.tolist() == ROW_SCHEMA.names
    by_name = rows.set_index("path")
    assert by_name.loc["picture.png", "bytes"] == (source / "picture.png").read_bytes()
    assert by_name.loc["without", "bytes"] == (source / "without").read_bytes()
    file = check_file((source / "volume.nii.gz").read_bytes(), DATA.max_pixels)
    stored = decode(by_name.loc["volume.nii.gz[4]", "bytes"])
    np.testing.assert_array_equal(stored, OpenFile(file, DATA.max_pixels, DATA.read_spec).image(4))
    single = decode(by_name.loc["IM-0002", "bytes"])
    np.testing.assert_array_equal(single, decode((source / "IM-0002").read_bytes()))
    assert by_name.loc["IM-0002", "bytes"][:4] == b"\x89PNG"
    assert (rows[list(BOX)] == usable.sort_values("image_id")[list(BOX)].to_numpy()).all().all()
    told = manifest.to_csv() + rows.drop(columns="bytes").to_csv()
    stored_bytes = b"".join(rows["bytes"])
    for secret in SECRETS:
        assert secret not in told
        assert secret.encode() not in stored_bytes


def test_a_volume_that_changed_is_not_written(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "v.nii").write_bytes(volumes.nifti(volumes.heads(5), packed=False))
    table = pa.table({"image_id": [0], "path": ["v.nii"], "frame": [2]})
    block = Scan(str(folder), DATA)(table)
    (folder / "v.nii").write_bytes(volumes.nifti(volumes.heads(6), packed=False))
    plan = pd.DataFrame({"split": "train", "label": 1, "cluster": 0, "copies": 0, "first_row": 0}, index=[0])
    with pytest.raises(RunError, match=r"v\.nii changed while it was prepared"):
        Write(Run(str(tmp_path), "run"), str(folder), DATA, 1, plan)(block)


def test_the_digest_of_rows_knows_slices_and_the_window(source: Path) -> None:
    images, _ = images_of_source(source)
    facts = {**dict.fromkeys(BOX, 0), "label": 0, "copies": 0, "split": "train", "file_sha256": "x"}
    manifest = images[images["path"] == "enhanced.dcm"].assign(cluster=range(3), **facts)
    settings = DATA.model_dump(mode="json")
    digest = rows_digest(manifest, 1, settings)
    assert digest != rows_digest(manifest.assign(frame=[0, 1, 7]), 1, settings)
    assert digest != rows_digest(manifest, 1, settings | {"window": [0, 100]})
    assert digest == rows_digest(manifest, 1, {k: v for k, v in settings.items() if k != "window"})
    alone = manifest.iloc[:1].assign(frame=-1)
    assert rows_digest(alone, 1, settings) == rows_digest(alone.drop(columns="frame"), 1, settings)


def test_the_rule_for_empty_slices_and_the_plane_are_settings(tmp_path: Path) -> None:
    (tmp_path / "v.nii").write_bytes(volumes.nifti(volumes.heads(20, empty=2), packed=False))

    def frames(**settings: Any) -> list[int]:
        data = DATA.model_copy(update={"volumes": VolumeConfig(**settings)})
        return list(open_files(str(tmp_path), data, SALT, ["v.nii"])["v.nii"].frames)

    assert frames() == list(range(2, 18))
    assert frames(min_content=0) == list(range(20))
    assert frames(min_content=1) == [-1]
    assert frames(plane="coronal", min_content=0) == list(range(160))


def test_a_damaged_image_among_others_costs_itself_only(tmp_path: Path) -> None:
    deep = np.stack([volumes.head(k).astype(np.uint16) for k in range(4)])
    data = bytearray(volumes.dicom(deep, RLELossless))
    start = -1
    for _ in range(4):  # the table of offsets, then frames
        start = data.index(b"\xfe\xff\x00\xe0", start + 1)
    data[start + 8 : start + 12] = b"\xff\0\0\0"  # more segments than there can be
    (tmp_path / "d.dcm").write_bytes(data)
    found = open_files(str(tmp_path), DATA, SALT, ["d.dcm"])["d.dcm"]
    assert found.frames == [0, 1, 2, 3]
    scanned = Scan(str(tmp_path), DATA)(
        pa.table({"image_id": range(4), "path": ["d.dcm"] * 4, "frame": range(4)})
    )
    reasons = scanned["reason"].to_pylist()
    assert [bool(reason) for reason in reasons] == [False, False, True, False]


def test_tasks_open_what_may_hold_several_images(source: Path, ray_cluster: None) -> None:
    paths = sorted(path.name for path in source.iterdir())
    found, empty = expand_files(files(*paths), str(source), DATA, SALT, block_files=3)
    expected, left_out = images_of_source(source)
    pd.testing.assert_frame_equal(found, expected.drop(columns="image_id"))
    assert empty == left_out
