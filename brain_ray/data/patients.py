"""Patients: whom each file shows, by a folder, a pattern on the path, a table, or what the source tells."""

import io
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import pandas as pd
from pyarrow import fs as pafs

from brain_ray.data.file_names import is_no_image
from brain_ray.errors import RunError, first_line, list_names
from brain_ray.storage import filesystem, storage_errors
from brain_ray.storage_retries import retry_known

PATH_COLUMNS = ("path", "file")
"""Names, either of them, of the column of a table of patients that holds the files' paths."""


def by_setting(files: pd.DataFrame, setting: str) -> pd.Series:
    """Returns the patient of each file by `data.patients`; "" is unknown, which `auto` and `none` leave all.

    Files that are no images by their names need no patient.

    Args:
        files: one row per file, with path (relative to the source) and class_name.
        setting: a value that `DataConfig.patients` accepts.

    Raises:
        RunError: `folder`: a file lies in no folder below its class's; `regex:`: a path does not match;
            `csv:`: the table cannot be read, has other columns, names a file twice with two patients, or
            misses a file.
    """
    kind, _, rest = setting.partition(":")
    images = files[~files["path"].map(is_no_image).astype(bool)]
    if kind == "folder":
        found = _by_folder(images)
    elif kind == "regex":
        found = _by_pattern(images["path"], rest)
    elif kind == "csv":
        found = _by_table(images["path"], read_patients(rest), rest)
    else:
        return pd.Series("", index=files.index, dtype="str")
    return found.reindex(files.index, fill_value="")


def first_known(index: pd.Index, sources: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Returns the patient of each file from the first of several sources that knows it.

    Args:
        index: index of the files.
        sources: patients by the source's name, in order of precedence: the setting's (`by_setting`), the
            manifest's, DICOM's, the registry's. A source without a row of the index, or with "" there, does
            not know it.

    Returns:
        Table with this index: patient and patient_from, the source's name; both "" where none knows.
    """
    table = pd.DataFrame({"patient": "", "patient_from": ""}, index=index, dtype="str")
    for name, patients in sources.items():
        told = patients.reindex(index).fillna("").astype("str")
        new = (table["patient"] == "") & (told != "")
        table.loc[new, "patient"] = told[new]
        table.loc[new, "patient_from"] = name
    return table


def name_patients(manifest: pd.DataFrame, known: pd.DataFrame | None, setting: str) -> pd.DataFrame:
    """Returns the manifest with the patient of each image and who tells it, and what the registry found.

    Args:
        manifest: one row per image, with told (by `by_setting`), stated (by the source) and patient (by the
            file's header), each "" or None where unknown; the first two are left out of the result.
        known: the result of `recognition.find_known`; None: not looked for.
        setting: `data.patients`.
    """
    sources = {setting.partition(":")[0]: manifest["told"]}
    if setting != "none":
        sources |= {"source": manifest["stated"], "header": manifest["patient"]}
        if known is not None:
            sources["registry"] = known["patient"]
    named = first_known(manifest.index, sources)
    manifest = manifest.drop(columns=["told", "stated"])
    manifest = manifest.assign(patient=named["patient"], patient_from=named["patient_from"])
    if known is None or not (known["known_set"] != "").any():
        return manifest
    return manifest.join(known.drop(columns="patient"))


def name_by_table(files: pd.DataFrame, location: str) -> pd.DataFrame:
    """Returns files with the columns patient and source of a table; "" where it has no row for a file.

    Args:
        files: one row per file, with path.
        location: path or URI of the table, see `read_patients`, which has a column source, too.
    """
    rows = read_patients(location).set_index("path")[["patient", "source"]].reindex(files["path"]).fillna("")
    return files.assign(patient=rows["patient"].to_numpy(), source=rows["source"].to_numpy())


def read_patients(location: str) -> pd.DataFrame:
    """Reads a table of patients: CSV with the columns path or file, and patient; others are kept.

    Returns its columns as text, with `path` in place of `file`; equal rows are read once.

    Args:
        location: path or URI.

    Raises:
        RunError: no such file, no CSV in UTF-8, other columns, or two patients for a file.
    """
    data = read_bytes(location)
    try:
        table = pd.read_csv(io.BytesIO(data), dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:
        raise RunError(f"{location} is no CSV in UTF-8: {first_line(error)}") from error
    paths = next((name for name in PATH_COLUMNS if name in table), None)
    if paths is None or "patient" not in table:
        raise RunError(f"{location} has the columns {list(table)}: expected path or file, and patient")
    table = table.rename(columns={paths: "path"}).drop_duplicates(["path", "patient"], ignore_index=True)
    twice = table.loc[table["path"].duplicated(), "path"].tolist()
    if twice:
        raise RunError(f"{location} gives {len(twice)} files two patients each: {list_names(twice)}")
    return table


def read_bytes(location: str) -> bytes:
    """Returns the content of a table of patients.

    Raises:
        RunError: no such file.
    """
    opened, path = filesystem(location)

    def read() -> bytes:
        if opened.get_file_info(path).type != pafs.FileType.File:
            raise RunError(
                f"there is no file {location}: set --data.patients csv:FILE to a table of patients"
            )
        with opened.open_input_stream(path) as stream:
            return bytes(stream.read())

    with storage_errors(f"read {location}"):
        return retry_known(location, read)


def _by_folder(images: pd.DataFrame) -> pd.Series:
    """Returns the first folder below the class's; one name is one patient, also in two classes or splits."""
    names = []
    for path, class_name in zip(images["path"], images["class_name"], strict=True):
        folders = PurePosixPath(path).parts[:-1]
        below = folders[folders.index(class_name) + 1 :] if class_name in folders else ()
        names.append(below[0] if below else "")
    found = pd.Series(names, index=images.index, dtype="str")
    loose = images.loc[found == "", "path"].tolist()
    if loose:
        raise RunError(
            f"data.patients is folder, and {len(loose)} of {len(images)} files are in no folder below their "
            f"class's: {list_names(loose)}; expected CLASS/PATIENT/FILE"
        )
    return found


def _by_pattern(paths: pd.Series, pattern: str) -> pd.Series:
    """Returns the pattern's group `patient`, or else its first one; an optional group may match nothing."""
    regex = re.compile(pattern)
    group = "patient" if "patient" in regex.groupindex else 1
    matches = [regex.search(path) for path in paths]
    unlike = [path for path, match in zip(paths, matches, strict=True) if match is None]
    if unlike:
        raise RunError(
            f"data.patients is regex:{pattern}, which {len(unlike)} of {len(paths)} paths do not match: "
            f"{list_names(unlike)}; make its group optional if some files show no known patient"
        )
    return pd.Series([(match and match[group]) or "" for match in matches], index=paths.index, dtype="str")


def _by_table(paths: pd.Series, table: pd.DataFrame, location: str) -> pd.Series:
    found = paths.map(table.set_index("path")["patient"])
    missing = paths[found.isna()].tolist()
    if missing:
        raise RunError(
            f"{location} has no row for {len(missing)} of {len(paths)} files: {list_names(missing)}; "
            "give each a row, with an empty patient if it is not known"
        )
    return found
