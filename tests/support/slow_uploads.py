"""A run in a storage that takes checkpoints slowly, and is too busy for each at first."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs as pafs

from brain_ray.runs import Run
from brain_ray.training.uploads import UPLOADING

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


def waiting_uploads() -> set[Path]:
    """Returns the folders from which something is being uploaded."""
    return set(Path(tempfile.gettempdir()).glob(f"{UPLOADING}*"))


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Sees that no folder is left from which something was uploaded meanwhile."""
    before = waiting_uploads()
    yield
    assert waiting_uploads() <= before


def check_uploads(notes: Path, steps: Path, said: Sequence[float]) -> None:
    """Sees that three states were uploaded while training went on, and told of when they were kept.

    Args:
        notes: of a `SlowRun`.
        steps: a file with the time and the epoch of each step.
        said: when each epoch was told of.
    """
    times: dict[str, list[float]] = {}
    for line in notes.read_text().splitlines():
        moment, _, folder = line.split()
        times.setdefault(folder, []).append(float(moment))
    assert [len(found) for found in times.values()] == [3, 3, 3], "each is begun twice, and ends"
    first = next(iter(times.values()))
    second_epoch = [float(line.split()[0]) for line in steps.read_text().splitlines() if line[-1] == "1"]
    assert sum(first[0] < moment < first[-1] for moment in second_epoch) > 2
    assert all(one[-1] <= other[0] for one, other in pairwise(times.values())), "one at a time"
    kept = [found[-1] for found in times.values()]
    assert all(one <= other for one, other in zip(kept, said, strict=True)), "told of when they are kept"
