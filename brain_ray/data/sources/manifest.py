"""Manifests as a table of files: a row for each file or pattern, with its label and what else is known."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa

from brain_ray.config import DataConfig
from brain_ray.data.file_names import ALONE, image_name
from brain_ray.data.sources.listing import LeftOut, Listing, check_counts, make_table
from brain_ray.data.sources.manifest_files import Found, find_paths
from brain_ray.data.sources.manifest_names import match_columns, own_names
from brain_ray.data.sources.manifest_rows import Rows, read_rows
from brain_ray.data.sources.messages import add_classes
from brain_ray.data.sources.names import SPLIT_WORDS, split_of
from brain_ray.errors import RunError, list_names
from brain_ray.storage import resolve, storage_errors

MAX_LABELS = 8
"""Most labels of a manifest that a message lists."""


def list_manifest(source: str, data: DataConfig) -> Listing:
    """Lists the files that a manifest names.

    Paths are relative to `data.root`, else to the manifest's folder, or are URIs; a `*` stands for any part
    of a name, `**` for any folders. Columns that mean nothing here are kept as they are; one whose name
    manifest.parquet needs gets `manifest_` before it.

    Raises:
        RunError: it cannot be read; a column, label or class is missing; a class has fewer than two files to
            learn from; or rows have faults: a file that is not there, is named twice or lies outside of the
            root, an empty cell, a split or fold that is none. The text names the lines.
    """
    rows = read_rows(source, data.columns.path)
    columns = match_columns(source, rows.table.column_names, data.columns)
    text = {role: _texts(rows.table[name]) for role, name in columns.items()}
    names = text.pop("path")
    text = {role: [cell.strip() for cell in cells] for role, cells in text.items()}
    nothing = [""] * len(rows.lines)
    _check_labels(source, text["label"], rows, data)
    splits = _read_splits(text.get("split", nothing), rows)
    folds = _read_numbers("fold", text.get("fold", nothing), rows)
    frames = _read_numbers("frame", text.get("frame", nothing), rows)
    root = root_of_manifest(source, data)
    left_out = LeftOut()
    skipped = set(data.ignore_labels) | (set(text["label"]) - set(data.classes) if data.external else set())
    used = [k for k, label in enumerate(text["label"]) if label not in skipped]
    with storage_errors(f"read the files of {source}"):
        found = find_paths(root, {k: names[k] for k in used}, rows.lines, rows.faults, left_out)
    _check_doubles(found, frames, rows)
    rows.faults.refuse()
    table = _make_table(source, found, rows, columns, text, splits, folds, frames, data)
    check_counts(table, source, data.classes, external=data.external)
    for label, count in Counter(text["label"][k] for k in set(range(len(nothing))) - set(used)).items():
        why = "named by data.ignore_labels" if label in data.ignore_labels else "none of data.classes"
        name = f"label {label}, {why}"
        left_out.add(PurePosixPath(source.partition("?")[0]).name, name, files=count)
    own = [name for name in table.columns if name not in ("path", "label", "size", "mtime_ns")]
    return Listing(
        root, table, left_out.table(), tuple(_notes(columns, rows.table.column_names)), given=tuple(own)
    )


def _make_table(
    source: str,
    found: Sequence[Found],
    rows: Rows,
    columns: dict[str, str],
    text: dict[str, list[str]],
    splits: list[str],
    folds: list[int],
    frames: list[int],
    data: DataConfig,
) -> pd.DataFrame:
    of = np.array([one.row for one in found], np.int64)

    def take(values: Sequence[object]) -> list[object]:
        return [values[k] for k in of]

    nothing = [""] * len(rows.lines)
    values: dict[str, Sequence[object]] = {
        "path": [one.path for one in found],
        "source_split": take(splits),
        "class_name": take(text["label"]),
        "label": [data.classes.index(text["label"][k]) for k in of],
        "patient": take(text.get("patient", nothing)),
        "source": take(text.get("source", nothing)),
        "fold": take(folds),
        "size": [one.size for one in found],
        "mtime_ns": [one.mtime_ns for one in found],
    }
    others = [name for name in rows.table.column_names if name not in columns.values()]
    renamed = rows.table.select(others).rename_columns(list(own_names(source, others).values()))
    own = renamed.take(of).to_pandas() if others else pd.DataFrame(index=range(len(of)))
    if "frame" in columns:
        own["frame"] = np.array(frames, np.int64)[of]
    return make_table(values, None if own.columns.empty else own)


def _check_labels(source: str, labels: Sequence[str], rows: Rows, data: DataConfig) -> None:
    """Checks that the labels are those of `data.classes`.

    Raises:
        RunError: some are others, or a class has no row; the text has the setting to add.
    """
    first: dict[str, int] = {}
    for label, line in zip(labels, rows.lines, strict=True):
        first.setdefault(label, line)
    if "" in first:
        for label, line in zip(labels, rows.lines, strict=True):
            if not label:
                rows.faults.add(line, "the label is empty: fill it in, or delete the row")
        del first[""]
    known = [label for label in first if label not in data.ignore_labels]
    unknown = {label: first[label] for label in known if label not in data.classes}
    missing = [name for name in data.classes if name not in known]
    if (not unknown and not missing) or (data.external and len(unknown) < len(known)):
        return  # of an external set, rows of other classes are left out
    in_order = [name for name in data.classes if name in known] + sorted(unknown)
    told = list_names([f"{label} (first in {rows.faults.unit} {line})" for label, line in unknown.items()])
    said = [f"unknown {told}"] * bool(unknown) + [f"missing {missing}"] * bool(missing)
    cures = [add_classes(in_order)] if len(in_order) > 1 else ["set --data.classes"]
    if unknown and not missing:
        cures.append(f"leave rows out by --data.ignore-labels {shlex.join(list(unknown)[:MAX_LABELS])}")
    shown = sorted(known)[:MAX_LABELS]
    more = f" and {len(known) - MAX_LABELS} more" if len(known) > MAX_LABELS else ""
    raise RunError(
        f"{source} has the labels {shown}{more}: {', '.join(said)}; expected {list(data.classes)}: "
        f"{', or '.join(cures)}"
    )


def _read_splits(cells: Sequence[str], rows: Rows) -> list[str]:
    known = {cell: split_of(cell) if cell else "" for cell in set(cells)}
    for cell, line in zip(cells, rows.lines, strict=True):
        if known[cell] is None:
            rows.faults.add(
                line,
                f"the split {cell!r} is none of {SPLIT_WORDS}; if the column means something else: "
                "--data.columns.split none",
            )
    return [known[cell] or "" for cell in cells]


def _read_numbers(role: str, cells: Sequence[str], rows: Rows) -> list[int]:
    """Returns a column's whole numbers; -1 for an empty cell or a negative number, as this package's own
    tables have it."""
    numbers = []
    for cell, line in zip(cells, rows.lines, strict=True):
        whole = cell.removesuffix(".0")
        if cell and not re.fullmatch("-?[0-9]+", whole):
            rows.faults.add(
                line,
                f"the {role} {cell!r} is no whole number; if the column means something else: "
                f"--data.columns.{role} none",
            )
        numbers.append(int(whole) if whole.isdecimal() else -1)
    return numbers


def _check_doubles(found: Sequence[Found], frames: Sequence[int], rows: Rows) -> None:
    """Looks for files that two rows name, unless they name different images of it."""
    first: dict[str, dict[int, int]] = {}
    for one in found:
        frame, named = frames[one.row], first.setdefault(one.path, {})
        before = next((named[each] for each in (frame, ALONE) if each in named), None)
        if frame == ALONE and before is None and named:
            before = next(iter(named.values()))
        if before not in (None, one.row):
            rows.faults.add(
                rows.lines[one.row],
                f"{image_name(one.path, frame)} is there already, by {rows.faults.unit} "
                f"{rows.lines[before]}: delete one",
            )
        named.setdefault(frame, one.row)


def _texts(column: pa.ChunkedArray) -> list[str]:
    """Returns cells as texts; "" for an empty one."""

    def text(value: object) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if isinstance(value, float) and value.is_integer():  # whole numbers, of which some are missing
            return str(int(value))
        return str(value)

    return [text(value) for value in column.to_pylist()]


def root_of_manifest(source: str, data: DataConfig) -> str:
    """Returns the folder or URI at which a manifest's relative paths start."""
    if data.root:
        return resolve(data.root)
    if "://" not in source:
        return str(PurePosixPath(source).parent)
    base, mark, query = source.partition("?")
    return base.rpartition("/")[0] + mark + query


def _notes(columns: dict[str, str], names: Sequence[str]) -> list[str]:
    told = [f"{role} from {name}" if role != name else role for role, name in columns.items()]
    others = [name for name in names if name not in columns.values()]
    carried = f"; carried along: {list_names(others)}" if others else ""
    return [f"columns: {', '.join(told)}{carried}"]
