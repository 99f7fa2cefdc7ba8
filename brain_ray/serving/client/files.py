"""Files of a command line: found, and processed in order and bounded memory."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from brain_ray.data.file_names import is_no_image
from brain_ray.data.formats import FORMATS, HEAD_BYTES, format_of, format_of_name
from brain_ray.errors import printable
from brain_ray.serving.schemas import Failure, Problem

Item = TypeVar("Item")
Result = TypeVar("Result")

Source = str | Path | bytes
"""An image: a file's path, or its bytes."""

MAX_NAMES = 5
"""Largest number of files that a line names."""


@dataclass
class PassedOver:
    """What is not classified in folders and volumes."""

    files: list[str] = field(default_factory=list)
    """Files in folders that are no images, by their names and contents."""
    slices: dict[str, int] = field(default_factory=dict)
    """Number of empty slices by the volume's name."""

    def lines(self) -> list[str]:
        """Returns a line for each kind."""
        found = []
        if self.files:
            found.append(f"{_count(len(self.files), 'file')} passed over, no images: {_list(self.files)}")
        if self.slices:
            number = _count(sum(self.slices.values()), "empty slice")
            found.append(f"{number} passed over in {_list(list(self.slices))}")
        return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _list(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(map(printable, names[:MAX_NAMES])) + more


def find_images(
    words: Iterable[str], listed: Iterable[str] = (), passed_over: PassedOver | None = None
) -> Iterator[Path]:
    """Yields files as they are named, and the images of folders, sorted.

    A folder's own files come before those of its folders; hidden ones (`.name`) are left out. A file without
    a suffix of an image is one if it begins as one. Only the names in the folders on the way down to one file
    are held in memory.

    Args:
        words: paths of files and folders; `-` stands for `listed`.
        listed: lines with such paths, read from a pipe.
        passed_over: gets the files of folders that are no images.

    Raises:
        OSError: a folder cannot be read.
    """
    for word in words:
        if word == "-":
            paths = (path for line in listed if (path := line.rstrip("\r\n")) not in ("", "-"))
            yield from find_images(paths, (), passed_over)
        elif Path(word).is_dir():
            yield from _walk(word, PassedOver() if passed_over is None else passed_over)
        else:
            yield Path(word)


def name_of(source: Source) -> str:
    """Returns the name of an image in its answer; bytes of a path that are not UTF-8 are escaped."""
    if isinstance(source, bytes):
        return "image"
    return os.fsencode(source).decode("utf-8", "backslashreplace")


def read_image(source: Source) -> bytes | Failure:
    """Returns an image's bytes, or a failure if its file cannot be read."""
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or str(error)
        problem = Problem(
            type="urn:brain_ray:problem:unreadable",
            title="The file cannot be read",
            status=400,
            code="unreadable",
            detail=reason,
        )
        return Failure(name=name_of(source), problem=problem)


def read_all(sources: Iterable[Source]) -> tuple[list[tuple[str, bytes]], list[Failure]]:
    """Returns names and bytes of files, and failures of those that cannot be read."""
    readable, failures = [], []
    for source in sources:
        data = read_image(source)
        if isinstance(data, Failure):
            failures.append(data)
        else:
            readable.append((name_of(source), data))
    return readable, failures


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[Result]:
    """Yields `work(item)` of each item in order, computed by threads; at most `ahead` are running or waiting.

    An exception of `work` ends it; work that has not begun by then is dropped, also if the caller leaves.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            while waiting and (len(waiting) >= ahead or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _walk(folder: str, passed_over: PassedOver) -> Iterator[Path]:
    for path, folders, names in os.walk(folder, onerror=_give_up):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            file = Path(path, name)
            if format_of_name(name) is not None or _begins_as_image(file):
                yield file
            else:
                passed_over.files.append(name_of(file))


def _begins_as_image(file: Path) -> bool:
    """Returns whether a file's first bytes are those of an image, or cannot be read, which its answer then
    tells."""
    if is_no_image(file.name) or not file.is_file():
        return False
    try:
        with file.open("rb") as stream:
            return format_of(stream.read(HEAD_BYTES), FORMATS.values()) is not None
    except OSError:
        return True


def media_type_of(source: Source) -> str:
    """Returns the media type of an image by its file's suffix."""
    row = None if isinstance(source, bytes) else format_of_name(str(source))
    return "application/octet-stream" if row is None else row.media_type


def _give_up(error: OSError) -> None:
    raise error


def watch_doubles(words: Iterable[str], folders: set[Path]) -> Iterator[str]:
    """Hands paths on, and warns once of one that lies in a folder before it, as in what `find FOLDER` prints.

    Args:
        words: the paths.
        folders: those of them that are folders; gets more.
    """
    warned = False
    for word in words:
        path = Path(word.rstrip("\r\n"))
        if not warned and folders & {path, *path.parents}:
            warned = True
            text = f"warning: {path} is in a folder that was named before it: such images are answered twice"
            print(printable(text), file=sys.stderr)
        if word != "-" and path.is_dir():
            folders.add(path)
        yield word
