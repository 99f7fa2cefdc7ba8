"""A run's folder: its paths on a disk or in a bucket, atomic writes, and which stages are finished."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pyarrow import ArrowInvalid
from pyarrow import fs as pafs

MARKER = "stage.json"
"""Written last into a stage's folder: without it, the stage never counts as done."""

STARTED = "started.json"
"""Written first into a stage's folder: what a half-finished stage was started with."""

COPIERS = 16
"""Files that are copied at a time where a folder cannot be renamed: buckets answer late."""

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


class RunError(RuntimeError):
    """Something a person has to set right; its text says what was found, where, and what to do."""


def resolve(location: str) -> str:
    """Make a path absolute and leave a URI as it is, so that workers in other folders find the same place."""
    return location if "://" in location else str(Path(location).expanduser().resolve())


def printable(text: str, keep: str = "") -> str:
    """Replace what steers a terminal (control and format characters, line breaks) by U+FFFD.

    For texts that may come from elsewhere: file names, an endpoint's errors.

    Args:
        text: what is to be printed.
        keep: characters that stay as they are, such as line breaks.
    """
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


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
        raise RunError(f"cannot open {location}: {cause_of(error)}") from error
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


def cause_of(error: OSError) -> str:
    """Return what a storage said in a line, with what to do about it where that is known."""
    said = " ".join(re.sub(NOISE, "", str(error)).split()).rstrip(".")
    cures = [cure for text, cure in CURES.items() if re.search(text, said)]
    return "; ".join([said, *cures[:1]])


@contextmanager
def reaching(what: str) -> Iterator[None]:
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
        raise RunError(f"cannot {what}: {cause_of(error)}") from error


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


def digest(value: object) -> str:
    """SHA-256 (hex) of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested settings into dotted names: {"train": {"epochs": 3}} -> {"train.epochs": 3}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List what changed between two sets of inputs, as `name: before -> now`, or `name: not the same`."""
    old, new = flatten(before), flatten(now)
    return [
        f"{name}: {_told(old.get(name), new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _told(old: object, new: object) -> str:
    if all(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in (old, new)):
        return "not the same"
    return f"{json.dumps(old)} -> {json.dumps(new)}"


@dataclass(frozen=True)
class Run:
    """One run's folder, `<storage>/<name>`; picklable, so that workers can write into it."""

    storage: str
    """Absolute path or URI: a worker in another folder finds the same place."""
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "storage", resolve(self.storage))

    @cached_property
    def _opened(self) -> tuple[pafs.FileSystem, str]:
        return filesystem(self.uri())

    @property
    def fs(self) -> pafs.FileSystem:
        """The filesystem that the run lives on."""
        return self._opened[0]

    @property
    def _makes_folders(self) -> bool:
        """Whether a folder is listed only if it was made; in S3, it is what the names of its objects say."""
        return bool(self.fs.type_name != "s3")

    def uri(self, *parts: str) -> str:
        """Return the absolute path or URI of something in the run."""
        base, mark, query = self.storage.partition("?")
        return "/".join([base.rstrip("/"), self.name, *parts]) + mark + query

    def path(self, *parts: str) -> str:
        """Return the path of something in the run, within its filesystem."""
        return "/".join([self._opened[1], *parts])

    def exists(self, *parts: str) -> bool:
        """Tell whether a file or folder is there."""
        with reaching(f"read {self.uri(*parts)}"):
            return bool(self.fs.get_file_info(self.path(*parts)).type != pafs.FileType.NotFound)

    def list_files(self, *parts: str, suffix: str = "") -> list[str]:
        """Return the sorted paths, within the filesystem, of a folder's files that end in `suffix`."""
        selector = pafs.FileSelector(self.path(*parts), allow_not_found=True)
        with reaching(f"read {self.uri(*parts)}"):
            return sorted(info.path for info in self.fs.get_file_info(selector) if info.path.endswith(suffix))

    def list_folders(self, *parts: str) -> list[str]:
        """Return the sorted names of a folder's folders."""
        with reaching(f"read {self.uri(*parts)}"):
            return subfolders(self.fs, self.path(*parts))

    def read_bytes(self, *parts: str) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: there is none.
            RunError: the storage refuses, or does not answer.
        """
        with reaching(f"read {self.uri(*parts)}"), self.fs.open_input_stream(self.path(*parts)) as stream:
            return bytes(stream.read())

    def write_bytes(self, data: bytes, *parts: str) -> None:
        """Write a file so that a reader sees the old one or the new one, whole."""
        target = self.path(*parts)
        local = isinstance(self.fs, pafs.LocalFileSystem)
        written = f"{target}.partial" if local else target  # a bucket shows an object only when it is closed
        try:
            if self._makes_folders:
                self.fs.create_dir(target.rpartition("/")[0], recursive=True)
            with self.fs.open_output_stream(written) as stream:
                stream.write(data)
            if local:
                self.fs.move(written, target)
        except OSError as error:
            raise RunError(f"cannot write {self.uri(*parts)}: {cause_of(error)}") from error

    def read_json(self, *parts: str) -> Any:
        """Read a JSON file."""
        return json.loads(self.read_bytes(*parts))

    def write_json(self, value: object, *parts: str) -> None:
        """Write a JSON file atomically; NaN and infinity are refused, as other readers refuse them."""
        self.write_bytes((json.dumps(value, indent=1, allow_nan=False) + "\n").encode(), *parts)

    def clear(self, *parts: str) -> None:
        """Delete a folder's content, its records first, so that a half-deleted stage never counts as one."""
        with reaching(f"empty {self.uri(*parts)}"):
            self._delete_records(*parts)
            if self._makes_folders:
                self.fs.create_dir(self.path(*parts), recursive=True)
            self.fs.delete_dir_contents(self.path(*parts), missing_dir_ok=True)

    def remove(self, *parts: str) -> None:
        """Delete a folder, as `clear` does, if it is there."""
        with reaching(f"delete {self.uri(*parts)}"):
            self._delete_records(*parts)
            if self.exists(*parts):
                self.fs.delete_dir(self.path(*parts))

    def move(self, source: Sequence[str], target: Sequence[str]) -> None:
        """Move a stage's folder to where another may be, which is deleted first.

        Whenever this is killed, one of the two is whole and has its records, `STARTED` or `MARKER`: a folder
        is renamed, and where it cannot be (buckets), its files are copied, the records last, and then
        deleted, the records first.

        Args:
            source: parts of the path of a folder that has records.
            target: parts of the new path.
        """
        self.remove(*target)
        with reaching(f"move {self.uri(*source)} to {self.uri(*target)}"):
            if self._makes_folders:
                self.fs.create_dir(self.path(*target[:-1]), recursive=True)
            if self.fs.type_name not in ("s3", "gcs"):
                with suppress(OSError):  # some mounts of buckets rename files only
                    self.fs.move(self.path(*source), self.path(*target))
                    return
            self._copy(self.path(*source), self.path(*target))
        self.remove(*source)

    def _copy(self, source: str, target: str) -> None:
        """Copy all files below a folder, those first that are no records of it."""
        infos = self.fs.get_file_info(pafs.FileSelector(source, recursive=True))
        files = [info.path.removeprefix(source) for info in infos if info.type == pafs.FileType.File]
        records = [name for name in (f"/{STARTED}", f"/{MARKER}") if name in files]

        def copy(name: str) -> None:
            if self._makes_folders:
                self.fs.create_dir(f"{target}{name}".rpartition("/")[0], recursive=True)
            self.fs.copy_file(f"{source}{name}", f"{target}{name}")

        with ThreadPoolExecutor(COPIERS) as pool:
            list(pool.map(copy, [name for name in files if name not in records]))
        for name in records:
            copy(name)

    def _delete_records(self, *parts: str) -> None:
        # Without STARTED only, a finished stage is still whole; without both, it is none.
        for name in (STARTED, MARKER):
            if self.exists(*parts, name):
                self.fs.delete_file(self.path(*parts, name))

    def upload(self, folder: Path, *parts: str) -> None:
        """Copy a local folder's files into a folder of the run."""
        for file in sorted(_files(folder)):
            self.write_bytes(file.read_bytes(), *parts, *file.relative_to(folder).parts)

    def finished(self, folder: str) -> dict[str, Any] | None:
        """Return the inputs that a stage was finished with, or None if it is not finished."""
        if not self.exists(folder, MARKER):
            return None
        inputs: dict[str, Any] = self.read_json(folder, MARKER)["inputs"]
        return inputs

    def finish(self, folder: str, inputs: Mapping[str, Any], seconds: float) -> None:
        """Mark a stage as finished, after everything else is written."""
        self.write_json({"inputs": inputs, "seconds": round(seconds, 1)}, folder, MARKER)

    def require(self, folder: str, job: str) -> dict[str, Any]:
        """Return a finished stage's inputs.

        Raises:
            RunError: it is not finished; the text names the job that makes it.
        """
        inputs = self.finished(folder)
        if inputs is None:
            raise RunError(f"{self.uri(folder)} is not complete: run jobs/{job}.py for this run first")
        return inputs


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
