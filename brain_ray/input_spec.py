"""InputSpec: the size of a network's input, and how a crop is fitted to it.

It stands below the settings, which make one, and imports nothing: decoding processes start quickly with it.
"""

from dataclasses import dataclass
from typing import Literal

Fit = Literal["stretch", "pad"]


@dataclass(frozen=True)
class InputSpec:
    """What a network is fed: the size of its input and how a crop is fitted to it."""

    height: int
    width: int
    fit: Fit = "stretch"
    crop_size: tuple[int, int] | None = None
