"""A run on a local file system that notes which files are opened."""

from collections import Counter

from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs as pafs

from brain_ray.runs import Run

OPENED: Counter[str] = Counter()
"""How often each file was opened by a `CountedRun` of this process, by its name."""


class _Counting(pafs.FSSpecHandler):  # type: ignore[misc]
    """The local file system."""

    def open_input_file(self, path: str) -> object:
        OPENED[path.rpartition("/")[2]] += 1
        return super().open_input_file(path)

    def open_input_stream(self, path: str) -> object:
        OPENED[path.rpartition("/")[2]] += 1
        return super().open_input_stream(path)


class CountedRun(Run):
    """A run whose opened files are counted in `OPENED`."""

    @property
    def fs(self) -> pafs.FileSystem:
        return pafs.PyFileSystem(_Counting(LocalFileSystem()))
