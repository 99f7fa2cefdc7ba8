"""Many small files of a bucket are read at a time, and come in their order."""

import io
import threading

import pytest
import tenacity

from brain_ray import storage_retries
from brain_ray.cluster.request_rate import RateLimiter
from brain_ray.data import scan
from brain_ray.data.sources import reader
from brain_ray.errors import RunError


class Bucket:
    """Answers only when so many files are asked for at a time, as one far away would want it."""

    def __init__(self, together: int) -> None:
        self._barrier = threading.Barrier(together, timeout=10)

    def open_input_stream(self, path: str, compression: str | None = "detect") -> io.BytesIO:
        assert compression is None  # or Arrow would unpack what is packed
        self._barrier.wait()
        if path.endswith("7"):
            raise FileNotFoundError("gone")
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


class Hiccups(Bucket):
    """Fails every fiftieth time, or always."""

    def __init__(self, every: int, error: str = "AWS Error SLOW_DOWN during GetObject operation") -> None:
        self.calls = 0
        self._every, self._error, self._lock = every, error, threading.Lock()

    def open_input_stream(self, path: str, compression: str | None = "detect") -> io.BytesIO:
        with self._lock:
            self.calls += 1
            if self.calls % self._every == 0:
                raise OSError(self._error)
        return io.BytesIO(path.encode())


def test_what_a_bucket_refuses_for_a_moment_is_read_and_not_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Hiccups(50)
    monkeypatch.setattr(reader, "filesystem", lambda _: (bucket, "there"))
    paths = [str(number) for number in range(120)]
    assert list(scan.read_files("bucket", paths)) == [f"there/{path}".encode() for path in paths]
    assert bucket.calls == 122


def test_each_attempt_at_a_file_of_a_bucket_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, waited = Hiccups(4), []
    monkeypatch.setattr(reader, "filesystem", lambda _: (bucket, "there"))
    limiter = RateLimiter(
        1e9, sleep=waited.append, clock=lambda: -float(bucket.calls)
    )  # it is always too early
    files = reader.FileReader("bucket", tenacity.wait_none(), lambda: limiter)
    for number in range(6):
        files.read(str(number))
    assert len(waited) == bucket.calls - 1 == 6, (
        "one of seven was another attempt, and the first need not wait"
    )


def test_a_bucket_that_fails_on_and_on_ends_the_work_and_rejects_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = Hiccups(1)
    monkeypatch.setattr(reader, "filesystem", lambda _: (bucket, "there"))
    with pytest.raises(RunError, match=r"^cannot read a, in 6 attempts: AWS Error SLOW_DOWN .*; the same"):
        reader.FileReader("bucket", tenacity.wait_none()).read("a")
    assert bucket.calls == storage_retries.ATTEMPTS


@pytest.mark.parametrize(
    "error", ["AWS Error ACCESS_DENIED during GetObject", "AWS Error NO_SUCH_KEY during GetObject operation"]
)
def test_what_no_other_attempt_cures_is_told_at_once(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Hiccups(1, error)
    monkeypatch.setattr(reader, "filesystem", lambda _: (bucket, "there"))
    (found,) = scan.read_files("bucket", ["a"])
    assert str(found) == error
    assert bucket.calls == 1
