"""Storage: paths and URIs, their file systems, and what to do about a storage's error."""

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
    "UNAVAILABLE|UNAUTHENTICATED|PERMISSION_DENIED": (
        "see that Google's servers are in reach, and that GOOGLE_APPLICATION_CREDENTIALS names a key for it"
    ),
}
"""What to do about an error of a bucket, by what its text holds."""


NOISE = r"^When .*?: (?=AWS Error)|\(Request ID.*|error_info=\{.*?\}\}(?=\))"
"""What those texts hold that tells a person nothing."""


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
"""A URI in a text, to the text's end; those that are typed most often also with one slash too few."""


USER_SCHEMES = {"abfs", "abfss", "hdfs", "viewfs", "postgresql", "mysql"}
"""Schemes whose URIs name a container or a user before an `@`, which is no secret without a password."""


PARAMETERS = {
    "allow_bucket_creation",
    "allow_bucket_deletion",
    "endpoint_override",
    "project_id",
    "region",
    "retry_limit_seconds",
    "scheme",
}
"""Names in the queries of URIs that pyarrow reads, and whose values are no secrets."""


RETRY_S = 10
"""For which Google Cloud Storage is tried again, instead of for a quarter of an hour."""


def resolve(location: str) -> str:
    """Make a path absolute and leave a URI as it is, so that workers in other folders find the same place."""
    return location if "://" in location else str(Path(location).expanduser().resolve())


def refuse_keys(text: str) -> None:
    """Refuse a URI, or a word with one in it, that holds keys: URIs are printed, and stored in config.json.

    Keys may hold any character: what can be a key is taken for one. Also refused is therefore a port that is
    no number, an `@` behind a host with a port, and all but `PARAMETERS` in a query.

    Raises:
        RunError: it holds what can be a key; the error does not hold it.
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
    """Refuse a command line with keys in it, before anything prints a word of it.

    Args:
        words: the command line, without the program's name.
        but: an option whose value is not looked at.

    Raises:
        RunError: as `refuse_keys`, with the option's name.
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
    """Tell whether a user's name and key, or one of them, may stand before a URI's host."""
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
    """Tell whether a query or a fragment holds more than what is known to be harmless."""
    tail = "".join(re.findall("[?#].*", rest, re.DOTALL))
    for mark, part in re.findall("([?#&;])([^?#&;]*)", tail):
        route = mark == "#" and part.startswith("/") and "=" not in part  # of a page, as MLflow's own
        if part and not route and unquote(part.partition("=")[0]) not in PARAMETERS:
            return True
    return "@" in unquote(tail)


def filesystem(location: str) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem of a path or URI, and the path within it.

    Raises:
        RunError: the URI's scheme is not one that pyarrow reads, its bucket's region cannot be found out, or
            it holds keys.
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
    """Rebuild a bucket's filesystem so that it gives up soon, in each process alike.

    One of S3 made from a URI tries for 100 s where packets vanish, a rebuilt or unpickled one three times,
    for some 10 s. Folders that are there it leaves alone when it makes another below them: it may not be
    allowed to write them.
    """
    rebuild, (options,) = found.__reduce__()
    if found.type_name == "s3":
        options["check_directory_existence_before_creation"] = True
    elif options["retry_time_limit"] is None:
        options["retry_time_limit"] = timedelta(seconds=RETRY_S)
    return rebuild(options)


def describe_os_error(error: OSError) -> str:
    """Return what a storage said in a line, with what to do about it where that is known."""
    said = " ".join(re.sub(NOISE, "", str(error)).split()).rstrip(".")
    cures = [cure for text, cure in CURES.items() if re.search(text, said)]
    return "; ".join([said, *cures[:1]])


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Say what was wanted of a storage, such as `read s3://bucket/x`, when it refuses or does not answer.

    What is not there is no such error.

    Raises:
        RunError: it is one.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise RunError(f"cannot {what}: {describe_os_error(error)}") from error


def subfolders(found: pafs.FileSystem, folder: str) -> list[str]:
    """Return the sorted names of a folder's folders; none of one that is not there.

    Google Cloud Storage lists a folder only if it was made as one, which uploading files does not: there, all
    that is below is listed.
    """
    selector = pafs.FileSelector(folder, allow_not_found=True, recursive=found.type_name == "gcs")
    names = set()
    for info in found.get_file_info(selector):
        first, *deeper = info.path.removeprefix(folder).strip("/").split("/")
        if deeper or info.type == pafs.FileType.Directory:
            names.add(first)
    return sorted(names)
