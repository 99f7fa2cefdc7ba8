"""Files that a manifest names: patterns are expanded, and each file is looked for."""

import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pyarrow import fs as pafs

from brain_ray.data.file_names import local_name
from brain_ray.data.sources.listing import LeftOut
from brain_ray.data.sources.manifest_rows import Faults
from brain_ray.data.sources.reader import FileReader
from brain_ray.data.sources.stored_tree import open_tree
from brain_ray.errors import RunError
from brain_ray.storage_retries import patiently

NUM_LOOKERS = 16
"""Number of folders of a bucket that are listed at a time."""

FEW = 20
"""Number of files in a folder of a bucket up to which each is asked for, rather than the folder listed."""

ODD = re.compile(r"(^|/)\.?(/|$)")
"""Parts of a path that mean nothing, such as `./` and `//`."""


class Found(NamedTuple):
    """A file that a manifest names: its row, its path in the listing, its size and time of change."""

    row: int
    path: str
    size: int
    mtime_ns: int


def find_paths(
    root: str, paths: Mapping[int, str], lines: Sequence[int], faults: Faults, left_out: LeftOut
) -> list[Found]:
    """Looks for the files of a manifest.

    Args:
        root: folder or URI at which relative paths start.
        paths: paths, URIs or patterns, by row.
        lines: line of each row.
        faults: gets a fault for each file that is not there, and each path that cannot be meant.
        left_out: gets what patterns pass over.

    Returns:
        The files, in the order of the rows; a pattern may give several.
    """
    found: list[Found] = []
    plain: dict[int, str] = {}
    for row, path in paths.items():
        wrong = _refuse(path.strip())
        if wrong:
            faults.add(lines[row], wrong)
        elif "*" in path:
            try:
                matches = list(_expand(root, path.strip(), left_out))
            except RunError as error:
                faults.add(lines[row], str(error))
                continue
            found += [Found(row, *match) for match in matches]
            if not matches:
                faults.add(lines[row], f"no file matches {path}: correct it, or delete the row")
        else:
            plain[row] = str(PurePosixPath(path)) if ODD.search(path) and "://" not in path else path
    reader = FileReader(root)
    if reader.folder is not None:
        here = {row: plain.pop(row) for row in list(plain) if "://" not in plain[row]}
        found += _look_here(reader.folder, here, lines, faults)
    found += _look_away(reader, {row: path.strip() for row, path in plain.items()}, lines, faults)
    return sorted(found)


def _refuse(path: str) -> str:
    """Returns what is wrong with the form of a path, or ""."""
    if not path:
        return "the path is empty: fill it in, or delete the row"
    if path.lower().startswith("file:") or path.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", path):
        return (
            f"{path} is an absolute path: write it relative to the manifest's folder, or to a folder that "
            "--data.root names"
        )
    if ".." in re.split(r"[\\/]", path):
        return f"{path} leads out of the manifest's folder: set --data.root to one that holds all images"
    return ""


def _look_here(root: str, paths: Mapping[int, str], lines: Sequence[int], faults: Faults) -> Iterator[Found]:
    """Yields the files on the disk."""
    real_root = Path(root).resolve()
    outside: dict[str, bool] = {}
    for row, path in paths.items():
        for name in _spellings(path):
            file = f"{root.rstrip('/')}/{local_name(name)}"  # a Path would take most of the time
            try:
                facts = os.lstat(file)
                is_link = stat.S_ISLNK(facts.st_mode)
                facts = os.stat(file) if is_link else facts  # noqa: PTH116
            except (OSError, ValueError):
                continue
            folder = file.rpartition("/")[0]
            if folder not in outside:
                outside[folder] = not Path(folder).resolve().is_relative_to(real_root)
            if outside[folder] or (is_link and not Path(file).resolve().is_relative_to(real_root)):
                faults.add(lines[row], f"{path} is a link out of {root}: copy what it leads to")
            elif stat.S_ISREG(facts.st_mode):
                yield Found(row, name, facts.st_size, facts.st_mtime_ns)
            else:
                what = "a folder" if stat.S_ISDIR(facts.st_mode) else "no file"
                faults.add(lines[row], f"{path} is {what}: name its files, or all of them by {path}/**")
            break
        else:
            faults.add(lines[row], f"{path} is not there (in {root}): correct it, or delete the row")


def _spellings(path: str) -> Iterator[str]:
    """Yields a path as it is written, and then as other systems spell the same one."""
    yield path
    yield (path := path.strip())
    yield path.replace("\\", "/")  # Windows
    for form in ("NFC", "NFD"):  # macOS writes an umlaut as two characters
        yield unicodedata.normalize(form, path)


def _look_away(
    reader: FileReader, paths: Mapping[int, str], lines: Sequence[int], faults: Faults
) -> Iterator[Found]:
    """Yields the files in buckets: folder by folder, or one by one where a folder has few of them."""
    folders: dict[tuple[int, str], dict[str, list[int]]] = {}
    systems: dict[int, pafs.FileSystem] = {}
    for row, path in paths.items():
        try:
            system, place = reader.place(path)
        except RunError as error:
            faults.add(lines[row], str(error))
            continue
        systems[id(system)] = system
        folder = place.rpartition("/")[0]
        folders.setdefault((id(system), folder), {}).setdefault(place, []).append(row)

    def look(key: tuple[int, str]) -> list[pafs.FileInfo]:
        system, wanted = systems[key[0]], folders[key]
        asked = list(wanted) if len(wanted) <= FEW else pafs.FileSelector(key[1], allow_not_found=True)
        return list(patiently()(system.get_file_info, asked))

    with ThreadPoolExecutor(NUM_LOOKERS) as pool:
        for key, infos in zip(folders, pool.map(look, folders), strict=True):
            there = {info.path: info for info in infos if info.type == pafs.FileType.File}
            for place, rows in folders[key].items():
                for row in rows:
                    info = there.get(place)
                    if info is None:
                        faults.add(lines[row], f"{paths[row]} is not there: correct it, or delete the row")
                    else:
                        yield Found(row, paths[row], int(info.size or 0), int(info.mtime_ns or 0))


def _expand(root: str, pattern: str, left_out: LeftOut) -> Iterator[tuple[str, int, int]]:
    """Yields path, size and time of change of the files that match a pattern, in the order of their paths."""
    place, start, rest, end = root, "", pattern, ""
    if "://" in pattern:
        base, mark, query = pattern.partition("?")
        scheme, _, base = base.partition("://")
        bucket, _, rest = base.partition("/")
        start, end = f"{scheme}://{bucket}", f"{mark}{query}"
        inherited = "".join(root.partition("?")[1:]) if root.startswith(f"{scheme}://") else ""
        place = start + (end or inherited)
        start += "/"
    parts = PurePosixPath(rest).parts
    number = next((k for k, part in enumerate(parts) if "*" in part), None)
    if number is None:  # in a bucket's name
        return
    tree = open_tree(place)
    folder = "/".join(parts[:number]) or "."
    is_flat = number == len(parts) - 1 and "**" not in parts[-1]
    files = tree.look(folder).files if is_flat else tree.walk(folder, left_out)
    match = re.compile(_as_regex("/".join(parts)))
    for file in sorted(files):
        if match.fullmatch(file.path):
            yield f"{start}{file.path}{end}", file.size, file.mtime_ns


def _as_regex(pattern: str) -> str:
    """Returns a pattern as a regular expression: `*` within a name, `**` over folders."""
    pieces = re.split(r"(\*\*/|\*\*|\*)", pattern)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return "".join(meaning.get(piece, re.escape(piece)) for piece in pieces)
