"""The messages that brain_ray logs, for tests that read them or act on them."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from brain_ray.logs import log


class _Handler(logging.Handler):
    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        """Passes on a message; what is raised there ends what has logged it."""
        self._take(record.getMessage())


@contextmanager
def messages_to(take: Callable[[str], None]) -> Iterator[None]:
    """Calls a function with each message inside the block."""
    handler, level = _Handler(take), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
