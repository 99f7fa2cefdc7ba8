"""How far a training is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """Progress of a training."""

    epoch: int
    """Number of finished epochs."""
    epochs: int
    step: int
    """Number of finished steps in this epoch."""
    steps: int
    """Number of steps per epoch."""
