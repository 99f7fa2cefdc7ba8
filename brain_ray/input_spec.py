"""InputSpec and ReadSpec: what a network is fed, and how the pixels of a file become the grey image it is
made of.

It stands below the settings, which make both, and imports nothing: decoding processes start quickly with it.
"""

from dataclasses import dataclass
from typing import Literal

Fit = Literal["stretch", "pad"]

Background = Literal["keep", "black"]

Plane = Literal["axial", "coronal", "sagittal"]

Window = tuple[float, float]
"""Two percentiles, 0 to 100."""

WINDOW: Window = (0.5, 99.5)
"""The usual window."""


@dataclass(frozen=True)
class InputSpec:
    """What a network is fed: its size, how a crop is fitted to it, and what is around the head."""

    height: int
    width: int
    fit: Fit = "stretch"
    crop_size: tuple[int, int] | None = None
    background: Background = "keep"


@dataclass(frozen=True)
class ReadSpec:
    """How the pixels of a file become grey images of 8 bits, in training, evaluation and serving alike."""

    window: Window = WINDOW
    """Percentiles of the pixels that become 0 and 255, where these have more than 8 bits."""
    plane: Plane = "axial"
    """Plane of the slices into which a volume is cut."""


MAX_BATCH_PIXELS = 32 * 380**2
"""Largest number of input pixels of a batch where models are compared, measured and scored.

A batch of 32 at 600x600 takes EfficientNetB7 more memory than many a machine has.
"""


def batch_of(height: int, width: int, most: int) -> int:
    """Returns the number of height x width images in a batch: up to `most`, fewer if they are large, at least
    one."""
    return min(most, max(1, MAX_BATCH_PIXELS // (height * width)))
