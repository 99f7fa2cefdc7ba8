"""Lines of a log: each says when, of which run and in which stage; a terminal is spared that."""

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO

_place: list[str] = []
_failed: list[str] = []


@contextmanager
def within(name: str) -> Iterator[None]:
    """Have the lines to come say a name, of a run or of one of its stages, after those around it.

    What ends with an exception is still named afterwards: by the line that tells the error.
    """
    if not _place:
        _failed.clear()
    _place.append(name)
    try:
        yield
    except BaseException:
        _failed[:] = _failed or _place
        raise
    finally:
        _place.pop()


def stamp() -> str:
    """Return what a line starts with: the time (UTC), the run and the stage; "" outside of any."""
    place = _place or _failed
    if not place:
        return ""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {'/'.join(place)}  "


class Stamped(io.TextIOBase):
    """A text stream that puts a stamp before each line that is not empty."""

    def __init__(self, stream: TextIO, make_stamp: Callable[[], str] = stamp) -> None:
        self._stream, self._stamp = stream, make_stamp
        self._at_start = True
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write text, of which each line gets its stamp when its first character comes."""
        with self._lock:
            for line in text.splitlines(keepends=True):
                if self._at_start and line.strip():
                    self._stream.write(self._stamp())
                self._stream.write(line)
                self._at_start = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the file that it ends in."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """It is."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the encoding of what it ends in."""
        return self._stream.encoding


@contextmanager
def stamped() -> Iterator[None]:
    """Stamp this process's lines for the while, where they go into a file or a pipe."""
    _failed.clear()
    before = sys.stdout, sys.stderr
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not stream.isatty():
            setattr(sys, name, Stamped(stream))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def silenced(name: str, level: int = logging.CRITICAL) -> Iterator[None]:
    """Have a logger of another package say only what is of a level, for the while."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
