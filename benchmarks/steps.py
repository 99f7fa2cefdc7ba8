"""The steps of a preparation, timed by the lines that it logs."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

STEPS = {
    "listed": "list", "opened": "scan", "looked": "known", "compared": "compare", "wrote": "write",
    "measured": "measure",
}  # fmt: skip
"""The first words of what preparation says after each step, and the step's name in the tables."""


class _Clock(logging.Handler):
    def __init__(self, seconds: dict[str, float]) -> None:
        super().__init__()
        self._seconds = seconds
        self._last = time.perf_counter()

    def emit(self, record: logging.LogRecord) -> None:
        now = time.perf_counter()
        self._seconds[STEPS[record.getMessage().split(maxsplit=1)[0]]] = now - self._last
        self._last = now


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Give a table that gets the seconds of each step of a preparation that is done meanwhile."""
    from brain_ray.logs import log

    seconds: dict[str, float] = {}
    level = log.level
    log.setLevel(logging.INFO)
    clock = _Clock(seconds)
    log.addHandler(clock)
    try:
        yield seconds
    finally:
        log.removeHandler(clock)
        log.setLevel(level)
