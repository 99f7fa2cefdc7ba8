"""Reads the files of a listing by their paths, from a disk or from buckets."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock

from pyarrow import fs as pafs
from tenacity.wait import WaitBaseT

from brain_ray.cluster.request_rate import RateLimiter, requests_per_s
from brain_ray.data.file_names import local_name
from brain_ray.errors import RunError
from brain_ray.storage import describe_os_error, filesystem
from brain_ray.storage_retries import ATTEMPTS, WAIT, is_passing, patiently, read_file

REQUESTS_PER_FILE = 2
"""Requests by which Arrow reads a file of a bucket: for its size, and for its bytes."""


def _own_limiter() -> RateLimiter:
    return RateLimiter(requests_per_s() / REQUESTS_PER_FILE)


class FileReader:
    """Opens files below a root, and those that are named by URIs of their own; for use by several threads.

    A URI without a query takes that of the root, if both have the same scheme: they are on one server.
    """

    def __init__(
        self, root: str, wait: WaitBaseT = WAIT, limiter: Callable[[], RateLimiter] = _own_limiter
    ) -> None:
        """Opens a folder or URI.

        Args:
            root: the folder or URI.
            wait: time between two attempts to read a file of a bucket.
            limiter: makes what bounds the rate at which files of buckets are read.

        Raises:
            RunError: as of `storage.filesystem`.
        """
        self._root = root
        self._patiently = patiently(wait)
        self._make_limiter = limiter
        self._limiter: RateLimiter | None = None
        self._found, self._base = filesystem(root)
        self._others: dict[str, pafs.FileSystem] = {}
        self._lock = Lock()

    @property
    def folder(self) -> str | None:
        """Folder on the disk at which relative paths start; None: they start in a bucket."""
        return self._base if isinstance(self._found, pafs.LocalFileSystem) else None

    def place(self, path: str) -> tuple[pafs.FileSystem, str]:
        """Returns a file's file system, and its path within it.

        Raises:
            RunError: the path is a URI that cannot be opened, or contains keys.
        """
        if "://" not in path:
            return self._found, f"{self._base.rstrip('/')}/{path}"
        base, mark, query = path.partition("?")
        scheme, _, rest = base.partition("://")
        root_scheme, _, root_rest = self._root.partition("://")
        if not mark and scheme == root_scheme:
            _, mark, query = root_rest.partition("?")
        bucket, _, key = rest.partition("/")
        server = f"{scheme}://{bucket}{mark}{query}"
        with self._lock:
            if server not in self._others:
                self._others[server] = filesystem(server)[0]
            return self._others[server], f"{bucket}/{key}"

    def read(self, path: str) -> bytes:
        """Returns a file's bytes.

        Raises:
            OSError: it cannot be read, now or later.
            RunError: a bucket fails again and again in a way that passes, which says nothing of the file.
        """
        found, place = self.place(path)
        if isinstance(found, pafs.LocalFileSystem):
            return Path(local_name(place)).read_bytes()  # pyarrow takes no name that is not UTF-8
        try:
            return self._patiently(self._read_limited, found, place)
        except OSError as error:
            if not is_passing(error):
                raise
            raise RunError(
                f"cannot read {path}, in {ATTEMPTS} attempts: {describe_os_error(error)}; the same command "
                "begins this stage anew"
            ) from error

    def _read_limited(self, found: pafs.FileSystem, place: str) -> bytes:
        with self._lock:
            self._limiter = self._limiter or self._make_limiter()
        self._limiter.acquire()
        return read_file(found, place)
