"""Rows of a manifest: CSV, TSV, JSON lines or Parquet -> columns, each row with its line."""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from brain_ray.data.sources.manifest_names import PATH_COLUMNS, suffix_of
from brain_ray.errors import RunError, list_faults, printable
from brain_ray.storage import filesystem, storage_errors
from brain_ray.storage_retries import retry_known

SEPARATORS = (",", ";", "\t", "|")
"""Separators that a header may show."""

UTF8 = 'save it as UTF-8 (in Excel: "CSV UTF-8")'


@dataclass
class Faults:
    """Collects what is wrong with a manifest, by line, so that all is told at once."""

    source: str
    unit: str = "line"
    """Name of a row's number: "line" of a text, "row" of a table."""
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, text: str) -> None:
        self.found.append((line, text))

    def refuse(self) -> None:
        """Ends here if there are any.

        Raises:
            RunError: it names the first few, with their lines.
        """
        if not self.found:
            return
        found = [f"{self.unit} {line}: {printable(text)}" for line, text in sorted(self.found)]
        if len(found) == 1:
            raise RunError(f"{self.source}, {found[0]}")
        raise RunError(f"{self.source} has {len(found)} faults:{list_faults(found)}")


@dataclass(frozen=True)
class Rows:
    """A manifest's rows."""

    table: pa.Table
    """Columns by their names, a row for each file or pattern."""
    lines: Sequence[int]
    """Line of each row, or its number in a table without lines; the first is 1."""
    faults: Faults


def read_rows(source: str, path_column: str | None = None) -> Rows:
    """Reads a manifest.

    Args:
        source: path or URI of a manifest.
        path_column: name of the column of paths, by which a header shows its separator; None: one of the
            usual names.

    Raises:
        RunError: it is not there, cannot be read, has no rows, or does not have the form of its suffix; the
            text names the line.
    """
    found, path = filesystem(source)
    suffix = suffix_of(source)

    def read() -> Rows | bytes:
        with found.open_input_file(path) as stream:
            return _read_parquet(source, stream) if suffix == ".parquet" else bytes(stream.read())

    with storage_errors(f"read {source}"):
        if retry_known(source, partial(found.get_file_info, path)).type != pafs.FileType.File:
            raise RunError(
                f"{source} is not there: set --data.source to a manifest, or to a folder of images"
            )
        content = retry_known(source, read)
    if isinstance(content, Rows):
        rows = content
    else:
        faults = Faults(source)
        text = _decode(content, faults)
        records = _read_json(text, faults) if suffix in (".jsonl", ".ndjson") else None
        rows = records or _read_csv(text, suffix, path_column, faults)
    if not len(rows.table):
        raise RunError(f"{source} has no rows: expected one for each image")
    return rows


def _read_parquet(source: str, stream: Any) -> Rows:
    try:
        table = pq.read_table(stream)
    except pa.ArrowInvalid as error:
        raise RunError(f"{source} is no Parquet file: {error}") from error
    return Rows(table, range(1, len(table) + 1), Faults(source, "row"))


def _decode(data: bytes, faults: Faults) -> str:
    """Returns a text's characters: UTF-8, or UTF-16 if it begins with a byte order mark."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise RunError(
                f"{faults.source} is damaged: it is no UTF-16 from byte {error.start} on"
            ) from error
        faults.add(
            data.count(b"\n", 0, error.start) + 1,
            f"a character (byte 0x{data[error.start]:02x}) is not UTF-8: {UTF8}",
        )
        faults.refuse()
        raise
    if "\0" in text:
        faults.add(text[: text.index("\0")].count("\n") + 1, f"there is a null character: {UTF8}")
        faults.refuse()
    return text


def _read_json(text: str, faults: Faults) -> Rows:
    records, lines = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            faults.add(number, f'is no JSON ({error}): expected an object, such as {{"path": ...}}')
            continue
        if not isinstance(record, dict):
            faults.add(number, 'is no object, such as {"path": "a.png", "label": "glioma"}')
            continue
        records.append(record)
        lines.append(number)
    faults.refuse()
    names = list(dict.fromkeys(name for record in records for name in record))
    table = {name: _column([record.get(name) for record in records]) for name in names}
    return Rows(pa.table(table), lines, faults)


def _column(values: list[Any]) -> pa.Array:
    """Returns values of JSON as a column; values of several types as their texts."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
        return pa.array(texts, pa.string())


def _read_csv(text: str, suffix: str, path_column: str | None, faults: Faults) -> Rows:
    text, skipped = _skip_separator_line(text)
    separator = _find_separator(text, suffix, path_column)
    header: list[str] = []
    rows, lines = [], []
    for line, cells in _cells(text, separator, faults, skipped):
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            _check_header(header, line, faults)
        elif len(cells) != len(header):
            faults.add(
                line,
                f"has {len(cells)} cells, and the header {len(header)}: "
                f'write a cell that contains the separator {separator!r} as "..."',
            )
        else:
            rows.append(cells)
            lines.append(line)
    faults.refuse()
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    names = [name or f"column_{k}" for k, name in enumerate(header, 1)]
    table = {name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)}
    return Rows(pa.table(table), lines, faults)


def _cells(text: str, separator: str, faults: Faults, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a table with separators, each with the line in which it begins."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    while True:
        line = reader.line_num + skipped + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.add(line, f"cannot be read as cells ({error}): write a quote within a cell as two")
            return


def _skip_separator_line(text: str) -> tuple[str, int]:
    """Returns a text without the line `sep=;` that Excel reads, and the number of lines skipped."""
    first, _, rest = text.partition("\n")
    return (rest, 1) if first.strip().lower().startswith("sep=") else (text, 0)


def _find_separator(text: str, suffix: str, path_column: str | None) -> str:
    """Returns the separator that makes the header show a column of paths; else the most frequent."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    known = {path_column.casefold()} if path_column else set(PATH_COLUMNS)
    candidates = ("\t", *SEPARATORS) if suffix == ".tsv" else SEPARATORS
    for separator in candidates:
        if known & {cell.strip(" \"'").casefold() for cell in header.split(separator)}:
            return separator
    return max(candidates, key=header.count)


def _check_header(header: list[str], line: int, faults: Faults) -> None:
    for name in dict.fromkeys(header):
        if name and header.count(name) > 1:
            faults.add(line, f"two columns have the name {name}: rename one")
