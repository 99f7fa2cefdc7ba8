"""Errors of a bucket that pass: which they are, and attempts with growing pauses until they have passed."""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import tenacity
from pyarrow import fs as pafs
from tenacity.wait import WaitBaseT

T = TypeVar("T")

ATTEMPTS = 6
"""Largest number of attempts."""

WAIT = tenacity.wait_random_exponential(multiplier=1, max=30)
"""Time between two attempts: up to 1, 2, 4, 8 and 16 s, at random, so that many tasks do not come back
together."""

COPIERS = 16
"""Number of files that are copied at a time within a bucket, which answers slowly."""

PIECE = 2**23
"""Bytes of a file that are copied at a time."""

LASTING = (
    "NO_SUCH|NOT_FOUND|not found|DENIED|INVALID_ACCESS_KEY|SIGNATURE|UNAUTHENTICATED|EXPIRED_TOKEN|"
    r"HTTP status (?!408|429)[34]\d\d"
)
"""Pattern of errors that another attempt does not cure: a bucket or object is missing, or keys are wrong."""

UNREACHED = r"NETWORK_CONNECTION|\bUNAVAILABLE|[Tt]imed? ?out|resolving region"
"""Pattern of errors without an answer: the bucket is out of reach for a moment, or its address is wrong."""


def is_passing(error: BaseException) -> bool:
    """Returns whether an error of a bucket may pass: it is too busy, or not in reach.

    An error of a disk has a number, by which it is known; none of them counts as passing.
    """
    if not isinstance(error, OSError) or error.errno is not None:
        return isinstance(error, ConnectionError | TimeoutError)
    return not isinstance(error, FileNotFoundError) and not re.search(LASTING, str(error))


def has_answered(error: BaseException) -> bool:
    """Returns whether an error may pass, and is the answer of a bucket that was reached."""
    away = isinstance(error, ConnectionError | TimeoutError) or re.search(UNREACHED, str(error))
    return is_passing(error) and not away


def patiently(
    wait: WaitBaseT = WAIT, passes: Callable[[BaseException], bool] = is_passing
) -> tenacity.Retrying:
    """Returns a function that calls another one, again after errors that pass; it raises the last error."""
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=wait,
        retry=tenacity.retry_if_exception(passes),
        reraise=True,
    )


def read_file(found: pafs.FileSystem, path: str) -> bytes:
    """Returns the content of a file of a file system, read at once, and not unpacked.

    Raises:
        OSError: it cannot be read.
    """
    # By its name, Arrow would unpack a .nii.gz, whatever its size becomes; the decoder does it within limits.
    with found.open_input_stream(path, compression=None) as stream:
        return bytes(stream.read())


def write_file(found: pafs.FileSystem, path: str, data: bytes | Path) -> None:
    """Writes a file of a file system atomically, and as it is: a reader sees the old content or the new
    content, complete.

    Args:
        found: file system of the file.
        path: its path there.
        data: its content, or a local file with it, which is copied piece by piece.

    Raises:
        OSError: it cannot be written.
    """
    local = isinstance(found, pafs.LocalFileSystem)
    written = f"{path}.partial" if local else path  # a bucket shows an object only when it is closed
    # By its name, Arrow would pack a .nii.gz once more.
    with found.open_output_stream(written, compression=None) as stream:
        if isinstance(data, bytes):
            stream.write(data)
        else:
            with data.open("rb") as file:
                while piece := file.read(PIECE):
                    stream.write(piece)
                    stream.flush()  # to S3, it would hold all that it has not sent
    if local:
        found.move(written, path)


def delete_file(found: pafs.FileSystem, path: str, wait: WaitBaseT = WAIT) -> None:
    """Deletes a file, again after errors that pass; one that is gone is no error, as its deletion may have
    succeeded though the answer was lost.

    Raises:
        OSError: it cannot be deleted.
    """
    with suppress(FileNotFoundError):
        patiently(wait)(found.delete_file, path)


def delete_folder(found: pafs.FileSystem, path: str, wait: WaitBaseT = WAIT) -> None:
    """Deletes a folder and all that is in it, like `delete_file`."""
    with suppress(FileNotFoundError):
        patiently(wait)(found.delete_dir, path)


def copy_folder(found: pafs.FileSystem, source: str, target: str, last: Sequence[str] = ()) -> None:
    """Copies all files below a folder within a file system, each again after errors that pass; those that
    are named as `last` when all others are there.

    Raises:
        OSError: one cannot be copied.
    """
    infos = patiently()(found.get_file_info, pafs.FileSelector(source, recursive=True))
    names = [info.path[len(source) :] for info in infos if info.type == pafs.FileType.File]
    at_last = [f"/{name}" for name in last if f"/{name}" in names]

    def copy(name: str) -> None:
        if found.type_name != "s3":  # which has only the names of objects
            patiently()(found.create_dir, f"{target}{name}".rpartition("/")[0], recursive=True)
        patiently()(found.copy_file, f"{source}{name}", f"{target}{name}")

    with ThreadPoolExecutor(COPIERS) as pool:
        list(pool.map(copy, [name for name in names if name not in at_last]))
    for name in at_last:
        copy(name)


_KNOWN: set[str] = set()
"""Buckets that have answered this process, or the one that sent it a run; and folders of disks."""


def _bucket(storage: str) -> str:
    """Returns a URI up to its bucket, with its query, which may name the server; a path is unchanged."""
    base, mark, query = storage.partition("?")
    scheme, there, rest = base.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}{mark}{query}" if there else storage


def is_known(storage: str) -> bool:
    """Returns whether the bucket of a path or URI has answered."""
    return _bucket(storage) in _KNOWN


def note_answer(storage: str) -> None:
    """Notes that the bucket of a path or URI has answered: its address is right."""
    _KNOWN.add(_bucket(storage))


def retry_known(storage: str, work: Callable[[], T], wait: WaitBaseT = WAIT) -> T:
    """Does some work with a storage; again after errors that pass.

    At first contact, the error of a bucket that was not reached is raised at once: more likely than not, its
    address is wrong.
    """
    found = patiently(wait, is_passing if is_known(storage) else has_answered)(work)
    note_answer(storage)
    return found
