"""The logger `brain_ray` and its console handler, which adds time, run and stage to lines that go into a
file."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from brain_ray.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger("brain_ray")

_context: list[str] = []
_failed: list[str] = []


@contextmanager
def log_context(name: str) -> Iterator[None]:
    """Names a run, or one of its stages, in the stamps of all lines inside the block.

    After an exception the stamp keeps the name until the line about the error is logged.
    """
    if not _context:
        _failed.clear()
    _context.append(name)
    try:
        yield
    except BaseException:
        _failed[:] = _failed or _context
        raise
    finally:
        _context.pop()


def stamp() -> str:
    """Returns the start of a line: the time (UTC), the run and the stage; "" outside of any run."""
    names = _context or _failed
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {'/'.join(names)}  " if names else ""


class ConsoleHandler(logging.Handler):
    """Handler that writes messages on standard output, and errors (or all, if set so) on standard error.

    Warnings and errors begin with that word. Control characters are replaced, because a message may contain
    file names. If the stream is no terminal, every line that is not empty begins with a stamp.
    """

    def __init__(self, all_on_stderr: bool = False) -> None:
        super().__init__(logging.INFO)
        self._all_on_stderr = all_on_stderr
        self.live: Console | None = None
        """Console of a live display, above which messages are printed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message; it may have several lines."""
        text = printable(record.getMessage(), keep="\n")
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        on_stderr = self._all_on_stderr or record.levelno >= logging.ERROR
        if self.live is not None and not on_stderr:
            self.live.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        stream = sys.stderr if on_stderr else sys.stdout
        start = "" if stream.isatty() else stamp()
        lines = [f"{start if line.strip() else ''}{line}\n" for line in text.split("\n")]
        stream.write("".join(lines))
        stream.flush()


@contextmanager
def to_console(all_on_stderr: bool = False) -> Iterator[None]:
    """Shows the messages of this package on the console inside the block."""
    _failed.clear()
    handler = ConsoleHandler(all_on_stderr)
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # TensorFlow and MLflow give the root logger handlers of their own
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)  # which also clears what the logger remembers of it
        log.propagate = propagate


def on_console() -> bool:
    """Returns whether messages are shown on the console."""
    return any(isinstance(handler, ConsoleHandler) for handler in log.handlers)


@contextmanager
def above(console: "Console") -> Iterator[None]:
    """Prints messages above a live display on a console, such as a progress bar, inside the block."""
    handlers = [handler for handler in log.handlers if isinstance(handler, ConsoleHandler)]
    for handler in handlers:
        handler.live = console
    try:
        yield
    finally:
        for handler in handlers:
            handler.live = None


@contextmanager
def silenced(name: str, level: int = logging.CRITICAL) -> Iterator[None]:
    """Lets through only messages of a level from a logger of another package, inside the block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
