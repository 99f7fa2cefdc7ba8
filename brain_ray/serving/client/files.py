"""Files of a command line: found, and processed in order and bounded memory."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from brain_ray.data.formats import FORMATS, format_of, media_types
from brain_ray.errors import printable
from brain_ray.serving.schemas import Failure, Problem

Item = TypeVar("Item")
Result = TypeVar("Result")

Source = str | Path | bytes
"""An image: a file's path, or its bytes."""

MEDIA_TYPES = media_types()
"""Media type by suffix, in lower case, of the files that count as images in a folder whatever is in them."""

SIGNATURE_BYTES = 512
"""Bytes at the start of a file by which one with another suffix, or none, counts as an image."""


def find_images(
    words: Iterable[str], listed: Iterable[str] = (), pass_over: Callable[[Path], object] = lambda path: None
) -> Iterator[Path]:
    """Yields files as they are named, and the images of folders, by their suffix or content, sorted.

    A folder's own files come before those of its folders; hidden ones (`.name`) are left out. Only the names
    in the folders on the way down to one file are held in memory.

    Args:
        words: paths of files and folders; `-` stands for `listed`.
        listed: lines with such paths, read from a pipe.
        pass_over: called with each file of a folder that is no image.

    Raises:
        OSError: a folder cannot be read.
    """
    for word in words:
        if word == "-":
            paths = (path for line in listed if (path := line.rstrip("\r\n")) not in ("", "-"))
            yield from find_images(paths, pass_over=pass_over)
        elif Path(word).is_dir():
            yield from _walk(word, pass_over)
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


def _walk(folder: str, pass_over: Callable[[Path], object]) -> Iterator[Path]:
    for path, folders, names in os.walk(folder, onerror=_give_up):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(path, name)
            if file.suffix.lower() in MEDIA_TYPES or _has_signature(file):
                yield file
            else:
                pass_over(file)


def _has_signature(file: Path) -> bool:
    """Returns whether a file begins as an image does."""
    try:
        if not file.is_file():  # a pipe would wait for somebody to write
            return False
        with file.open("rb") as stream:
            return format_of(stream.read(SIGNATURE_BYTES), FORMATS.values()) is not None
    except OSError:
        return False


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
