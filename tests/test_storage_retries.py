"""Errors of a bucket that pass are waited for, and others are told at once."""

import errno
import gzip
from pathlib import Path

import pytest
import tenacity
from pyarrow import fs as pafs

from brain_ray.storage_retries import ATTEMPTS, is_passing, read_file, retry_known

SLOW_DOWN = OSError("When uploading part: AWS Error SLOW_DOWN during UploadPart operation")


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (SLOW_DOWN, True),
        (OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 28"), True),
        (OSError("google::cloud::Status(UNAVAILABLE: try again)"), True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (TimeoutError(), True),
        (OSError("AWS Error ACCESS_DENIED during PutObject operation"), False),
        (OSError("AWS Error NO_SUCH_BUCKET during PutObject operation"), False),
        (OSError("google::cloud::Status(NOT_FOUND: no such bucket)"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EIO, "Input/output error"), False),
        (PermissionError(errno.EACCES, "no"), False),
        (FileNotFoundError("gone"), False),
        (ValueError("SLOW_DOWN"), False),
    ],
)
def test_errors_that_pass_are_told_from_others(error: Exception, passing: bool) -> None:
    assert is_passing(error) == passing


def test_a_storage_that_has_answered_is_waited_for() -> None:
    calls: list[str] = []

    def fail_often(name: str, times: int) -> str:
        calls.append(name)
        if calls.count(name) <= times:
            raise SLOW_DOWN
        return name

    with pytest.raises(OSError, match="SLOW_DOWN"):
        retry_known("s3://first-contact", lambda: fail_often("a", 1), tenacity.wait_none())
    assert retry_known("s3://first-contact", lambda: fail_often("b", 0), tenacity.wait_none()) == "b"
    assert retry_known("s3://first-contact", lambda: fail_often("c", 5), tenacity.wait_none()) == "c"
    assert calls.count("c") == ATTEMPTS
    with pytest.raises(OSError, match="SLOW_DOWN"):
        retry_known("s3://first-contact", lambda: fail_often("d", 99), tenacity.wait_none())
    assert calls.count("d") == ATTEMPTS


def test_a_packed_file_is_read_as_it_is(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(1_000_000))
    (tmp_path / "bomb.nii.gz").write_bytes(packed)
    assert read_file(pafs.LocalFileSystem(), str(tmp_path / "bomb.nii.gz")) == packed
