"""Names that make a manifest one: the suffixes of its file, and the usual names of its columns."""

import re
from collections.abc import Mapping, Sequence

from brain_ray.config.data import ColumnsConfig
from brain_ray.errors import RunError, nearest

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
"""Suffixes of manifests: tables with separators, Parquet, and JSON lines."""

MANIFEST = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})$", re.IGNORECASE)

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path")
USUAL: Mapping[str, tuple[str, ...]] = {
    "path": PATH_COLUMNS,
    "label": ("label", "class", "class_name"),
    "split": ("split",),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id"),
    "source": ("source",),
    "fold": ("fold",),
    "frame": ("frame",),
}
"""Usual names, in lower case, of the columns that mean something to this package."""

NONE = "none"
"""Setting for a column that a manifest does not have."""

RESERVED = {
    *("image_id", "path", "frame", "source_split", "class_name", "label", "patient", "source", "fold"),
    *("size", "mtime_ns", "reason", "width", "height", "top", "bottom", "left", "right", "has_box"),
    *("file_sha256", "pixel_sha256", "cluster", "cluster_size", "group", "split", "copies"),
    *("row_id", "bytes", "augment_seed", "predicted", "predicted_name", "leak_free"),
    *(
        "decision",
        "unlikeness",
        "candidates",
        "patient_from",
        "known_set",
        "known_file",
        "known_label",
        "known_patient",
    ),
    *("study", "series", "position", "modality", "file_class", "tumour", "told", "stated"),
    *("grey_levels", "looks_like"),
    *("grey_mean", "grey_spread", "grey_dark", "grey_detail", "box_share", "box_aspect", "confidence"),
    *("known_fold", "known_orientation", "known_similarity"),
}
"""Columns of manifest.parquet and predictions.parquet: a manifest's own of such a name gets `manifest_`
before it."""


STATED = ("source_split", "patient", "source", "fold", "group")
"""Those of them that say what a source states of an image."""


def suffix_of(source: str) -> str:
    """Returns the suffix, in lower case, by which a path or URI names a manifest; "" if it does not."""
    found = MANIFEST.search(source.partition("?")[0] if "://" in source else source)
    return found[0].lower() if found else ""


def match_columns(source: str, names: Sequence[str], columns: ColumnsConfig) -> dict[str, str]:
    """Returns the column of a manifest for each of `USUAL` that it has; path and label it must have.

    Args:
        source: the manifest's path or URI, for messages.
        names: its columns.
        columns: settings of their names.

    Raises:
        RunError: a named column is not there, one that is needed is not found, or two could be meant.
    """
    found: dict[str, str] = {}
    for role, usual in USUAL.items():
        wanted = getattr(columns, role)
        if wanted == NONE and role not in ("path", "label"):
            continue
        fitting = [name for name in names if name == wanted or (not wanted and name.casefold() in usual)]
        setting = f"--data.columns.{role}"
        if len(fitting) > 1:
            raise RunError(
                f"{source} has the columns {' and '.join(fitting)}: say by {setting} which is meant"
            )
        if wanted and not fitting:
            raise RunError(f"{source} has no column {wanted} ({setting}){nearest(wanted, names)}")
        if not fitting and role in ("path", "label"):
            raise RunError(
                f"{source} has no column {' or '.join(usual[:2])}, but {list(names)}: name the one of the "
                f"{'files' if role == 'path' else 'classes'} by {setting}"
            )
        if fitting:
            found[role] = fitting[0]
    return found


def own_names(source: str, names: Sequence[str]) -> dict[str, str]:
    """Returns the name in this package's tables of each column that means nothing to it.

    Raises:
        RunError: two would have one name.
    """
    renamed = {
        name: f"manifest_{name}"
        if name in RESERVED or name.startswith(("probability_", "calibrated_"))
        else name
        for name in names
    }
    for name in names:
        if list(renamed.values()).count(renamed[name]) > 1:
            raise RunError(f"{source} has two columns that would be {renamed[name]}: rename one")
    return renamed
