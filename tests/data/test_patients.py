"""The patient of each file: by the setting, and by what a source tells where the setting tells nothing."""

from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from brain_ray.config import Config, DataConfig, PhantomConfig
from brain_ray.data.identity import inputs_of, list_images
from brain_ray.data.patients import by_setting, first_known, read_patients
from brain_ray.data.phantoms import files as phantom
from brain_ray.errors import RunError
from brain_ray.runs import Run


def files(*paths: str) -> pd.DataFrame:
    """Return a listing whose images have ids that are no positions."""
    classes = [next((part for part in path.split("/") if part in DataConfig().classes), "") for path in paths]
    return pd.DataFrame({"path": paths, "class_name": classes}, index=range(10, 10 + len(paths)))


LISTED = files("Training/glioma/ann/1.jpg", "Training/glioma/bob/deep/1.jpg", "Testing/pituitary/ann/2.jpg")


@pytest.mark.parametrize(
    "setting", ["auto", "none", "folder", r"regex:(p\d+)", "csv:s3://bucket/patients.csv"]
)
def test_each_form_of_the_setting_is_taken(setting: str) -> None:
    assert DataConfig(patients=setting).patients == setting


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("folders", "patients is 'folders': expected auto, none, folder, regex:PATTERN or csv:FILE"),
        ("folder:2", "patients is 'folder:2': expected auto"),
        ("csv:", "patients is 'csv:': expected auto"),
        ("regex:", "patients is 'regex:': expected auto"),
        (r"regex:p\d+", r"without a group, such as (p\d+), that holds the patient"),
        ("regex:(p", "no regular expression: missing ), unterminated subpattern at position 0"),
    ],
)
def test_another_form_is_refused(setting: str, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        DataConfig(patients=setting)
    assert said in refused.value.errors()[0]["msg"]


@pytest.mark.parametrize("setting", ["auto", "none"])
def test_without_a_rule_no_patient_is_known(setting: str) -> None:
    assert by_setting(LISTED, setting).to_dict() == {10: "", 11: "", 12: ""}


def test_a_folder_below_the_class_is_a_patient_in_both_splits() -> None:
    assert by_setting(LISTED, "folder").to_dict() == {10: "ann", 11: "bob", 12: "ann"}


def test_class_folders_may_be_in_the_source_itself() -> None:
    assert by_setting(files("glioma/ann/1.jpg"), "folder").tolist() == ["ann"]


def test_a_file_in_no_patients_folder_is_refused_by_name() -> None:
    listed = files("Training/glioma/ann/1.jpg", "Training/glioma/2.jpg", "Training/glioma/Thumbs.db")
    with pytest.raises(RunError, match=r"1 of 2 files are in no folder .*: Training/glioma/2\.jpg; expected"):
        by_setting(listed, "folder")


def test_a_pattern_gives_its_first_group_or_the_one_called_patient() -> None:
    listed = files("glioma/s1-p07-3.jpg", "glioma/s2-p11-1.jpg")
    assert by_setting(listed, r"regex:-(p\d+)-(\d)").tolist() == ["p07", "p11"]
    assert by_setting(listed, r"regex:(s\d)-(?P<patient>p\d+)").tolist() == ["p07", "p11"]
    assert by_setting(listed, r"regex:^glioma/(..)").tolist() == ["s1", "s2"]


def test_paths_that_do_not_match_are_refused_by_name() -> None:
    listed = files("glioma/p1.jpg", *(f"glioma/x{k}.jpg" for k in range(7)))
    with pytest.raises(RunError) as refused:
        by_setting(listed, r"regex:(p\d)")
    assert "7 of 8 paths do not match: glioma/x0.jpg, glioma/x1.jpg," in str(refused.value)
    assert "and 2 more; make its group optional" in str(refused.value)


def test_an_optional_group_leaves_a_patient_unknown() -> None:
    listed = files("glioma/p1.jpg", "glioma/x.jpg")
    assert by_setting(listed, r"regex:glioma/(p\d)?").tolist() == ["p1", ""]


def test_files_that_are_no_images_need_no_patient() -> None:
    listed = files("glioma/p1.jpg", "glioma/Thumbs.db")
    assert by_setting(listed, r"regex:(p\d)").tolist() == ["p1", ""]


@pytest.mark.parametrize("name", ["path", "file"])
def test_a_table_gives_patients_as_they_are_written(tmp_path: Path, name: str) -> None:
    table = tmp_path / "who.csv"
    rows = [f"{name},age,patient", "glioma/a.jpg,60,007", "glioma/b.jpg,61,NA", "glioma/c.jpg,,", "d.jpg,,x"]
    table.write_text("\ufeff" + "\r\n".join(rows))
    listed = files("glioma/c.jpg", "glioma/a.jpg", "glioma/b.jpg")
    for location in (table, table.as_uri()):
        assert by_setting(listed, f"csv:{location}").tolist() == ["", "007", "NA"]


def test_a_file_missing_in_a_table_is_refused_by_name(tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    table.write_text("path,patient\nglioma/a.jpg,p1\nglioma/notes.txt,p9\n")
    listed = files("glioma/a.jpg", "glioma/b.jpg", "glioma/Thumbs.db")
    with pytest.raises(
        RunError, match=r"who\.csv has no row for 1 of 2 files: glioma/b\.jpg; give each a row"
    ):
        by_setting(listed, f"csv:{table}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"name,patient\na,b\n",
            r"has the columns \['name', 'patient'\]: expected path or file, and patient",
        ),
        (b"path;patient\na;b\n", r"has the columns \['path;patient'\]"),
        (b"", "is no CSV in UTF-8: No columns to parse from file"),
        (b"path,patient\n\xff,p1\n", "is no CSV in UTF-8: 'utf-8' codec"),
        (b'path,patient\n"a,p1\n', "is no CSV in UTF-8: Error tokenizing data"),
        (b"path,patient\na,p1\nb,p2\na,p3\n", "gives 1 files two patients each: a"),
    ],
)
def test_a_faulty_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "who.csv").write_bytes(content)
    with pytest.raises(RunError, match=said):
        read_patients(str(tmp_path / "who.csv"))


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no file .*who\.csv: set --data\.patients csv:FILE"):
        read_patients(str(tmp_path / "who.csv"))


def test_equal_rows_of_a_table_are_one(tmp_path: Path) -> None:
    (tmp_path / "who.csv").write_text("file,patient\na,p1\na,p1\n")
    assert read_patients(str(tmp_path / "who.csv")).to_dict("list") == {"path": ["a"], "patient": ["p1"]}


def test_each_source_fills_what_those_before_it_leave_unknown() -> None:
    index = pd.Index([10, 11, 12, 13])
    told = {
        "setting": pd.Series(["ann", "", "", ""], index),
        "manifest": pd.Series(["no", "bob", None], index[:3]),
        "registry": pd.Series(["q1", "q2", "q3"], [10, 11, 12]),
    }
    table = first_known(index, told)
    assert table["patient"].tolist() == ["ann", "bob", "q3", ""]
    assert table["patient_from"].tolist() == ["setting", "manifest", "registry", ""]


def test_a_changed_table_of_patients_is_another_data_set(tmp_path: Path) -> None:
    phantom.write_tree(
        tmp_path / "source", PhantomConfig(train_per_class=2, test_per_class=1), DataConfig().classes, seed=1
    )
    table = tmp_path / "patients.csv"
    data = DataConfig(source=str(tmp_path / "source"), patients=f"csv:{table}")
    found = []
    for text in ("path,patient\na.jpg,p1\n", "path,patient\na.jpg,p2\n"):
        table.write_text(text)
        run, config = Run(str(tmp_path), "run"), Config(data=data)
        found.append(inputs_of(run, config, list_images(run, config))["data"])
    assert found[0]["patients"] != found[1]["patients"]
    assert {k: v for k, v in found[0].items() if k != "patients"} == {
        k: v for k, v in found[1].items() if k != "patients"
    }
