"""Turns: who waits for whom where a replica has few threads, and when an image is due."""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

PATIENCE_S = 0.5
"""Seconds by which each image of a client is due after the one before it, and by which a megabyte more makes
an image due later: a small request need not wait for all of a large one, and none waits for ever."""


BEHIND: ContextVar[int] = ContextVar("behind", default=0)
"""Number of images of the request's own client that came before it and are not answered yet."""


def due_at(place: int = 0, num_bytes: int = 0) -> float:
    """Returns when an image is due, in seconds of `time.monotonic`: a client's images one after the other,
    so that who sends few waits for none of the many of another.

    Args:
        place: its place in its request, which has just come.
        num_bytes: size of its file.
    """
    return time.monotonic() + PATIENCE_S * (BEHIND.get() + place + num_bytes / 1e6)


class Turns:
    """Some places, each given to what is due first among all that wait for one."""

    def __init__(self, places: int) -> None:
        self.places = self.free = places
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()  # of two that are due at once, who came first

    @asynccontextmanager
    async def place(self, due: float) -> AsyncIterator[None]:
        """Waits for a place, and holds it.

        Args:
            due: when its holder is due, in seconds of `time.monotonic`.
        """
        if self.free:
            self.free -= 1
        else:
            given = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (due, next(self._count), given))
            try:
                await given
            except asyncio.CancelledError:
                if not given.cancelled():  # it was given at this moment
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        while self._waiting:
            *_, given = heapq.heappop(self._waiting)
            if not given.cancelled():
                given.set_result(None)
                return
        self.free += 1
