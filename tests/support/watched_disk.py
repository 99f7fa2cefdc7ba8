"""Runs on a local file system that counts opened files; of one it is busy at first, as a bucket may be."""

from collections import Counter
from typing import ClassVar

from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs as pafs

from brain_ray.runs import Run

OPENED: Counter[str] = Counter()
"""How often each file was opened by such a run in this process, by its name."""


class _Counting(pafs.FSSpecHandler):  # type: ignore[misc]
    """The local file system; the first openings of each file fail."""

    def __init__(self, failures: int) -> None:
        super().__init__(LocalFileSystem())
        self._failures = failures

    def open_input_file(self, path: str) -> object:
        self._count(path)
        return super().open_input_file(path)

    def open_input_stream(self, path: str) -> object:
        self._count(path)
        return super().open_input_stream(path)

    def open_output_stream(self, path: str, metadata: object) -> object:
        self._count(path)
        return super().open_output_stream(path, metadata)

    def _count(self, path: str) -> None:
        name = path.rpartition("/")[2]
        OPENED[name] += 1
        if OPENED[name] <= self._failures:
            raise OSError("When opening a file: AWS Error SLOW_DOWN during GetObject operation")


class CountedRun(Run):
    """A run whose opened files are counted in `OPENED`."""

    failures: ClassVar[int] = 0

    @property
    def fs(self) -> pafs.FileSystem:
        return pafs.PyFileSystem(_Counting(self.failures))


class BusyRun(CountedRun):
    """A run whose storage is too busy whenever a file is opened for the first time."""

    failures = 1
