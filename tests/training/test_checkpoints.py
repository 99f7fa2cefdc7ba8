"""A checkpoint is written without holding its arrays a second time."""

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


def test_writing_takes_a_small_part_of_the_checkpoints_size(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True
    )
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size > 300_000_000
    assert int(done.stdout) * 1024 < 0.3 * size
