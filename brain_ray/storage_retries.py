"""Errors of a bucket that pass: which they are, and attempts with growing pauses until they have passed."""

import re
from collections.abc import Callable
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

LASTING = "NO_SUCH|NOT_FOUND|not found|DENIED|INVALID_ACCESS_KEY|SIGNATURE|UNAUTHENTICATED|EXPIRED_TOKEN"
"""Pattern of errors that another attempt does not cure: a bucket or object is missing, or keys are wrong."""


def is_passing(error: BaseException) -> bool:
    """Returns whether an error of a bucket may pass: it is too busy, or not in reach.

    An error of a disk has a number, by which it is known; none of them counts as passing.
    """
    if not isinstance(error, OSError) or error.errno is not None:
        return isinstance(error, ConnectionError | TimeoutError)
    return not isinstance(error, FileNotFoundError) and not re.search(LASTING, str(error))


def patiently(wait: WaitBaseT = WAIT) -> tenacity.Retrying:
    """Returns a function that calls another one, again after errors that pass; it raises the last error."""
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=wait,
        retry=tenacity.retry_if_exception(is_passing),
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


def write_file(found: pafs.FileSystem, path: str, data: bytes) -> None:
    """Writes a file of a file system atomically, and as it is: a reader sees the old content or the new
    content, complete.

    Raises:
        OSError: it cannot be written.
    """
    local = isinstance(found, pafs.LocalFileSystem)
    written = f"{path}.partial" if local else path  # a bucket shows an object only when it is closed
    # By its name, Arrow would pack a .nii.gz once more.
    with found.open_output_stream(written, compression=None) as stream:
        stream.write(data)
    if local:
        found.move(written, path)


_KNOWN: set[str] = set()
"""Storages that have answered this process."""


def retry_known(storage: str, work: Callable[[], T], wait: WaitBaseT = WAIT) -> T:
    """Does some work with a storage; again after errors that pass, if the storage has answered before.

    At first contact an error is raised soon: more likely than not, an address is wrong.
    """
    if storage in _KNOWN:
        return patiently(wait)(work)
    found = work()
    _KNOWN.add(storage)
    return found
