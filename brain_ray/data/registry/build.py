"""Builds a known set's file from its images: `python -m brain_ray.data.registry.build FOLDER`.

FOLDER holds `patients.csv` (columns file, label, patient, person, fold) and the files that it names.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brain_ray.data.decoding import ImageError, decode
from brain_ray.data.registry.match import fingerprint
from brain_ray.data.registry.store import ENTRY_COLUMNS, write_set
from brain_ray.data.transforms import thumbnail
from brain_ray.errors import RunError

FIGSHARE = {
    "name": "figshare-1512427",
    "title": "brain tumor dataset",
    "authors": "Jun Cheng",
    "source": "https://doi.org/10.6084/m9.figshare.1512427",
    "licence": "CC BY 4.0",
    "derived": "slices shrunk to 24x24 grey levels; patients renumbered, those that share a number joined",
}
"""Description of the set that comes with the package."""


def build(folder: Path, file: Path, about: Mapping[str, str]) -> int:
    """Writes a set's file, the same bytes for the same folder; returns its number of images.

    Args:
        folder: the images, and `patients.csv`.
        file: the Parquet file to write.
        about: description, with the set's name.

    Raises:
        RunError: no such table, a column is missing, or an image cannot be read.
    """
    table = folder / "patients.csv"
    if not table.is_file():
        raise RunError(f"there is no {table}: expected the columns {', '.join(ENTRY_COLUMNS)}")
    entries = pd.read_csv(table, dtype="str", keep_default_na=False)
    missing = [name for name in ENTRY_COLUMNS if name not in entries]
    if missing:
        raise RunError(f"{table} has no column {', '.join(missing)}, but {list(entries)}")
    entries["fold"] = entries["fold"].astype("int8")
    thumbnails = []
    for name in entries["file"]:
        try:
            thumbnails.append(thumbnail(decode((folder / name).read_bytes())))
        except (OSError, ImageError) as error:
            raise RunError(f"cannot read {folder / name}, which {table} names: {error}") from error
    write_set(file, entries, fingerprint(np.stack(thumbnails)), about)
    return len(entries)


def main(argv: Sequence[str] | None = None) -> int:
    """Builds the file of the Figshare set, beside this module; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m brain_ray.data.registry.build", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="folder with patients.csv and the images that it names")
    parser.add_argument("--file", type=Path, default=Path(__file__).with_name(f"{FIGSHARE['name']}.parquet"))
    words = parser.parse_args(argv)
    try:
        count = build(words.folder, words.file, FIGSHARE)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{count} images: {words.file}, {words.file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
