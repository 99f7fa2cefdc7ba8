"""Job review: what an endpoint kept for review, as a manifest for labelling."""

import csv
import io
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from pyarrow import fs as pafs

from brain_ray.cli import run_words
from brain_ray.errors import RunError
from brain_ray.serving.review import Record, Withheld, read_records
from brain_ray.storage import filesystem, storage_errors
from brain_ray.storage_retries import read_file, write_file
from brain_ray.usage import OneLineParser

UNLABELLED = "unlabelled"
"""Label of a file to which nobody has given one."""

MANIFEST = "review.csv"
"""Name of the manifest in the folder."""

COLUMNS = (
    *("path", "label", "suggested", "decision", "candidates", "confidence", "unlikeness"),
    *("images", "request", "kept_at", "model"),
)
"""Columns of the manifest; all but the first two are for its reader."""


def manifest_of(folder: str) -> str:
    """Returns the path or URI of the manifest in a folder."""
    base, mark, query = folder.partition("?") if "://" in folder else (folder, "", "")
    return f"{base.rstrip('/')}/{MANIFEST}{mark}{query}"


def write_manifest(folder: str, out: str = "") -> tuple[int, int, int]:
    """Writes a folder's manifest, a row for each kept file; labels that it has already stay.

    First are the files of which the model was least sure.

    Args:
        folder: path or URI of the folder.
        out: path or URI of the manifest; "": `review.csv` in the folder.

    Returns the numbers of rows, of those with a label, and of damaged records, which are left out.

    Raises:
        RunError: there is no such folder, nothing was kept there, or a file cannot be read or written.
    """
    records, damaged = read_records(folder)
    if not records:
        raise RunError(f"nothing is kept in {folder}: expected files that an endpoint with --review kept")
    fs, path = filesystem(out or manifest_of(folder))
    labels = _labels(fs, path)
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    rows = sorted((_row(record, labels) for record in records), key=lambda row: float(row["confidence"]))
    table.writerows(rows)
    with storage_errors(f"write {path}"):
        write_file(fs, path, text.getvalue().encode())
    return len(rows), sum(row["label"] != UNLABELLED for row in rows), damaged


def _labels(fs: pafs.FileSystem, path: str) -> dict[str, str]:
    """Returns the labels of a manifest that is there already, by path."""
    with storage_errors(f"read {path}"):
        if fs.get_file_info(path).type == pafs.FileType.NotFound:
            return {}
        text = read_file(fs, path).decode("utf-8-sig")
    rows = csv.DictReader(io.StringIO(text))
    if not {"path", "label"} <= set(rows.fieldnames or ()):
        raise RunError(f"{path} is there, and has no columns path and label: expected a manifest of this job")
    return {row["path"]: row["label"] for row in rows if row["label"]}


def _row(record: Record, labels: dict[str, str]) -> dict[str, Any]:
    first = min(record.images, key=lambda image: image.confidence)
    return {
        "path": record.file,
        "label": labels.get(record.file, UNLABELLED),
        "suggested": first.label,
        "decision": first.patient_decision or first.decision,
        "candidates": " ".join(first.candidates or ()),
        "confidence": f"{first.confidence:.4f}",
        "unlikeness": f"{first.unlikeness:.4f}",
        "images": " ".join(_numbers(record.images)),
        "request": record.request,
        "kept_at": record.kept_at.isoformat(),
        "model": record.model,
    }


def _numbers(images: Sequence[Withheld]) -> Iterator[str]:
    return (str(image.image) for image in images if image.image is not None)


def main(text: str, argv: Sequence[str], prog: str) -> int:
    """Runs the job; returns the exit code: 0, 1 after an error, 2 for a wrong command line."""
    words = OneLineParser(prog=prog, description=text)
    words.add_argument("folder", metavar="FOLDER", help="path or URI of the endpoint's setting `review`")
    words.add_argument("--out", default="", help=f"path or URI of the manifest (default: FOLDER/{MANIFEST})")
    given = words.parse_args(argv)
    return run_words(argv, lambda: _write_and_tell(given.folder, given.out))


def _write_and_tell(folder: str, out: str) -> str:
    rows, labelled, damaged = write_manifest(folder, out)
    manifest = out or manifest_of(folder)
    told = [f"written: {manifest}: {rows} files, {labelled} of them labelled"]
    if damaged:
        told.append(f"left out: {damaged} files whose records are damaged, or records without their file")
    told.append(f"Replace {UNLABELLED} by one of the classes, delete what shows none, then")
    command = ["python", "jobs/pipeline.py", "b0", "--data.source", manifest]
    command += ["--data.root", folder] if out else []
    told.append(f"  {shlex.join([*command, '--data.ignore-labels', UNLABELLED])}")
    return "\n".join(told)
