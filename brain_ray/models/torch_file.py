"""Reads the arrays of a file that PyTorch saved, without PyTorch."""

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
"""First number of a file of PyTorch before 1.6."""

DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8"}
"""Types of numbers, by the names of PyTorch's storages."""

WRONG = AttributeError, LookupError, TypeError, ValueError
"""What pickles raise that are damaged, or hold other things, beside errors of their own."""


def read_torch_file(file: Path) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a state dict, by name, as PyTorch before 1.6 saved it.

    Such a file is a row of pickles, then the numbers of each storage. Of what a pickle may name, only what
    makes an array is let in.

    Raises:
        ValueError: the file is of another kind, or damaged.
    """
    with file.open("rb") as stream:
        try:
            if _Reader(stream).load() != MAGIC:
                raise pickle.UnpicklingError("it begins with another number")
            _Reader(stream).load()  # the version of the format
            _Reader(stream).load()  # what the machine was like
            reader = _Reader(stream)
            state = dict(reader.load())
            for key in _Reader(stream).load():
                storage = reader.storages[key]
                count = int.from_bytes(stream.read(8), "little")
                storage[:] = np.frombuffer(stream.read(count * storage.itemsize), storage.dtype, count)
        except (pickle.UnpicklingError, EOFError, *WRONG) as error:
            raise ValueError(f"not a state dict of PyTorch before 1.6: {error}") from error
    return state


class _Reader(pickle.Unpickler):
    """Reads a pickle that names nothing but storages, arrays and ordered dicts."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, NDArray[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return np.dtype(DTYPES[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        _, dtype, key, _, count, *_ = pid
        return self.storages.setdefault(key, np.empty(count, dtype))


def _rebuild(
    storage: NDArray[Any], offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
) -> NDArray[Any]:
    """Returns an array that shares the memory of its storage, whose numbers come later.

    NumPy sees to it that the array lies within the storage.
    """
    size = storage.itemsize
    return np.ndarray(
        tuple(shape), storage.dtype, storage.data, offset * size, [step * size for step in strides]
    )
