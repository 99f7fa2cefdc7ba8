"""Storage: paths and URIs, their file systems, and advice for a storage's errors."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

from pyarrow import ArrowInvalid
from pyarrow import fs as pafs

from brain_ray.errors import RunError

CURES = {
    "NETWORK_CONNECTION": (
        "see that the server runs, and where AWS_ENDPOINT_URL or the URI's endpoint_override say it is"
    ),
    r"NO_SUCH_BUCKET|Bucket '.*' not found|Status\(NOT_FOUND": "make the bucket first, or correct its name",
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE": (
        "see that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile, are those of this storage"
    ),
    r"\bUNAVAILABLE|UNAUTHENTICATED|PERMISSION_DENIED": (
        "see that Google's servers are in reach, and that GOOGLE_APPLICATION_CREDENTIALS names a key for it"
    ),
}
"""What to do about a bucket's error, by a part of its text."""


NOISE = r"^When .*?: (?=AWS Error)|\(Request ID.*|error_info=\{.*?\}\}(?=\))"
"""Parts of those texts that are of no use to a user."""


KEY_VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "a file that GOOGLE_APPLICATION_CREDENTIALS names",
    "http": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (MLflow) or RAY_AUTH_TOKEN (a cluster)",
    "https": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (MLflow) or RAY_AUTH_TOKEN (a cluster)",
}
"""Where keys for a URI's scheme belong, on every node."""


URI = re.compile(
    r"(?P<scheme>\b(?:s3|gs|https?)(?=:/)|[a-z][a-z0-9+.-]+(?=://)):(?P<slashes>/+)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
"""Pattern of a URI in a text, up to the text's end; for common schemes, one slash may be missing."""


USER_SCHEMES = {"abfs", "abfss", "hdfs", "viewfs", "postgresql", "mysql"}
"""Schemes whose URIs have a container or a user before an `@`, which is no secret without a password."""


PARAMETERS = {
    "allow_bucket_creation",
    "allow_bucket_deletion",
    "endpoint_override",
    "project_id",
    "region",
    "retry_limit_seconds",
    "scheme",
}
"""Query parameters of URIs that pyarrow reads and whose values are no secrets."""


RETRY_S = 10
"""Retry limit for Google Cloud Storage in seconds (its default is 15 minutes)."""


def resolve(location: str) -> str:
    """Returns a path as an absolute path, so that workers in other folders find the same place; URIs are
    unchanged."""
    return location if "://" in location else str(Path(location).expanduser().resolve())


def refuse_keys(text: str) -> None:
    """Refuses a URI, or a word that contains one, with keys in it: URIs are printed, and stored in
    config.json.

    Keys may contain any character, so everything that could be a key counts as one. Therefore also refused: a
    port that is no number, an `@` behind a host with a port, and query parameters not in `PARAMETERS`.

    Raises:
        RunError: the text contains what could be a key; the error does not repeat it.
    """
    found = URI.search(text)
    if not found:
        return
    scheme, slashes, rest = found["scheme"].lower(), found["slashes"], found["rest"]
    names = KEY_VARIABLES.get(scheme, "the variables that docs/STORAGE.md names")
    cure = f"which would be printed and stored: give the keys in {names}, and the URI without them"
    if _has_login(scheme, slashes, rest):
        raise RunError(f"a URI with keys in it ({scheme}://KEY:SECRET@...), {cure}")
    if _has_secret_parameter(rest):
        known = ", ".join(sorted(PARAMETERS))
        raise RunError(
            f"a URI with what may be a key after its ? or # ({scheme}://...?NAME=SECRET), {cure}; names that "
            f"are known to be none: {known}"
        )


def refuse_keys_in(words: Iterable[str], but: str = "") -> None:
    """Refuses a command line with keys in it, before any of it is printed.

    Args:
        words: the command line, without the program's name.
        but: an option whose value is not checked.

    Raises:
        RunError: like `refuse_keys`, with the option's name.
    """
    option, exempt = "", False
    for word in words:
        name, mark, _ = word.partition("=")
        if re.fullmatch(r"--[\w.-]+", name):
            option = name
        if exempt or name == but:
            exempt = name == but and not mark
            continue
        try:
            refuse_keys(word)
        except RunError as error:
            where = option.removeprefix("--").replace("-", "_") if option else "a word of the command line"
            raise RunError(f"{where} is {error}") from error


def _has_login(scheme: str, slashes: str, rest: str) -> bool:
    """Returns whether a user name, a key, or both may stand before a URI's host."""
    authority = unquote(re.split("[/?#]", rest, maxsplit=1)[0])
    if len(slashes) > 2 and scheme not in KEY_VARIABLES:
        authority = ""  # file:///home, which has no host
    user, at, host = authority.rpartition("@")
    harmless = scheme in USER_SCHEMES or (scheme, user) == ("gs", "anonymous")
    if at and (":" in user or not harmless):
        return True
    if not re.fullmatch(r"(\[[^]]*\]|[^:]*)(:\d*)?", host):
        return True  # KEY:SECRET/WITH/SLASHES@host, of which the first slash seems to begin the path
    return not at and "@" in rest and (":" in authority or scheme in ("http", "https"))


def _has_secret_parameter(rest: str) -> bool:
    """Returns whether a query or a fragment contains anything that is not known to be harmless."""
    tail = "".join(re.findall("[?#].*", rest, re.DOTALL))
    for mark, part in re.findall("([?#&;])([^?#&;]*)", tail):
        route = mark == "#" and part.startswith("/") and "=" not in part  # of a page, as MLflow's own
        if part and not route and unquote(part.partition("=")[0]) not in PARAMETERS:
            return True
    return "@" in unquote(tail)


def filesystem(location: str) -> tuple[pafs.FileSystem, str]:
    """Returns the filesystem of a path or URI, and the path within it.

    Raises:
        RunError: pyarrow does not read the URI's scheme, its bucket's region cannot be found, or it contains
            keys.
    """
    refuse_keys(location)
    location = resolve(location)
    if "://" not in location:
        return pafs.LocalFileSystem(), location
    try:
        found, path = pafs.FileSystem.from_uri(location)
    except ArrowInvalid as error:
        raise RunError(
            f"cannot open {location}: {error}; expected a path, s3://, gs:// or file://"
        ) from error
    except OSError as error:
        raise RunError(f"cannot open {location}: {describe_os_error(error)}") from error
    return (_limited(found) if found.type_name in ("s3", "gcs") else found), path


def _limited(found: pafs.FileSystem) -> pafs.FileSystem:
    """Returns a bucket's filesystem rebuilt so that it gives up soon, in the same way in each process.

    An S3 filesystem made from a URI retries for 100 s if packets are lost; a rebuilt or unpickled one tries
    three times, for some 10 s. It does not touch existing folders when it makes another below them: it may
    have no permission to write them.
    """
    rebuild, (options,) = found.__reduce__()
    if found.type_name == "s3":
        options["check_directory_existence_before_creation"] = True
    elif options["retry_time_limit"] is None:
        options["retry_time_limit"] = timedelta(seconds=RETRY_S)
    return rebuild(options)


def describe_os_error(error: OSError) -> str:
    """Returns a storage's error as one line, with what to do about it if that is known."""
    said = " ".join(re.sub(NOISE, "", str(error)).split()).rstrip(".")
    cures = [cure for text, cure in CURES.items() if re.search(text, said)]
    return "; ".join([said, *cures[:1]])


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Adds the operation, such as `read s3://bucket/x`, to errors of a storage inside the block.

    A missing file is not such an error.

    Raises:
        RunError: the storage refused, or did not answer.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise RunError(f"cannot {what}: {describe_os_error(error)}") from error


def subfolders(found: pafs.FileSystem, folder: str) -> list[str]:
    """Returns the sorted names of a folder's folders; none if the folder does not exist.

    Google Cloud Storage lists a folder only if it was created as one, which an upload of files does not do;
    so there everything below is listed.
    """
    selector = pafs.FileSelector(folder, allow_not_found=True, recursive=found.type_name == "gcs")
    names = set()
    for info in found.get_file_info(selector):
        first, *deeper = info.path.removeprefix(folder).strip("/").split("/")
        if deeper or info.type == pafs.FileType.Directory:
            names.add(first)
    return sorted(names)
