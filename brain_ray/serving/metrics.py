"""Prometheus metrics of a replica, by Ray."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from brain_ray.bundle.reference import QUANTITIES
from brain_ray.scoring.shift import LEAST, Shift
from brain_ray.serving.schemas import Answer
from brain_ray.tracking.prometheus import PREFIX

DRIFT = ("model", "quantity")
"""Labels of the metrics of drift."""

LATENCIES = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
"""Bounds of the histograms of time, in seconds."""

FLUSH = 300
"""Number of observations that are passed to Ray at once: one by one, between other work, each of them takes
ten times as long."""


class Metrics:
    """Prometheus metrics of a replica, on the metrics port of its node, beside Ray's own `serve_...`."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._requests = Counter(f"{PREFIX}requests", "Requests", ("route", "status"))
        self._errors = Counter(f"{PREFIX}errors", "Requests with an error, by its code", ("route", "code"))
        self._seconds = Histogram(f"{PREFIX}request_seconds", "Latency", LATENCIES, ("route",))
        self._batches = Histogram(f"{PREFIX}batch_size", "Images of a batch", [1, 2, 4, 8, 16, 32, 64])
        self._images = Counter(f"{PREFIX}images", "Images", ("model", "role", "label", "decision"))
        self._unanswered = Gauge(f"{PREFIX}unanswered_images", "Images whose answers are not made yet")
        self._unsure = Counter(
            f"{PREFIX}low_confidence",
            "Images without an answer: unsure, or unlike training",
            ("model", "role"),
        )
        self._distance = Gauge(f"{PREFIX}drift_distance", "Distance of late images from validation's", DRIFT)
        self._limit = Gauge(f"{PREFIX}drift_limit", "The distance that chance hardly exceeds", DRIFT)
        self._review = Counter(
            f"{PREFIX}review", "Files without an answer, by what came of keeping them", ("outcome",)
        )
        self._drifts: dict[str, tuple[float, float]] = {}
        self._quantities: dict[str, Histogram] = {}

    def batch(self, size: int) -> None:
        """Records the number of images in one run of the model."""
        self._later(self._batches.observe, size)

    def answer(self, answer: Answer, role: str) -> None:
        """Records an answer of a model."""
        model = {"model": answer.model.id, "role": role}
        self._later(self._images.inc, tags={**model, "label": answer.label, "decision": answer.decision})
        if answer.decision != "answer":
            self._later(self._unsure.inc, tags=model)

    def watch(self, model: str, boundaries: Mapping[str, Sequence[float]]) -> None:
        """Makes a histogram of each quantity, with the deciles of the reference as bounds."""
        self._model = model
        self._quantities = {
            name: Histogram(
                f"{PREFIX}image_{name}", f"Of images: {QUANTITIES[name]}", list(bounds), ("model",)
            )
            for name, bounds in boundaries.items()
        }
        # There before the first comparison, so that an alert can be tried.
        self._drifts = dict.fromkeys(boundaries, (0.0, 1.0))
        self._repeat()

    def quantities(self, values: Mapping[str, float]) -> None:
        """Records the quantities of an image."""
        for name, histogram in self._quantities.items():
            self._later(histogram.observe, values[name], tags={"model": self._model})

    def drift(self, shift: Shift) -> None:
        """Records distances and limits; where none of the two is large enough to matter, the larger limit."""
        for name, found in shift.quantities.items():
            self._drifts[name] = (found.distance, max(found.by_chance, LEAST))
        self._repeat()

    def flush(self, unanswered: int) -> None:
        """Passes on what is waiting, the number of images without an answer yet, and the last comparison."""
        self._unanswered.set(unanswered)
        self._repeat()
        self._pass_on()

    def _repeat(self) -> None:
        """Records the last comparison once more: Ray forgets a gauge that nobody sets for some time."""
        for name, (distance, limit) in self._drifts.items():
            tags = {"model": self._model, "quantity": name}
            self._distance.set(distance, tags=tags)
            self._limit.set(limit, tags=tags)

    def reviewed(self, outcome: str) -> None:
        """Records what came of keeping a file for review: kept, known, no_room or failed."""
        self._later(self._review.inc, tags={"outcome": outcome})

    def seen(self, route: str, status: int, seconds: float, code: str) -> None:
        """Records a response to a request."""
        self._later(self._requests.inc, tags={"route": route, "status": str(status)})
        if code:
            self._later(self._errors.inc, tags={"route": route, "code": code})
        else:
            self._later(self._seconds.observe, seconds, tags={"route": route})

    def _later(self, record: Callable[..., None], *args: float, **named: Any) -> None:
        self._waiting.append(partial(record, *args, **named))
        if len(self._waiting) >= FLUSH:
            self._pass_on()

    def _pass_on(self) -> None:
        with suppress(IndexError):  # another thread was faster
            while self._waiting:
                self._waiting.popleft()()
