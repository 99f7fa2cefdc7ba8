"""Summary of a prediction: counts of labels, decisions and errors, and the pace."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator

from brain_ray.errors import printable
from brain_ray.serving.client.files import Source
from brain_ray.serving.schemas import Answer, Failure


class Summary:
    """Counts results, and measures the time from the first image on."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.start = time.perf_counter()

    @property
    def images(self) -> int:
        """Number of images, including those that could not be used."""
        return self.decisions.total() + self.errors.total()

    def begin(self, images: Iterable[Source]) -> Iterator[Source]:
        """Hands images on; opening a bundle or a connection is over when the first is asked for."""
        self.start = time.perf_counter()
        yield from images

    def watch(self, results: Iterable[Answer | Failure]) -> Iterator[Answer | Failure]:
        """Counts results and hand them on."""
        for result in results:
            if isinstance(result, Failure):
                self.errors[printable(result.problem.code)] += 1
            else:
                self.labels[printable(result.label)] += 1
                self.decisions[result.decision] += 1
            yield result

    def __str__(self) -> str:
        seconds = max(time.perf_counter() - self.start, 1e-9)
        number = self.errors.total()
        pace = f"{self.images / seconds:.1f} images/s"
        parts = [
            f"{self.images} image{'s' * (self.images != 1)} in {seconds:.1f} s ({pace})",
            _count(self.labels),
            _count(self.decisions),
            f"{number or 'no'} error{'s' * (number != 1)}{f': {_count(self.errors)}' if number else ''}",
        ]
        return "; ".join(part for part in parts if part)


def _count(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts))
