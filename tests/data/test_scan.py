"""Many small files of a bucket are read at a time, and come in their order."""

import io
import threading

import pytest

from brain_ray.data import scan
from brain_ray.data.sources import reader


class Bucket:
    """Answers only when so many files are asked for at a time, as one far away would want it."""

    def __init__(self, together: int) -> None:
        self._barrier = threading.Barrier(together, timeout=10)

    def open_input_stream(self, path: str) -> io.BytesIO:
        self._barrier.wait()
        if path.endswith("7"):
            raise OSError("gone")
        return io.BytesIO(path.encode())


def test_files_are_read_together_and_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "filesystem", lambda _: (Bucket(scan.NUM_READERS), "there"))
    paths = [str(number) for number in range(4 * scan.NUM_READERS)]
    found = list(scan.read_files("bucket", paths))
    for path, data in zip(paths, found, strict=True):
        if path.endswith("7"):
            assert isinstance(data, OSError)
        else:
            assert data == f"there/{path}".encode()
