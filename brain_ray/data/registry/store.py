"""The registry of known data sets: Parquet files beside this module, one for each set."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from brain_ray.arrays import fixed_size, from_fixed_size

SIDE = 24
"""Side of a fingerprint, in pixels."""

ENTRY_COLUMNS = ("file", "label", "patient", "person", "fold")
"""Columns of a set's table, beside the fingerprint: file within the set, the source's label, its patient (an
anonymous number), person (patients that may be one, joined), and the authors' own fold."""

ABOUT = b"brain_ray.known_set"
"""Key of the JSON text in a Parquet file's metadata that describes the set."""


@dataclass(frozen=True)
class Registry:
    """Known images of one or more sets."""

    entries: pd.DataFrame
    """One row per image: set, and `ENTRY_COLUMNS`."""
    fingerprints: NDArray[np.uint8]
    """(n, 24, 24), in the same order."""
    about: Mapping[str, Mapping[str, str]]
    """By the set's name: title, authors, source (URL), licence, and what was derived from it."""


@cache
def shipped() -> Registry:
    """Returns the registry that comes with the package."""
    return read_registry(sorted(Path(__file__).parent.glob("*.parquet")))


def read_registry(files: Sequence[Path]) -> Registry:
    """Returns the registry of the sets in some files."""
    tables = [pq.read_table(file) for file in files]
    about = [json.loads(table.schema.metadata[ABOUT]) for table in tables]
    entries = [
        table.select(list(ENTRY_COLUMNS)).to_pandas().assign(set=each["name"])
        for table, each in zip(tables, about, strict=True)
    ]
    prints = [from_fixed_size(table["fingerprint"]).reshape(-1, SIDE, SIDE) for table in tables]
    return Registry(
        pd.concat(entries, ignore_index=True), np.concatenate(prints), {each["name"]: each for each in about}
    )


def write_set(
    file: Path, entries: pd.DataFrame, fingerprints: NDArray[np.uint8], about: Mapping[str, str]
) -> None:
    """Writes a set: the same bytes for the same content and version of Arrow.

    Args:
        file: the Parquet file.
        entries: `ENTRY_COLUMNS`, one row per image.
        fingerprints: (n, 24, 24), in the same order.
        about: description, with the set's name.
    """
    table = pa.Table.from_pandas(entries[list(ENTRY_COLUMNS)], preserve_index=False)
    table = table.append_column("fingerprint", fixed_size(fingerprints))
    text = json.dumps(about, sort_keys=True, ensure_ascii=False)
    pq.write_table(
        table.replace_schema_metadata({ABOUT: text}), file, compression="zstd", compression_level=19
    )
