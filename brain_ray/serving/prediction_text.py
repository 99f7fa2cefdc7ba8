"""Predictions as text: tables for people, JSON lines and CSV for programs."""

import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size

from brain_ray.errors import printable
from brain_ray.serving.answers import rounded
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.serving.study_schemas import Patient, Series, Study

FIGURES = f"{'label':<14}{'confidence':>10}  {'decision':<8}{'ms':>8}"
NARROWEST, PIPED = 24, 48
"""Columns of a file's name: the fewest on a terminal, and those without one, where no name is cut off."""

GROUP = f"{'slices':>9}  {'label':<14}{'confidence':>10}  {'decision':<10}  first file"


def lines(results: Iterable[Answer | Failure], _: TextIO) -> Iterator[str]:
    """Yields each result as a line of JSON, in the endpoint's format."""
    return (result.model_dump_json() for result in results)


def table(results: Iterable[Answer | Failure], out: TextIO) -> Iterator[str]:
    """Lays out results as rows; the widths are fixed, since what is still to come is not known."""
    terminal = out.isatty()
    room = shutil.get_terminal_size().columns - len(FIGURES) - 2
    width = max(NARROWEST, room) if terminal else PIPED
    for i, result in enumerate(results):
        if i == 0:
            yield f"{'file':<{width}}  {FIGURES}"
        name = _fit(printable(result.name), width, cut=terminal)
        if isinstance(result, Failure):
            yield f"{name}  {_told(result)}"
        else:
            label = _fit(printable(result.label), 14, cut=False)
            sure = rounded(result.confidence)
            yield f"{name}  {label}{sure:>10}  {result.decision:<8}{result.milliseconds:>8.1f}"


def _told(failure: Failure) -> str:
    return f"error: {printable(failure.problem.detail)} ({printable(failure.problem.code)})"


def rows(results: Iterable[Answer | Failure], _: TextIO) -> Iterator[str]:
    """Yields results as lines of CSV, with a header; a class's probability is a column `calibrated CLASS`.

    The header is that of the first answer: errors before it wait for it.
    """
    waiting: list[Failure] = []
    classes: Sequence[str] | None = None
    for result in results:
        if isinstance(result, Answer) and classes is None:
            classes = list(result.calibrated)
            yield _line(["name", "status", *_ANSWER, "unlikeness", *_columns(classes), "error"])
            yield from (_line(_cells(one, classes)) for one in waiting)
        if classes is not None:
            yield _line(_cells(result, classes))
        elif isinstance(result, Failure):
            waiting.append(result)
    if classes is None:
        yield _line(["name", "status", *_ANSWER, "unlikeness", "error"])
        yield from (_line(_cells(one, [])) for one in waiting)


_ANSWER = ("label", "decision", "confidence", "candidates")


def _cells(result: Answer | Failure, classes: Sequence[str]) -> list[Any]:
    if isinstance(result, Failure):
        return [result.name, "error", *[""] * (5 + len(classes)), _error(result)]
    return [result.name, "ok", *_answer(result), result.unlikeness, *_chances(result.calibrated, classes), ""]


def _error(failure: Failure) -> str:
    return f"{failure.problem.code}: {failure.problem.detail}"


def _answer(one: Answer | Patient | Series) -> list[Any]:
    return [one.label, one.decision, one.confidence, " ".join(one.candidates or [])]


def _columns(classes: Iterable[str]) -> list[str]:
    return [f"calibrated {name}" for name in classes]


def _chances(calibrated: Mapping[str, float] | None, classes: Iterable[str]) -> list[Any]:
    return ["" if calibrated is None else calibrated[name] for name in classes]


def _line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def study_lines(study: Study, per: str) -> Iterator[str]:
    """Yields each patient or series as a line of JSON; its slices are named, in place of their numbers."""
    for one in _listed(study, per):
        names = [study.slices[i].result.name for i in one.carried_by]
        named = {"carried_by": names, "first_file": _first(study, one)}
        yield json.dumps(one.model_dump(mode="json") | named, ensure_ascii=False)
    yield from (failure.model_dump_json() for failure in study.unassigned)


def study_rows(study: Study, per: str) -> Iterator[str]:
    """Yields patients or series as lines of CSV, with a header."""
    classes = next((list(one.calibrated) for one in study.patients if one.calibrated), [])
    which = ["series", "modality", "patient"] if per == "series" else ["patient"]
    last = ["carried_by", "first_file", "error"]
    head = [*which, "num_slices", "num_counted", *_ANSWER, *_columns(classes), *last]
    yield _line(head)
    for one in _listed(study, per):
        numbers = [one.number, one.modality, one.patient] if isinstance(one, Series) else [one.number]
        names = " ".join(study.slices[i].result.name for i in one.carried_by)
        cells = [one.num_slices, one.num_counted, *_answer(one), *_chances(one.calibrated, classes)]
        yield _line([*numbers, *cells, names, _first(study, one), ""])
    for failure in study.unassigned:
        yield _line([*[""] * (len(head) - 2), failure.name, _error(failure)])


def study_table(study: Study, per: str) -> Iterator[str]:
    """Lays out patients or series as rows, then what to know of the files."""
    width = len("patient 1000  series 1000") if per == "series" else len("patient 1000")
    yield f"{'':<{width}}{GROUP}"
    for one in _listed(study, per):
        which = (
            f"patient {one.patient}  series {one.number}"
            if isinstance(one, Series)
            else f"patient {one.number}"
        )
        label = _fit(printable(one.label or "-"), 14, cut=False)
        sure = "-" if one.confidence is None else rounded(one.confidence)
        counted = f"{one.num_counted}/{one.num_slices}"
        figures = f"{counted:>9}  {label}{sure:>10}  {one.decision:<10}"
        yield f"{which:<{width}}{figures}  {printable(_first(study, one))}"
    for failure in study.unassigned:
        yield f"{printable(failure.name)}  {_told(failure)}"
    yield from (printable(note) for note in study.notes)


def _listed(study: Study, per: str) -> Sequence[Patient | Series]:
    return study.series if per == "series" else study.patients


def _first(study: Study, one: Patient | Series) -> str:
    """Returns the name of the first of its slices' files: patients and series are only numbered."""
    kind = "series" if isinstance(one, Series) else "patient"
    return next(slice_.result.name for slice_ in study.slices if getattr(slice_, kind) == one.number)


def _fit(text: str, width: int, *, cut: bool) -> str:
    """Brings a text to a width in columns; of what is too long the end is kept, which tells files apart."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    if not cut:
        return text
    while cell_len(text) > width - 1:
        text = text[1:]
    return set_cell_size(f"…{text}", width)
