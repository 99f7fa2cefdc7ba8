"""Prefetches batches in a background thread, across split and epoch boundaries."""

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

POLL_INTERVAL_S = 0.2
"""Interval in seconds at which a waiting thread checks whether it is still needed."""


@dataclass(frozen=True)
class _End:
    """End of a stream, with its error, if any."""

    error: BaseException | None = None


class Prefetcher(Generic[Key, Item]):
    """Prefetcher of streams that follow one another: makes a limited number of items before they are
    requested.

    Opening a stream takes time (it starts an execution of Ray Data). So a stream is opened as soon as all
    items of the one before it are made, while its last items are still being used.
    """

    def __init__(
        self, open_stream: Callable[[Key], Iterable[Item]], after: Callable[[Key], Key | None], most: int
    ) -> None:
        """Sets up the prefetcher; the thread starts with the first stream.

        Args:
            open_stream: opens the stream of a key.
            after: returns the key of the stream that probably follows another; None: none.
            most: largest number of items that are kept ready, of all streams together.
        """
        self._open = open_stream
        self._after = after
        self._most = most
        self._next: Key | None = None
        self._stop = threading.Event()
        self._made: Queue[Item | _End] = Queue(most)

    def stream(self, key: Key) -> Iterator[Item]:
        """Yields a stream's items; use them up before the next stream.

        Raises:
            Exception: the error that the stream raised.
        """
        if key != self._next:
            self.close()
            self._start(key)
        while not isinstance(item := self._made.get(), _End):
            yield item
        if item.error is not None:
            self.close()
            raise item.error
        self._next = self._after(key)

    def close(self) -> None:
        """Stops making items and drops those that are ready."""
        self._stop.set()
        self._next = None
        with contextlib.suppress(Empty):
            while True:
                self._made.get_nowait()

    def _start(self, key: Key) -> None:
        self._stop, self._made = threading.Event(), Queue(self._most)
        self._next = key
        threading.Thread(target=self._make, args=(key, self._stop, self._made), daemon=True).start()

    def _make(self, first: Key, stop: threading.Event, made: "Queue[Item | _End]") -> None:
        key: Key | None = first
        while key is not None:
            end = _End()
            try:
                for item in self._open(key):
                    if not _put(item, made, stop):
                        return
            except BaseException as error:
                end = _End(error)
            if not _put(end, made, stop) or end.error is not None:
                return
            key = self._after(key)


def _put(item: "Item | _End", made: "Queue[Item | _End]", stop: threading.Event) -> bool:
    while not stop.is_set():
        with contextlib.suppress(Full):
            made.put(item, timeout=POLL_INTERVAL_S)
            return True
    return False
