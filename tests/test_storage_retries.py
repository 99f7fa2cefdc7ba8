"""Errors of a bucket that pass are waited for, and others are told at once."""

import errno
import gzip
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import tenacity
from pyarrow import fs as pafs
from support.watched_disk import CALLS, KINDS, VeryBusyRun, busy_disk

from brain_ray.runs import MARKER, STARTED, Run
from brain_ray.storage import describe_os_error
from brain_ray.storage_for_ray import patient
from brain_ray.storage_retries import (
    ATTEMPTS,
    delete_file,
    delete_folder,
    is_passing,
    read_file,
    retry_known,
)

SLOW_DOWN = OSError("When uploading part: AWS Error SLOW_DOWN during UploadPart operation")
AWAY = OSError("When listing objects: AWS Error NETWORK_CONNECTION during ListObjectsV2: curlCode: 6")
NOW = tenacity.wait_none()


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (SLOW_DOWN, True),
        (OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 28"), True),
        (OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body."), True),
        (OSError("AWS Error UNKNOWN (HTTP status 429) during HeadObject operation: No response body."), True),
        (OSError("google::cloud::Status(UNAVAILABLE: try again)"), True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (TimeoutError(), True),
        (OSError("AWS Error ACCESS_DENIED during PutObject operation"), False),
        (OSError("AWS Error NO_SUCH_BUCKET during PutObject operation"), False),
        (OSError("AWS Error UNKNOWN (HTTP status 301) during HeadBucket operation"), False),
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


class Storage:
    """Work with a storage that fails a number of times."""

    def __init__(self, uri: str, error: OSError) -> None:
        self.uri, self.error = uri, error
        self.calls = 0

    def work(self, failures: int) -> int:
        """Work until it succeeds or is given up; return the number of attempts."""
        self.calls = 0

        def fail() -> None:
            self.calls += 1
            if self.calls <= failures:
                raise self.error

        retry_known(self.uri, fail, NOW)
        return self.calls


def test_a_storage_is_waited_for_once_it_has_answered() -> None:
    away = Storage("s3://away/runs", AWAY)
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        away.work(failures=1)
    assert away.calls == 1, "at first contact: more likely than not, the address is wrong"
    assert away.work(failures=0) == 1
    assert away.work(failures=5) == ATTEMPTS
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        away.work(failures=99)
    assert away.calls == ATTEMPTS
    assert Storage("s3://away/other/folder", AWAY).work(failures=1) == 2, "it is the same bucket"
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        Storage("s3://away/runs?endpoint_override=elsewhere", AWAY).work(failures=1)


def test_a_storage_that_says_it_is_busy_has_answered() -> None:
    assert Storage("s3://busy/runs", SLOW_DOWN).work(failures=5) == ATTEMPTS
    with pytest.raises(OSError, match="SLOW_DOWN"):
        Storage("s3://busier/runs", SLOW_DOWN).work(failures=99)


ARRIVE = """
import pickle, sys, tenacity
from brain_ray.storage_retries import retry_known

run, calls = pickle.load(sys.stdin.buffer), []

def fail_at_first():
    calls.append(1)
    if len(calls) == 1:
        raise OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 6")

try:
    retry_known(run.storage, fail_at_first, tenacity.wait_none())
    print("waited")
except OSError:
    print("gave up")
"""


def test_a_process_that_is_sent_a_run_knows_whether_its_storage_has_answered() -> None:
    """A worker on a new node may find no name server in its first second."""
    run = Run("s3://sent/runs", "first")

    def send() -> str:
        command = [sys.executable, "-c", ARRIVE]
        done = subprocess.run(command, input=pickle.dumps(run), stdout=subprocess.PIPE, check=True)
        return done.stdout.decode().strip()

    assert send() == "gave up"
    Storage(run.storage, AWAY).work(failures=0)
    assert send() == "waited"


def test_a_busy_bucket_of_amazons_is_no_matter_of_googles_servers() -> None:
    said = describe_os_error(OSError("AWS Error SERVICE_UNAVAILABLE during GetObject operation: try again"))
    assert said == "AWS Error SERVICE_UNAVAILABLE during GetObject operation: try again"
    assert "Google's servers" in describe_os_error(OSError("google::cloud::Status(UNAVAILABLE: try again)"))


def test_a_packed_file_is_read_as_it_is(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(1_000_000))
    (tmp_path / "bomb.nii.gz").write_bytes(packed)
    assert read_file(pafs.LocalFileSystem(), str(tmp_path / "bomb.nii.gz")) == packed


def test_what_is_gone_at_the_second_attempt_was_deleted_by_the_first(tmp_path: Path) -> None:
    busy = busy_disk()
    for name in ("file", "folder/inner"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    delete_file(busy, str(tmp_path / "file"), NOW)
    delete_folder(busy, str(tmp_path / "folder"), NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_moved_and_emptied_in_a_storage_that_refuses_each_first_call(tmp_path: Path) -> None:
    run = VeryBusyRun(str(tmp_path), "run")
    there = Run(run.storage, run.name)
    for name in ("part", STARTED, MARKER):
        there.write_bytes(name.encode(), "dataset", name)
    CALLS.clear()
    run.move(("dataset",), ("kept", "one"))
    assert not there.exists("dataset")
    assert {name: there.read_bytes("kept", "one", name) for name in ("part", STARTED, MARKER)} == {
        "part": b"part", STARTED: STARTED.encode(), MARKER: MARKER.encode()
    }  # fmt: skip
    run.clear("kept")
    assert there.list_folders("kept") == []
    kinds = {kind for kind, _ in CALLS}
    assert kinds >= {"look", "list", "create", "move", "copy", "delete", "empty"}


def test_what_ray_itself_reads_and_writes_is_tried_again(tmp_path: Path) -> None:
    """Ray Train's own list of checkpoints, for one; without it, a training would end."""
    found = pickle.loads(pickle.dumps(patient(busy_disk(), NOW)))  # as the controller gets it
    assert found == patient(busy_disk(), NOW), "Ray compares it with that of a checkpoint"
    folder, file = f"{tmp_path}/train", f"{tmp_path}/train/list.json"
    CALLS.clear()
    found.create_dir(folder, recursive=True)
    with found.open_output_stream(file) as stream:
        stream.write(b"checkpoints")
    assert found.get_file_info(file).size == 11
    assert [info.path for info in found.get_file_info(pafs.FileSelector(folder))] == [file]
    with found.open_input_stream(file) as stream:
        assert stream.read() == b"checkpoints"
    with found.open_input_file(file) as stream:
        assert stream.read(5) == b"check"
    found.copy_file(file, f"{folder}/copy")
    found.delete_file(file)
    found.delete_dir_contents(folder)
    found.delete_dir(folder)
    assert {kind for kind, _ in CALLS} == set(KINDS) - {"move"}, "it moves nothing"
    assert list(tmp_path.iterdir()) == []
    disk = pafs.LocalFileSystem()
    assert patient(disk) is disk
