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
        self._images_of: Counter[str] = Counter()
        self._bytes_of: Counter[str] = Counter()

    @property
    def images(self) -> int:
        """Images of requests whose answers are not made yet."""
        return self._images_of.total()

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies and answers that are held now."""
        return self._bytes_of.total()

    @contextmanager
    def accept(self, num_images: int, num_bytes: int = 0, client: str = "") -> Iterator[None]:
        """Reserves room for a request's images, and for the bytes of its body.

        Its images are due after those that its client has in the room (`BEHIND`). A client who holds little
        has room for a small request though others hold more than there is: answers that they do not read.

        Args:
            num_images: number of images.
            num_bytes: size of the body.
            client: who sends it, the `security.CLIENT` of its scope.

        Raises:
            ProblemError: `queue_full`.
        """
        behind, little = self._images_of[client], KEPT / 2 * self._max_bytes
        small = (
            num_images == 1
            and num_bytes <= SMALL_BYTES
            and behind <= KEPT / 2 * self._max_images
            and self._bytes_of[client] <= little
        )
        share = 1 if small or not self.images else 1 - KEPT
        if self.images + num_images > share * self._max_images:
            raise ProblemError("queue_full", f"{self.images} images are waiting; try again soon")
        if self.held_bytes + num_bytes > share * self._max_bytes:
            held_by_small = sum(held for held in self._bytes_of.values() if held <= little)
            if not small or held_by_small + num_bytes > KEPT * self._max_bytes:
                waiting = f"{self.held_bytes / 1e6:.0f} MB are waiting"
                raise ProblemError("queue_full", f"{waiting}; try again soon")
        BEHIND.set(behind)
        with _counted(self._images_of, client, num_images), self.hold(num_bytes, client):
            yield

    @contextmanager
    def hold(self, num_bytes: int, client: str = "") -> Iterator[None]:
        """Counts the bytes of an answer until it is sent; does not refuse it, because the work is already
        done."""
        with _counted(self._bytes_of, client, num_bytes):
            yield


@contextmanager
def _counted(counter: Counter[str], client: str, number: int) -> Iterator[None]:
    counter[client] += number
    try:
        yield
    finally:
        counter[client] -= number
        if not counter[client]:
            del counter[client]
