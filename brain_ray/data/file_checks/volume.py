"""Volume: an opened file that may hold several images, and what its header says of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class HeaderFacts:
    """Facts of a file's header. The ids are the file's own: only their hashes are stored."""

    patient: str = ""
    study: str = ""
    series: str = ""
    modality: str = ""
    """DICOM's code, such as MR or CT; `other` for one that DICOM does not have; "" for formats without."""
    class_name: str = ""
    """Class by the file's own label."""
    tumour: tuple[int, int, int, int] | None = None
    """Box around the tumour's mask in pixels, half-open: top, bottom, left, right."""


@dataclass(frozen=True)
class Volume:
    """An opened file. Its images have one size, and numbers from 0 on."""

    width: int
    height: int
    positions: Sequence[float]
    """Position of each image along the normal of the slices, in mm, or its number in its series; as many as
    there are images."""
    pixels: "Callable[[int], NDArray[Any]]"
    """Returns an image's pixels, (height, width), by its number; higher is brighter.

    Those of uint8 are grey as they are, others are still to be scaled. NaN is background.

    Raises:
        ImageError: it is damaged.
        MemoryError: there is too little memory.
    """
    facts: HeaderFacts = field(default_factory=HeaderFacts)
