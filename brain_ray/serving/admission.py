"""Admission: how many images and bytes a replica takes at a time, of all clients and of each."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from brain_ray.serving.problems import ProblemError
from brain_ray.serving.turns import BEHIND

KEPT = 1 / 8
"""Share of the room that is left to requests of one small image, by clients who have little in it."""

SMALL_BYTES = 1_000_000
"""Largest size of a small image's file."""


class Admission:
    """Room of a replica, in images whose answers are not made yet, and in bytes of bodies and answers."""

    def __init__(self, max_images: int, max_bytes: float) -> None:
        self._max_images, self._max_bytes = max_images, max_bytes
        self._of_client: Counter[str] = Counter()
        self.images = 0
        """Images of requests whose answers are not made yet."""
        self.held_bytes = 0
        """Bytes of bodies and answers that are held now."""

    @contextmanager
    def accept(self, num_images: int, num_bytes: int = 0, client: str = "") -> Iterator[None]:
        """Reserves room for a request's images, and for the bytes of its body.

        Its images are due after those that its client has in the room (`BEHIND`).

        Args:
            num_images: number of images.
            num_bytes: size of the body.
            client: who sends it, the `security.CLIENT` of its scope.

        Raises:
            ProblemError: `queue_full`.
        """
        behind = self._of_client[client]
        small = num_images == 1 and num_bytes <= SMALL_BYTES and behind <= KEPT / 2 * self._max_images
        share = 1 if small or not self.images else 1 - KEPT
        if self.images + num_images > share * self._max_images:
            raise ProblemError("queue_full", f"{self.images} images are waiting; try again soon")
        if self.held_bytes + num_bytes > share * self._max_bytes:
            raise ProblemError("queue_full", f"{self.held_bytes / 1e6:.0f} MB are waiting; try again soon")
        BEHIND.set(behind)
        self.images += num_images
        self._of_client[client] += num_images
        try:
            with self.hold(num_bytes):
                yield
        finally:
            self.images -= num_images
            self._of_client[client] -= num_images
            if not self._of_client[client]:
                del self._of_client[client]

    @contextmanager
    def hold(self, num_bytes: int) -> Iterator[None]:
        """Counts the bytes of an answer until it is sent; does not refuse it, because the work is already
        done."""
        self.held_bytes += num_bytes
        try:
            yield
        finally:
            self.held_bytes -= num_bytes
