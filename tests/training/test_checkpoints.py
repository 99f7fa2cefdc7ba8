"""A checkpoint is written and read without holding its arrays a second time."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
from brain_ray.training import checkpoints
from brain_ray.training.dwell import DwellState
from brain_ray.training.state import TrainState

arrays = [np.ones((1000, 1000), np.float32) for _ in range(25)]  # 100 MB
state = TrainState({"weights": arrays, "optimizer": arrays}, arrays, DwellState(), ())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
checkpoints.write(Path(sys.argv[1]), state)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""

READING = """
import resource, sys
from pyarrow import fs
from brain_ray.training import checkpoints

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
checkpoints.check(fs.LocalFileSystem(), sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
state = checkpoints.read(fs.LocalFileSystem(), sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
groups = *state.learner.values(), state.best
assert sum(array.nbytes for arrays in groups for array in arrays) == 300_000_000
"""


def memory_of(program: str, folder: Path) -> list[int]:
    """The memory in bytes that a program says to have taken."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    return [1024 * int(line) for line in done.stdout.split()]


def test_a_checkpoint_is_not_held_twice(tmp_path: Path) -> None:
    (written,) = memory_of(PROGRAM, tmp_path)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size > 300_000_000
    assert written < 0.3 * size
    checked, read = memory_of(READING, tmp_path)
    assert checked < 0.3 * size
    assert read < 1.3 * size
