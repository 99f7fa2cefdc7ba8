"""A drawn disc, as a head without contents."""

import numpy as np
from numpy.typing import NDArray


def disc(height: int = 120, width: int = 100, level: int = 200) -> NDArray[np.uint8]:
    """A bright ellipse on black, from row 20 to 99 and column 25 to 74."""
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - 59.5) / 40) ** 2 + ((columns - 49.5) / 25) ** 2 <= 1
    return (inside * level).astype(np.uint8)
