"""What an engine counts, for metrics of any kind."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from brain_ray.scoring.shift import Shift
from brain_ray.serving.schemas import Answer


class Counts(Protocol):
    """Metrics of the engine."""

    def batch(self, size: int) -> None:
        """Records the number of images in one run of the model."""

    def answer(self, answer: Answer, role: str) -> None:
        """Records an answer of a model."""

    def watch(self, model: str, boundaries: Mapping[str, Sequence[float]]) -> None:
        """Makes a histogram of each quantity of the main model's images."""

    def quantities(self, values: Mapping[str, float]) -> None:
        """Records the quantities of an image."""

    def drift(self, shift: Shift) -> None:
        """Records how the images of late compare with the reference."""

    def reviewed(self, outcome: str) -> None:
        """Records what came of keeping a file for review."""


class NoMetrics:
    """Metrics that record nothing."""

    def batch(self, size: int) -> None:
        """Does nothing."""

    def answer(self, answer: Answer, role: str) -> None:
        """Does nothing."""

    def watch(self, model: str, boundaries: Mapping[str, Sequence[float]]) -> None:
        """Does nothing."""

    def quantities(self, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def drift(self, shift: Shift) -> None:
        """Does nothing."""

    def reviewed(self, outcome: str) -> None:
        """Does nothing."""
