"""DICOM structured reports of patients' answers, read by highdicom and pydicom."""

import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from highdicom.sr import srread
from support import volumes
from support.studies import known_slices

from brain_ray import jobs


def lay_out(folder: Path, files: list[bytes], name: str = "s") -> Path:
    folder.mkdir(exist_ok=True)
    for k, data in enumerate(files):
        (folder / f"{name}{k}.dcm").write_bytes(data)
    return folder


def predict(bundle: Path, files: Path, reports: Path, *words: str) -> int:
    options = ["--bundle", str(bundle), "--per", "patient", "--sr", str(reports), "--json"]
    return jobs.run("predict", "predict.py", [str(files), *options, *words])


def values(report: Any) -> dict[str, Any]:
    """Texts and numbers of a report, by their concept's meaning."""
    found = {}
    for item in report.content[0].ContentSequence:
        meaning = item.ConceptNameCodeSequence[0].CodeMeaning
        found[meaning] = getattr(item, "TextValue", None)
        if item.ValueType == "NUM":
            found[meaning] = float(item.MeasuredValueSequence[0].NumericValue)
    return found


def test_a_report_has_the_answer_and_belongs_to_the_patients_study(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = lay_out(
        tmp_path / "in",
        known_slices("pituitary", 3, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100"),
    )
    assert predict(bundle, files, tmp_path / "deep" / "sr") == 0
    printed = capsys.readouterr()
    (path,) = (tmp_path / "deep" / "sr").iterdir()
    assert f"patient 1: {path}" in printed.err
    report = srread(path)
    first = pydicom.dcmread(files / "s0.dcm")
    for element in ("PatientID", "PatientName", "StudyInstanceUID"):
        assert report[element].value == first[element].value
    assert str(report.PatientName) == "Müller^Jörg"
    assert first.PatientID not in printed.out
    assert report.Modality == "SR"
    assert report.SeriesInstanceUID != first.SeriesInstanceUID
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    told = values(report)
    assert told["Comment"] == "Research software, not for clinical use: this is no diagnosis."
    assert "not for clinical use" in report.SeriesDescription
    assert told["Finding"] == "The model says pituitary; 3 of 3 slices counted."
    assert told["Calibrated probability of glioma"] < 0.1
    assert told["Calibrated probability of pituitary"] > 0.9
    carrying = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in report.content[0].ContentSequence
        if item.ValueType == "IMAGE"
    ]
    own = {pydicom.dcmread(file).SOPInstanceUID for file in files.iterdir()}
    assert set(carrying) == own
    named = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert {one.ReferencedSOPInstanceUID for one in named.ReferencedSOPSequence} == own


def test_a_withheld_answer_says_so(bundle: Path, tmp_path: Path) -> None:
    files = lay_out(tmp_path / "in", known_slices("glioma", 2, Modality="CT"))
    predict(bundle, files, tmp_path / "sr")
    (path,) = (tmp_path / "sr").iterdir()
    assert values(srread(path))["Finding"].startswith("The model gives no answer: most slices are unlike")


def test_frames_of_a_file_are_named_by_their_number(bundle: Path, tmp_path: Path) -> None:
    stack = volumes.heads(6, 0).transpose(2, 1, 0).astype("uint16")
    files = lay_out(tmp_path / "in", [volumes.dicom(stack)])
    predict(bundle, files, tmp_path / "sr")
    (path,) = (tmp_path / "sr").iterdir()
    frames = {
        int(item.ReferencedSOPSequence[0].ReferencedFrameNumber)
        for item in srread(path).content[0].ContentSequence
        if item.ValueType == "IMAGE"
    }
    assert frames == set(range(1, len(stack) + 1))


def test_whose_identity_is_unclear_gets_no_report(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = lay_out(tmp_path / "in", known_slices("glioma", 1, PatientID="a"), "a")
    lay_out(files, known_slices("glioma", 1, 5, PatientID="b"), "b")
    predict(bundle, files, tmp_path / "sr", "--one-patient")
    assert "patient 1: no report, its files name several patients" in capsys.readouterr().err
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "v.nii.gz").write_bytes(volumes.nifti(volumes.heads(9, 2)))
    predict(bundle, volume, tmp_path / "sr")
    assert "patient 1: no report, none of its files is DICOM" in capsys.readouterr().err
    assert not list((tmp_path / "sr").iterdir())


def test_reports_need_a_bundle_and_patients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--bundle", "b"], ["--url", "http://127.0.0.1:1", "--per", "patient"]):
        with pytest.raises(SystemExit):
            jobs.run("predict", "predict.py", ["f", *words, "--sr", str(tmp_path)])
        assert "--sr needs --bundle and --per patient" in capsys.readouterr().err


def test_no_header_is_told_in_the_terminal(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = lay_out(tmp_path / "in", known_slices("glioma", 1, PatientName="Jane_Doe"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predict(bundle, files, tmp_path / "sr")
    assert (len(list((tmp_path / "sr").iterdir())), caught) == (1, [])
    header = pydicom.dcmread(files / "s0.dcm")
    with pydicom.config.disable_value_validation():
        header.PatientBirthDate = "Jane was born in May"
        header.save_as(files / "s0.dcm")
    predict(bundle, files, tmp_path / "other")
    said = capsys.readouterr()
    assert "patient 1: no report, its files' headers make none (ValueError)" in said.err
    assert "Jane" not in said.out + said.err
