"""What an engine counts, for metrics of any kind."""

from typing import Protocol

from brain_ray.serving.schemas import Answer


class Counts(Protocol):
    """Metrics of the engine."""

    def batch(self, size: int) -> None:
        """Records the number of images in one run of the model."""

    def answer(self, answer: Answer, role: str) -> None:
        """Records an answer of a model."""


class NoMetrics:
    """Metrics that record nothing."""

    def batch(self, size: int) -> None:
        """Does nothing."""

    def answer(self, answer: Answer, role: str) -> None:
        """Does nothing."""
