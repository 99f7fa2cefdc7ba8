"""A patient's answer as a DICOM structured report, for a picture archive; marked as research."""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brain_ray import __version__
from brain_ray.errors import RunError
from brain_ray.serving.client.files import Source, name_of
from brain_ray.serving.study_schemas import Patient, Study

if TYPE_CHECKING:
    from pydicom import Dataset

RESEARCH = "Research software, not for clinical use: this is no diagnosis."

SCHEME = "99BRAINRAY"
"""Coding scheme of concepts for which the standard (DICOM PS3.16) has no code."""

SERIES_NUMBER = 9001
"""Number of the report's series, beyond those of a scanner."""


MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
"""Elements of type 2, which each file should have, if only empty; those of some programs lack them."""

NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
"""Elements without which a file cannot be referred to."""


def write_reports(study: Study, sources: Iterable[Source], folder: Path) -> Iterator[str]:
    """Writes a report for each patient with DICOM files; yields a line on each patient.

    A report is an Enhanced SR (PS3.3 A.35.2) of the study whose slices carry the answer. It has patient and
    study from the headers of the files, which the answer itself never has, and refers to the patient's images
    in that study.

    Args:
        study: the answers, whose slices have the names of the files.
        sources: the files.
        folder: folder for the reports; made if need be.

    Raises:
        RunError: highdicom is missing, or the folder cannot be written.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise RunError("--sr needs highdicom: pip install '.[sr]'") from error
    files = {name_of(source): source for source in sources if not isinstance(source, bytes)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for patient in study.patients:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # those of highdicom and pydicom quote patients' names
                line = _write(study, patient, files, folder)
            yield line
    except OSError as error:
        raise RunError(f"cannot write reports to {folder}: {error}") from error


def _write(study: Study, patient: Patient, files: Mapping[str, Source], folder: Path) -> str:
    start = f"patient {patient.number}: no report"
    headers = _headers(study, patient, files)
    if not headers:
        return f"{start}, none of its files is DICOM"
    if len({str(header.get("PatientID", "")) for header, _ in headers.values()}) > 1:
        return f"{start}, its files name several patients"
    carried = [study.slices[i].result.name for i in patient.carried_by]
    first = next((name for name in carried if name in headers), next(iter(headers)))
    uid = headers[first][0].StudyInstanceUID
    headers = {name: found for name, found in headers.items() if found[0].StudyInstanceUID == uid}
    try:
        report = _make(study, patient, headers, [name for name in carried if name in headers])
    except (ValueError, TypeError, AttributeError) as error:  # its text would quote the header
        return f"{start}, its files' headers make none ({type(error).__name__})"
    path = folder / f"{report.SOPInstanceUID}.dcm"
    report.save_as(path, enforce_file_format=True)
    return f"patient {patient.number}: {path}"


def _headers(
    study: Study, patient: Patient, files: Mapping[str, Source]
) -> "dict[str, tuple[Dataset, int | None]]":
    """Returns the header of each of a patient's slices that is DICOM, and the slice's frame in its file, from
    1."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    read: dict[str, Any] = {}
    found = {}
    for slice_ in study.slices:
        if slice_.patient != patient.number:
            continue
        name, frame = slice_.result.name, None
        file, numbered = name, re.fullmatch(r"(.*)\[(\d+)\]", name, re.DOTALL)
        if name not in files and numbered:
            file, frame = numbered[1], int(numbered[2]) + 1
        if file not in read:
            try:
                read[file] = dcmread(str(files[file]), stop_before_pixels=True)
            except (InvalidDicomError, KeyError):
                read[file] = None
            else:
                for element in MAY_BE_EMPTY:
                    read[file].setdefault(element, "")
        header = read[file]
        if header is not None and all(element in header for element in NEEDED):
            found[name] = (header, frame)
    return found


def _make(
    study: Study,
    patient: Patient,
    headers: "dict[str, tuple[Dataset, int | None]]",
    carried: Sequence[str],
) -> "Dataset":
    """Returns the report; the images of `carried` are named as those that speak for it."""
    from highdicom.sr import (
        ContainerContentItem,
        EnhancedSR,
        ImageContentItem,
        NumContentItem,
        TextContentItem,
    )
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code
    from pydicom.uid import generate_uid

    def text(name: Any, value: str) -> Any:
        return TextContentItem(name, value, relationship_type="CONTAINS")

    items = [text(codes.DCM.Comment, RESEARCH), text(codes.DCM.AlgorithmName, f"brain_ray, {study.model.id}")]
    items += [text(codes.DCM.AlgorithmVersion, __version__), text(codes.DCM.Finding, _sentence(patient))]
    for label, chance in (patient.calibrated or {}).items():
        name = Code(f"P_{label}"[:16], SCHEME, f"Calibrated probability of {label}"[:64])
        items.append(NumContentItem(name, chance, codes.UCUM.NoUnits, relationship_type="CONTAINS"))
    for name in carried:
        header, frame = headers[name]
        image = Code("CARRIES", SCHEME, "Image that speaks most for the answer")
        of = (header.SOPClassUID, header.SOPInstanceUID)
        items.append(ImageContentItem(image, *of, frame, relationship_type="CONTAINS"))
    root = ContainerContentItem(codes.DCM.ImagingMeasurementReport)
    root.ContentSequence = items
    evidence = {header.SOPInstanceUID: header for header, _ in headers.values()}
    report = EnhancedSR(
        evidence=list(evidence.values()),
        content=root,
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="brain_ray",
    )
    report.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, whatever the files have
    report.SeriesDescription = "brain_ray: research, not for clinical use"
    return report


def _sentence(patient: Patient) -> str:
    counted = f"{patient.num_counted} of {patient.num_slices} slices counted"
    if patient.decision == "answer":
        return f"The model says {patient.label}; {counted}."
    likely = f" Its most probable class is {patient.label}." if patient.label else ""
    whys = {
        "abstain": "it is not sure enough",
        "not_mr": "most slices are unlike the images it learned from, of another modality, or show no head",
        "unreadable": "no slice could be read",
    }
    return f"The model gives no answer: {whys[patient.decision]}; {counted}.{likely}"
