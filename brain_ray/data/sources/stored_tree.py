"""Folders of a source in a bucket. Each is listed once: a thousand names take a tenth of a second."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath

from pyarrow import fs as pafs

from brain_ray.data.sources.listing import JUNK, LeftOut
from brain_ray.data.sources.names import is_junk
from brain_ray.data.sources.walk import Content, File, LocalTree, Tree, is_within, join, report
from brain_ray.storage import filesystem
from brain_ray.storage_retries import retry_known


class StoredTree(Tree):
    """Folders of a bucket, or of another file system that pyarrow opens."""

    def __init__(self, root: str, found: pafs.FileSystem, base: str) -> None:
        super().__init__(root)
        self._found = found
        self._base = base.rstrip("/")
        self._seen: dict[str, Content] = {}

    def _path(self, folder: str) -> str:
        return "/".join([self._base, *PurePosixPath(folder).parts])

    def is_folder(self, folder: str) -> bool:
        info = retry_known(self.root, partial(self._found.get_file_info, self._path(folder)))
        return bool(info.type == pafs.FileType.Directory)

    def folders(self, folder: str) -> list[str]:
        return self.look(folder).folders

    def look(self, folder: str) -> Content:
        if folder not in self._seen:
            found = Content()
            for info in self._infos(folder, recursive=False):
                name, is_file = info.base_name, info.type == pafs.FileType.File
                if is_junk(name):
                    found.junk.append(name)
                elif is_file:
                    found.files.append(_file(info, join(folder, name)))
                else:
                    found.folders.append(name)
            found.folders.sort()
            self._seen[folder] = found
        return self._seen[folder]

    def walk(self, folder: str, left_out: LeftOut, ignored: Collection[str] = ()) -> Iterator[File]:
        seen = self._seen.get(folder)
        if seen and not seen.folders:  # a class's folder that was looked into for folders of splits
            report(seen, folder, folder, left_out)
            yield from seen.files
            return
        base, junk = self._path(folder), set[str]()
        for info in self._infos(folder, recursive=True):
            if info.type != pafs.FileType.File:
                continue
            parts = info.path.removeprefix(base).strip("/").split("/")
            hidden = next((k for k, part in enumerate(parts, 1) if is_junk(part)), None)
            if hidden:
                junk.add("/".join(parts[:hidden]))
            elif not any(join(folder, *parts[:k]) in ignored for k in range(1, len(parts))):
                yield _file(info, join(folder, *parts))
        for name in sorted(junk):
            left_out.add(folder, JUNK, name)

    def _infos(self, folder: str, *, recursive: bool) -> list[pafs.FileInfo]:
        """Lists a folder, again after errors that pass; nothing if it does not exist."""
        selector = pafs.FileSelector(self._path(folder), allow_not_found=True, recursive=recursive)
        return list(retry_known(self.root, partial(self._found.get_file_info, selector)))


class WholeTree(StoredTree):
    """Folders of a bucket of Google's, which lists a folder only if it was created as one.

    An upload of files creates none. So a folder that is asked for is listed with all that is below it, and
    nothing below it again.
    """

    def __init__(self, root: str, found: pafs.FileSystem, base: str) -> None:
        super().__init__(root, found, base)
        self._listed: list[str] = []

    def is_folder(self, folder: str) -> bool:
        self._list(folder)
        return folder in self._seen

    def look(self, folder: str) -> Content:
        self._list(folder)
        return self._seen.get(folder, Content())

    def walk(self, folder: str, left_out: LeftOut, ignored: Collection[str] = ()) -> Iterator[File]:
        waiting = [folder]
        while waiting:
            inner = waiting.pop()
            content = self.look(inner)
            report(content, inner, folder, left_out)
            yield from content.files
            waiting += [path for name in content.folders if (path := join(inner, name)) not in ignored]

    def _list(self, folder: str) -> None:
        if any(one == "." or is_within(folder, one) for one in self._listed):
            return
        start = len(self._path(folder))
        for info in self._infos(folder, recursive=True):
            parts = info.path[start:].strip("/").split("/")
            name = parts.pop() if info.type == pafs.FileType.File else ""
            inner = self._enter(folder, parts)
            if inner is not None and is_junk(name):
                self._seen[inner].junk.append(name)
            elif inner is not None and name:
                self._seen[inner].files.append(_file(info, join(inner, name)))
        for content in self._seen.values():
            content.folders.sort()
        self._listed.append(folder)

    def _enter(self, folder: str, names: Sequence[str]) -> str | None:
        """Returns the path of a folder below another one, and notes all on the way to it; None if one of them
        is hidden."""
        content = self._seen.setdefault(folder, Content())
        for name in names:
            if is_junk(name):
                content.junk += [] if name in content.junk else [name]
                return None
            folder = join(folder, name)
            if folder not in self._seen:
                self._seen[folder] = Content()
                content.folders.append(name)
            content = self._seen[folder]
        return folder


def open_tree(root: str) -> Tree:
    """Opens a folder or URI; whether it exists, `is_folder(".")` tells.

    Raises:
        RunError: as of `storage.filesystem`.
    """
    found, base = filesystem(root)
    if isinstance(found, pafs.LocalFileSystem):
        return LocalTree(base)
    return (WholeTree if found.type_name == "gcs" else StoredTree)(root, found, base)


def _file(info: pafs.FileInfo, path: str) -> File:
    return File(path, int(info.size or 0), int(info.mtime_ns or 0))
