"""Files of PyTorch are read without it, and nothing that they name is called."""

import io
import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from brain_ray.models.torch_file import MAGIC, read_torch_file


class FloatStorage:
    """PyTorch's name for numbers of 32 bits."""


class Tensor:
    """What PyTorch pickles as a call of `_rebuild_tensor_v2`: numbers of a storage, and where they lie."""

    def __init__(self, key: str, size: int, array: np.ndarray) -> None:
        self.key, self.size, self.array = key, size, array


def _rebuild_tensor_v2(*_: Any) -> None:
    """Only its name is written."""


class Writer(pickle.Pickler):
    def persistent_id(self, item: Any) -> Any:
        if isinstance(item, tuple) and item and item[0] == "storage":
            return item
        return None

    def reducer_override(self, item: Any) -> Any:
        if not isinstance(item, Tensor):
            return NotImplemented
        array = item.array
        storage = ("storage", FloatStorage, item.key, "cpu", item.size, None)
        steps = tuple(step // array.itemsize for step in array.strides)
        return _rebuild_tensor_v2, (storage, 0, array.shape, steps, False, OrderedDict())


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pickles name PyTorch's things, which is not installed."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    torch.FloatStorage, utils._rebuild_tensor_v2 = FloatStorage, _rebuild_tensor_v2  # type: ignore[attr-defined]
    for name, module in (("torch", torch), ("torch._utils", utils)):
        monkeypatch.setitem(sys.modules, name, module)
    for thing, module in ((FloatStorage, "torch"), (_rebuild_tensor_v2, "torch._utils")):
        monkeypatch.setattr(thing, "__module__", module)


def written(state: Any, storages: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    for each in (MAGIC, 1001, {"little_endian": True}, state, sorted(storages)):
        Writer(stream, protocol=2).dump(each)
    for key in sorted(storages):
        stream.write(storages[key].size.to_bytes(8, "little") + storages[key].tobytes())
    return stream.getvalue()


def test_arrays_are_read_as_they_lie_in_their_storages(tmp_path: Path) -> None:
    numbers = {"1": np.arange(24, dtype=np.float32), "2": np.arange(5, dtype=np.float32) / 7}
    turned = numbers["1"].reshape(2, 3, 4).transpose(2, 0, 1)  # as weights that were converted
    state = OrderedDict(kernel=Tensor("1", 24, turned), bias=Tensor("2", 5, numbers["2"]))
    file = tmp_path / "weights.pth"
    file.write_bytes(written(state, numbers))
    found = read_torch_file(file)
    assert list(found) == ["kernel", "bias"]
    np.testing.assert_array_equal(found["kernel"], turned)
    np.testing.assert_array_equal(found["bias"], numbers["2"])


class Command:
    """Pickled as a call of a shell's command."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __reduce__(self) -> Any:
        return os.system, (self.words,)


def test_nothing_that_a_file_names_is_called(tmp_path: Path) -> None:
    touched, file = tmp_path / "touched", tmp_path / "weights.pth"
    file.write_bytes(written(OrderedDict(kernel=Command(f"touch {touched}")), {}))
    with pytest.raises(ValueError, match=r"not a state dict of PyTorch before 1\.6: it names posix\.system"):
        read_torch_file(file)
    assert not touched.exists()


def test_other_files_and_parts_of_files_are_refused(tmp_path: Path) -> None:
    numbers = np.arange(24, dtype=np.float32)
    whole = written(OrderedDict(kernel=Tensor("1", 24, numbers)), {"1": numbers})
    beyond = Tensor("1", 24, np.arange(48, dtype=np.float32)[::2])
    file = tmp_path / "weights.pth"
    for data in (
        *(whole[:size] for size in (0, 5, 40, len(whole) // 2, len(whole) - 1)),
        b"PK\3\4" + whole,
        written([1, 2], {}),
        written(OrderedDict(kernel=beyond), {"1": numbers}),
    ):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=r"PyTorch before 1\.6"):
            read_torch_file(file)
