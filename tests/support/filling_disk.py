"""A run on a local file system that is full from a certain moment on."""

import errno
import os
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs as pafs

from brain_ray.runs import Run


class _Filling(pafs.FSSpecHandler):  # type: ignore[misc]
    """The local file system, full as soon as there is a certain file, for paths that contain its text."""

    def __init__(self, sign: str) -> None:
        super().__init__(LocalFileSystem())
        self.sign = sign

    def open_output_stream(self, path: str, metadata: object) -> object:
        sign = Path(self.sign)
        if sign.exists() and sign.read_text() in path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return super().open_output_stream(path, metadata)


class FillingRun(Run):
    """A run whose file system is full as soon as there is a file `full` in its storage: see `_Filling`."""

    @property
    def fs(self) -> pafs.FileSystem:
        return pafs.PyFileSystem(_Filling(f"{self.storage}/full"))
