"""Studies: answers to slices -> one answer for each series and each patient."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_ray.serving.answers import by_class, names_of
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.schemas import Answer, Failure, ModelId
from brain_ray.serving.slices import Origin
from brain_ray.serving.study_schemas import Patient, Series, Slice, Study

if TYPE_CHECKING:
    from brain_ray.bundle.predictor import Predictor

MOST_CARRYING = 6
"""Largest number of slices that are named as carrying an answer."""

MR_OR_UNSAID = ("MR", "OT", "SC", "other", "")
"""Modalities whose slices are counted: MR, and those under which MR images are sent on as pictures."""


@dataclass(frozen=True)
class Found:
    """The result for one slice, and where it belongs."""

    result: Answer | Failure
    origin: Origin | None
    """None: a picture."""
    position: float = 0.0
    """In its series."""
    file: int = 0
    """Number of its file."""
    image: int | None = None
    """Its number in a file of several images, where it is needed."""


@dataclass
class _Series:
    modality: str
    slices: list[Found] = field(default_factory=list)


def make_study(
    predictor: "Predictor", found: Iterable[Found], *, one_patient: bool = False, num_empty: int = 0
) -> Study:
    """Makes one answer of the slices of each series and of each patient.

    Files that name no patient are grouped by study, else by series; a volume without any of these is a
    patient of its own. Pictures name nothing, and are answered only if all files are of one patient.

    Args:
        predictor: the predictor that answered.
        found: results of slices, in the order sent.
        one_patient: whether all files are of one patient, whatever they say.
        num_empty: number of slices that show nothing.
    """
    patients: dict[str, dict[str, _Series]] = {}
    unassigned: list[Failure] = []
    owners: dict[str, set[str]] = {}
    for one in found:
        origin = one.origin or Origin()
        if one.origin is None and not one_patient:
            unassigned.append(_without_patient(one))
            continue
        own = f"file {one.file}" if one.origin else ""
        ids = {"patient": origin.patient, "study": origin.study, "series": origin.series}
        patient = "" if one_patient else next((f"{kind} {text}" for kind, text in ids.items() if text), own)
        series = origin.series or ("" if origin.patient else own)
        if origin.series and origin.patient:
            owners.setdefault(origin.series, set()).add(origin.patient)
        listed = patients.setdefault(patient, {}).setdefault(series, _Series(origin.modality))
        listed.slices.append(one)
    return _number(predictor, patients, unassigned, num_empty, _notes(patients, owners))


def _without_patient(one: Found) -> Failure:
    if isinstance(one.result, Failure):
        return one.result
    text = "a picture does not say whose it is: send one_patient=true if all files are of one patient"
    return Failure(name=one.result.name, problem=ProblemError("no_patient", text).problem)


def _notes(patients: dict[str, dict[str, _Series]], owners: dict[str, set[str]]) -> list[str]:
    notes = [
        f"slices of {len(whose)} patients have the same series number; they are answered apart"
        for whose in owners.values()
        if len(whose) > 1
    ]
    other = sorted({one.modality for each in patients.values() for one in each.values()} - set(MR_OR_UNSAID))
    if other:
        notes.append(f"series of {', '.join(other)} are no MR images by their files, and are not counted")
    return notes


def _number(
    predictor: "Predictor",
    grouped: dict[str, dict[str, _Series]],
    unassigned: list[Failure],
    num_empty: int,
    notes: list[str],
) -> Study:
    slices: list[Slice] = []
    patients: list[Patient] = []
    all_series: list[Series] = []
    for number, each in enumerate(grouped.values(), 1):
        begin, own = len(slices), []
        for one in each.values():
            first = len(slices)
            own.append(len(all_series) + 1)
            usable = one.modality in MR_OR_UNSAID
            for placed in sorted(one.slices, key=lambda slice_: slice_.position):
                counted = usable and _is_counted(placed.result)
                slices.append(Slice(patient=number, series=own[-1], counted=counted, result=placed.result))
            facts = _together(predictor, slices, range(first, len(slices)))
            all_series.append(Series(number=own[-1], patient=number, modality=one.modality, **facts))
        facts = _together(predictor, slices, range(begin, len(slices)))
        patients.append(Patient(number=number, series=own, **facts))
        if facts["decision"] == "not_mr":
            notes += _why_left_out(number, slices[begin:])
    return Study(
        rule=predictor.patient_rule,
        model=ModelId(name=predictor.name, sha256=predictor.sha256, id=predictor.id),
        patients=patients,
        series=all_series,
        slices=slices,
        unassigned=unassigned,
        empty_slices=num_empty,
        notes=notes,
    )


def _why_left_out(patient: int, slices: Sequence[Slice]) -> list[str]:
    """Returns a note of why slices of a patient are not counted, by the first reason that holds of each."""
    answers = [one.result for one in slices if isinstance(one.result, Answer) and not one.counted]
    headless = sum(not one.has_box for one in answers)
    unlike = sum(one.has_box and one.decision == "not_mr" for one in answers)
    reasons = {
        f"{headless} in which no head was found": headless,
        f"{unlike} unlike the training images": unlike,
    }
    said = ", ".join(reason for reason, number in reasons.items() if number)
    return [f"not counted of patient {patient}'s {len(slices)} slices: {said}"] if said else []


def _is_counted(result: Answer | Failure) -> bool:
    return isinstance(result, Answer) and result.has_box and result.decision != "not_mr"


def _together(predictor: "Predictor", slices: Sequence[Slice], of: range) -> dict[str, Any]:
    """Returns the fields of `Together` for some of the slices."""
    answers = [i for i in of if isinstance(slices[i].result, Answer)]
    counted = [i for i in of if slices[i].counted]
    facts: dict[str, Any] = {"num_slices": len(of), "num_counted": len(counted), "carried_by": []}
    if not counted:
        decision = "not_mr" if answers else "unreadable"
        nothing = dict.fromkeys(("label", "candidates", "confidence", "calibrated"))
        return facts | nothing | {"decision": decision}
    rows = [[_calibrated(slices[i], name) for name in predictor.classes] for i in counted]
    found = predictor.answer_patient(np.array(rows))
    calibrated = by_class(predictor.classes, found.calibrated)
    label = predictor.classes[int(found.calibrated.argmax())]
    speaking = sorted(counted, key=lambda i: -_calibrated(slices[i], label))
    return facts | {
        "label": label,
        "decision": found.decision if 2 * len(counted) >= len(answers) else "not_mr",
        "candidates": names_of(predictor.classes, found.candidates),
        "confidence": calibrated[label],
        "calibrated": calibrated,
        "carried_by": speaking[:MOST_CARRYING],
    }


def _calibrated(slice_: Slice, name: str) -> float:
    assert isinstance(slice_.result, Answer)
    return slice_.result.calibrated[name]
