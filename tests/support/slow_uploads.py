"""A run in a storage that takes checkpoints slowly, and is too busy for each at first."""

import time
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs as pafs

from brain_ray.runs import Run

TAKES_S = 0.5


class _Slow(pafs.FSSpecHandler):  # type: ignore[misc]
    """The local file system, slow to open a checkpoint's arrays; what happens, and when, is noted."""

    def __init__(self, notes: Path) -> None:
        super().__init__(LocalFileSystem())
        self._notes = notes

    def open_output_stream(self, path: str, metadata: object) -> object:
        folder, _, name = path.rpartition("/")
        if name == "state.npz":
            first = self._note(f"begins {folder}")
            time.sleep(TAKES_S)
            if first:
                raise OSError("When opening a file: AWS Error SLOW_DOWN during PutObject operation")
            self._note(f"ends {folder}")
        return super().open_output_stream(path, metadata)

    def _note(self, what: str) -> bool:
        """Note something; return whether it is the first time."""
        before = self._notes.read_text() if self._notes.exists() else ""
        self._notes.write_text(f"{before}{time.time()} {what}\n")
        return f" {what}\n" not in before


class SlowRun(Run):
    """A run in such a storage, whose notes are in the file `uploads`: time, `begins` or `ends`, folder."""

    @property
    def notes(self) -> Path:
        return Path(self.storage, "uploads")

    @property
    def fs(self) -> pafs.FileSystem:
        return pafs.PyFileSystem(_Slow(self.notes))
