"""Array types, and arrays as Arrow lists of fixed size."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
"""A grey image: (height, width), uint8, 0..255."""


def fixed_size(array: np.ndarray[Any, Any]) -> pa.FixedSizeListArray:
    flat = array.reshape(len(array), math.prod(array.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])


def from_fixed_size(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    return np.concatenate([chunk.flatten().to_numpy(zero_copy_only=True) for chunk in column.chunks])
