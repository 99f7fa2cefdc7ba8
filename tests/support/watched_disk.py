"""A local file system that counts calls; and one that is too busy for the first ones, as a bucket may be."""

from collections import Counter
from collections.abc import Collection
from typing import Any, ClassVar

from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs as pafs

from brain_ray.runs import Run

OPENED: Counter[str] = Counter()
"""How often each file was opened by such a file system in this process, by its name."""

CALLS: Counter[tuple[str, str]] = Counter()
"""How often each of `KINDS` was asked for in this process, with the path."""

OPENING = ("read", "write")
KINDS = (*OPENING, "look", "list", "create", "move", "copy", "delete", "empty")


class _Watched(pafs.FSSpecHandler):  # type: ignore[misc]
    """The local file system; the first call of some kinds at each path is refused.

    What is to be deleted is deleted before that is refused, as where an answer is lost.
    """

    def __init__(self, refused: Collection[str]) -> None:
        super().__init__(LocalFileSystem())
        self._refused = refused

    def get_file_info(self, paths: list[str]) -> Any:
        for path in paths:
            self._count("look", path)
        return super().get_file_info(paths)

    def get_file_info_selector(self, selector: pafs.FileSelector) -> Any:
        self._count("list", selector.base_dir)
        return super().get_file_info_selector(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self._count("create", path)
        super().create_dir(path, recursive)

    def move(self, source: str, target: str) -> None:
        self._count("move", target)
        super().move(source, target)

    def copy_file(self, source: str, target: str) -> None:
        self._count("copy", target)
        super().copy_file(source, target)

    def delete_file(self, path: str) -> None:
        super().delete_file(path)
        self._count("delete", path)

    def delete_dir(self, path: str) -> None:
        super().delete_dir(path)
        self._count("delete", path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        super().delete_dir_contents(path, missing_dir_ok)
        self._count("empty", path)

    def open_input_file(self, path: str) -> object:
        self._count("read", path)
        return super().open_input_file(path)

    def open_input_stream(self, path: str) -> object:
        self._count("read", path)
        return super().open_input_stream(path)

    def open_output_stream(self, path: str, metadata: object) -> object:
        self._count("write", path)
        return super().open_output_stream(path, metadata)

    def _count(self, kind: str, path: str) -> None:
        CALLS[kind, path] += 1
        if kind in OPENING:
            OPENED[path.rpartition("/")[2]] += 1
        if kind in self._refused and CALLS[kind, path] == 1:
            raise OSError(f"When asked to {kind} {path}: AWS Error SLOW_DOWN during HeadObject operation")


def busy_disk(refused: Collection[str] = KINDS) -> pafs.FileSystem:
    """Return such a file system."""
    return pafs.PyFileSystem(_Watched(refused))


class CountedRun(Run):
    """A run whose opened files are counted in `OPENED`."""

    refused: ClassVar[Collection[str]] = ()

    @property
    def fs(self) -> pafs.FileSystem:
        return busy_disk(self.refused)


class BusyRun(CountedRun):
    """A run whose storage is too busy whenever a file is opened for the first time."""

    refused = OPENING


class VeryBusyRun(CountedRun):
    """A run whose storage is too busy for the first call of any kind at each path."""

    refused = KINDS
