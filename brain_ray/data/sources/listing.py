"""Table of a source's files, and beside it what is left out and why."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from brain_ray.errors import MAX_NAMES, RunError

FILE_COLUMNS = (
    *("path", "source_split", "class_name", "label", "patient", "source", "fold"),
    *("size", "mtime_ns"),
)
"""Columns of `Listing.files`, before the source's own."""

LEFT_OUT_COLUMNS = ("path", "files", "reason", "first")
"""Columns of `Listing.left_out`."""

MASK = "masks of other files, by their names (to keep them: --data.masks keep)"
JUNK = "hidden files, and files that systems and archives add"
"""Reasons to leave files out that more than one kind of source has."""


@dataclass(frozen=True)
class Listing:
    """The files of a source, and what was found beside them."""

    root: str
    """Folder or URI at which the files' paths start."""
    files: pd.DataFrame
    """One row per file, or per image of a file that a manifest names by `frame`, sorted by path: path
    (relative to `root`, or a URI), source_split ("train", "valid", "test", or "": none is given), class_name,
    label (position in `data.classes`), patient and source ("": unknown), fold (-1: unknown), size in bytes,
    mtime_ns, frame if the manifest has it (-1: all images of the file), and the columns of a manifest that
    mean nothing to this package, under their own names."""
    left_out: pd.DataFrame
    """One row per folder (or manifest) and reason: path, files (their number), reason, and the names of the
    first."""
    notes: tuple[str, ...] = ()
    """What was found in the source by a rule and not by a setting, as sentences."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Folder of each split in a folder tree (`*/train`: within the classes' folders)."""
    given: tuple[str, ...] = ()
    """Columns of `files` that the source states and the files' paths do not show."""


class LeftOut:
    """Counts what is left out, by folder and reason, with the first few names; and collects links."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.links_out: dict[str, str] = {}
        """Where links lead that were followed out of the source, by the links' paths."""

    def add(self, path: str, reason: str, name: str = "", files: int = 1) -> None:
        """Adds files that are left out of a folder.

        Args:
            path: the folder, or a single file.
            reason: why they are left out.
            name: name of a file within the folder; "" if the folder is left out as a whole.
            files: their number.
        """
        count, names = self._rows.get((path, reason), (0, []))
        if name and len(names) < MAX_NAMES:
            names = [*names, name]
        self._rows[path, reason] = (count + files, names)

    def add_all(self, other: "LeftOut") -> None:
        """Adds what another one has counted, in its order."""
        for (path, reason), (count, names) in other._rows.items():
            self.add(path, reason, files=count)
            for name in names:
                self.add(path, reason, name, files=0)
        self.links_out |= other.links_out

    def table(self) -> pd.DataFrame:
        """Returns the rows, sorted, with the columns `LEFT_OUT_COLUMNS`."""
        rows = [(path, count, why, ", ".join(names)) for (path, why), (count, names) in self._rows.items()]
        table = pd.DataFrame(rows, columns=list(LEFT_OUT_COLUMNS))
        return table.sort_values(["path", "reason"], ignore_index=True)


def listing_hash(listing: Listing) -> str:
    """Returns the SHA-256 (hex) of the files' names, sizes and times, and of what the source states of
    them."""
    files = listing.files
    digest = hashlib.sha256()
    for path, size, mtime in zip(files["path"], files["size"], files["mtime_ns"], strict=True):
        digest.update(f"{path}\0{size}\0{mtime}\n".encode())
    if listing.given:
        digest.update(f"{listing.root}\0{listing.given}\n".encode())
        for row in files[list(listing.given)].itertuples(index=False):
            digest.update(("\0".join(map(str, row)) + "\n").encode())
    return digest.hexdigest()


def make_table(columns: Mapping[str, Sequence[object]], others: pd.DataFrame | None = None) -> pd.DataFrame:
    """Returns the table of `Listing.files` from its columns, sorted by path.

    Args:
        columns: the values of `FILE_COLUMNS`; those that a source does not know may be absent.
        others: the source's own columns, with a row per file.
    """
    unknown = {"patient": "", "source": "", "fold": -1}
    table = pd.DataFrame({name: columns.get(name, unknown.get(name)) for name in FILE_COLUMNS})
    kinds = {"label": "int64", "fold": "int64", "size": "int64", "mtime_ns": "int64"}
    table = table.astype({name: kinds.get(name, "str") for name in FILE_COLUMNS})
    if others is not None:
        table = table.join(others)
    keys = [name for name in ("path", "frame") if name in table]
    return table.sort_values(keys, ignore_index=True)


def check_counts(
    files: pd.DataFrame, source: str, classes: Sequence[str], folder: str = ".", *, external: bool = False
) -> None:
    """Checks that each class has two files to learn from at least, one to train and one to validate; and one
    in the source's own validation split, if it has one.

    Args:
        files: the columns source_split and class_name.
        source: folder, manifest or URI, for messages.
        classes: names of the classes.
        folder: the training folder within the source, for messages.
        external: whether nobody learns from the files, so that one of any class is enough.

    Raises:
        RunError: a class has fewer.
    """
    if external:
        if files.empty:
            raise RunError(f"{source} has no files of {list(classes)}: there is nothing to score")
        return
    valid = files.loc[files["source_split"] == "valid", "class_name"]
    if len(valid) and (missing := [name for name in classes if name not in set(valid)]):
        raise RunError(f"{source}: the validation split has no files of {missing}: add some, or leave it out")
    counts = files[files["source_split"].isin(["train", ""])]["class_name"].value_counts()
    few = {name: int(counts.get(name, 0)) for name in classes if counts.get(name, 0) < 2}
    if few:
        where = source if folder == "." else f"{source}/{folder}"
        raise RunError(
            f"{where} has too few files in {few}: "
            "a class needs two at least, one to train and one to validate"
        )
