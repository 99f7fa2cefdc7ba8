"""Folders of a source, here of a disk: what is in one, and all files below it."""

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from brain_ray.data.file_names import local_name, storable
from brain_ray.data.sources.listing import JUNK, LeftOut
from brain_ray.data.sources.names import is_junk

NO_FILE = "links to nothing, devices, and other things that are no files"
LISTED = "links to folders that are listed by themselves, or hold the link"


class File(NamedTuple):
    """A file: its path within the source, its size in bytes, and its time of change."""

    path: str
    size: int
    mtime_ns: int


@dataclass
class Content:
    """What is directly in a folder."""

    folders: list[str] = field(default_factory=list)
    """Sorted names, without hidden ones."""
    files: list[File] = field(default_factory=list)
    junk: list[str] = field(default_factory=list)
    """Names of hidden files and folders, and of what systems add."""
    no_files: list[str] = field(default_factory=list)
    """Names of what is neither a file nor a folder."""
    links: dict[str, str] = field(default_factory=dict)
    """Where links lead that are among the folders and files, by name."""


class Tree(ABC):
    """A source's folders. Paths are relative to the source, which is `.` itself."""

    def __init__(self, root: str) -> None:
        self.root = root

    @abstractmethod
    def is_folder(self, folder: str) -> bool: ...

    @abstractmethod
    def folders(self, folder: str) -> list[str]:
        """Returns the sorted names of a folder's folders, without hidden ones; none if it does not exist."""

    @abstractmethod
    def look(self, folder: str) -> Content:
        """Returns what is directly in a folder; nothing if it does not exist."""

    @abstractmethod
    def walk(self, folder: str, left_out: LeftOut, ignored: Collection[str] = ()) -> Iterator[File]:
        """Yields all files below a folder, in any order, without hidden ones.

        Args:
            folder: where it begins.
            left_out: gets what is passed over, under this folder.
            ignored: paths of folders that are passed over without a word.
        """

    def place(self, folder: str) -> str:
        """Returns what tells a folder from others: its path, after links."""
        return folder


class LocalTree(Tree):
    """Folders of a disk. Names need not be UTF-8 (see `storable`), and links are followed."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._real_root = os.path.realpath(root)

    def path(self, folder: str) -> Path:
        """Returns the path of a folder on the disk."""
        return Path(self.root, local_name(folder))

    def place(self, folder: str) -> str:
        return os.path.realpath(self.path(folder))

    def is_folder(self, folder: str) -> bool:
        return self.path(folder).is_dir()

    def folders(self, folder: str) -> list[str]:
        if not self.is_folder(folder):
            return []
        with os.scandir(self.path(folder)) as entries:
            names = [storable(entry.name) for entry in entries if _kind(entry) == stat.S_IFDIR]
        return sorted(name for name in names if not is_junk(name))

    def look(self, folder: str) -> Content:
        found = Content()
        if not self.is_folder(folder):
            return found
        with os.scandir(self.path(folder)) as entries:
            for entry in entries:
                name = storable(entry.name)
                kind = _kind(entry)
                if is_junk(name):
                    found.junk.append(name)
                    continue
                if kind is None:
                    found.no_files.append(name)
                    continue
                if entry.is_symlink():
                    found.links[name] = os.path.realpath(entry.path)
                if kind == stat.S_IFDIR:
                    found.folders.append(name)
                else:
                    facts = entry.stat()
                    found.files.append(File(join(folder, name), facts.st_size, facts.st_mtime_ns))
        found.folders.sort()
        return found

    def walk(self, folder: str, left_out: LeftOut, ignored: Collection[str] = ()) -> Iterator[File]:
        entered = [self.place(folder)]
        waiting = [folder]
        while waiting:
            inner = waiting.pop()
            content = self.look(inner)
            report(content, inner, folder, left_out)
            yield from content.files
            links = {join(inner, name): place for name, place in content.links.items()}
            for name in content.folders:
                path = join(inner, name)
                if path in ignored:
                    continue
                if path in links:
                    if any(is_within(links[path], one) or is_within(one, links[path]) for one in entered):
                        left_out.add(folder, LISTED, below(path, folder))
                        del links[path]
                        continue
                    entered.append(links[path])
                waiting.append(path)
            out = {path: place for path, place in links.items() if not is_within(place, self._real_root)}
            left_out.links_out |= out


def join(folder: str, *names: str) -> str:
    """Returns the path of something in a folder; `.` is the source itself."""
    return "/".join(names if folder == "." else (folder, *names))


def below(path: str, folder: str) -> str:
    """Returns a path relative to a folder above it."""
    return path if folder == "." else path.removeprefix(f"{folder}/")


def report(content: Content, inner: str, folder: str, left_out: LeftOut) -> None:
    """Adds what is passed over in one folder to what is left out of a folder above it."""
    for reason, names in ((JUNK, content.junk), (NO_FILE, content.no_files)):
        for name in names:
            left_out.add(folder, reason, below(join(inner, name), folder))


def _kind(entry: "os.DirEntry[str]") -> int | None:
    """Returns S_IFDIR or S_IFREG, after links; None for anything else, and for a link to nothing."""
    try:
        if entry.is_dir():
            return stat.S_IFDIR
        return stat.S_IFREG if entry.is_file() else None
    except OSError:  # a link to itself
        return None


def is_within(path: str, folder: str) -> bool:
    """Returns whether a path is a folder's, or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
