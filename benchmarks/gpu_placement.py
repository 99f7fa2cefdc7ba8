"""Group of `gpu.py`: where the operations of a training step run."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gpu_checks import Check, Step, batch_of, config_of, learner_of

PLACED = re.compile(r"placer\.cc:\d+\] \S+: \((\w+)\): \S*/device:(\w+):\d+")
"""A line of TensorFlow's log: an operation, and the kind of the device that it is placed on."""

BEGIN = "here the step begins"

NO_WORK = {"_Arg", "_Retval", "_DeviceArg", "_DeviceRetval", "Const", "Identity", "NoOp", "Placeholder"}
"""Operations that hand over what is there: the batch comes from the CPU's memory, and its sums go there."""


def placement(gpu: float) -> Iterator[Check]:
    """Check that a GPU leaves no operation of a step in bfloat16, without XLA, to the CPU."""
    command = [sys.executable, str(Path(__file__)), str(gpu)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    yield from checks_of(told.partition(BEGIN)[2], gpu)


def checks_of(log: str, gpu: float) -> Iterator[Check]:
    """Check what TensorFlow's log says of a step's operations."""
    placed = Counter(found for found in PLACED.findall(log) if found[0] not in NO_WORK)
    kind = "GPU" if gpu else "CPU"
    right = sum(count for (_, device), count in placed.items() if device == kind)
    yield Check(f"operations of a step on the {kind}", right, "", "> 0", right > 0, "TensorFlow logged none")
    wrong = {f"{name} ({device})": count for (name, device), count in placed.items() if device != kind}
    named = ", ".join(sorted(wrong))
    yield Check("operations of a step elsewhere", sum(wrong.values()), "", "0", not wrong, named)


def log_step(gpu: float) -> None:
    """Train one step; TensorFlow logs where each operation is placed."""
    import tensorflow as tf

    step = Step("EfficientNetB0" if gpu else "tiny", 64, 16, False, 0, "mixed_bfloat16")
    tf.debugging.set_log_device_placement(True)  # has no effect on operations once some have run
    learner = learner_of(config_of(step, gpu))
    learner.start_epoch(0)
    print(BEGIN, file=sys.stderr, flush=True)
    learner.train(batch_of(step), 1e-4).numpy()


if __name__ == "__main__":
    log_step(float(sys.argv[1]))
