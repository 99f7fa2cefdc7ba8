"""A program for tests: a job whose work on the nodes pauses, at the right moment, until one of them is lost.

python pausing_job.py FOLDER PATIENCE FRAMEWORK JOB WORDS...

FOLDER gets a folder for each kind of work, and in it a note of each piece that was done, named by the piece
and the node. After the first few, what is done waits until there is a file `lost` beside the notes. A
training pauses before the epochs that have a folder there: `epoch1` after the first one. Nodes are waited
for PATIENCE seconds. It trains in FRAMEWORK, `tensorflow`, `numpy` or `slow`, which is NumPy with slow steps.
"""

import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import ray
from support.numpy_learner import Numpy

from brain_ray import jobs
from brain_ray.cluster import connection
from brain_ray.cluster.waiting import give_up_without_nodes
from brain_ray.config import Config
from brain_ray.config.model import BACKBONES
from brain_ray.data import prepare, scan, writing
from brain_ray.evaluation import evaluate
from brain_ray.training import callbacks, trainer
from brain_ray.training.framework import Learner
from brain_ray.training.tensorflow.framework import TensorFlow
from brain_ray.tuning import tune

FIRST = {"scan": 4, "write": 4, "score": 4, "trial": 0}
"""Pieces of work that are done without a pause."""

FOLDER = Path(sys.argv[1])

TRIALS = Path(sys.argv[4]).stem == "tune"


def pause(kind: str, piece: object) -> None:
    """Take note of a piece of work, and wait for the loss if it is not among the first."""
    notes = FOLDER / kind
    node = ray.get_runtime_context().get_node_id()
    (notes / f"{piece}.{node}.{uuid4().hex}").touch()
    while len(list(notes.iterdir())) > FIRST.get(kind, 0) and not (notes / "lost").exists():
        time.sleep(0.05)


class Scan(scan.Scan):
    """Pauses after blocks."""

    def __call__(self, files: pa.Table) -> pa.Table:
        """Scan a block, and pause."""
        table = super().__call__(files)
        pause("scan", files["image_id"][0])
        return table


class Write(writing.Write):
    """Pauses after blocks."""

    def __call__(self, block: pa.Table) -> dict[str, int]:
        """Write a block, and pause."""
        counts = super().__call__(block)
        pause("write", block["image_id"][0])
        return counts


class Classifier(evaluate.Classifier):
    """Pauses after batches."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score a batch, and pause."""
        scored = super().__call__(batch)
        pause("score", batch["row_id"][0])
        return scored


class Pausing:
    """Has a framework's trainings pause before epochs: trials before all, others where there is a folder."""

    def make_learner(self, config: Config, *rest: Any) -> Learner:
        """Make a learner whose epochs pause when they begin, the first excepted."""
        learner: Any = super().make_learner(config, *rest)  # type: ignore[misc]
        start_epoch = learner.start_epoch

        def pause_and_start(epoch: int, step: int = 0) -> None:
            if TRIALS and epoch:
                pause("trial", f"{round(10 * config.model.dropout):03d}")  # of a sweep over 0.0 and 0.1
            elif learner.rank == 0 and (FOLDER / f"epoch{epoch}").exists():
                pause(f"epoch{epoch}", "")
            start_epoch(epoch, step)

        learner.start_epoch = pause_and_start
        return learner  # type: ignore[no-any-return]


class PausingTensorFlow(Pausing, TensorFlow):
    """TensorFlow, with pauses."""


class PausingNumpy(Pausing, Numpy):
    """NumPy, with pauses."""


class SlowNumpy(Numpy):
    """NumPy, whose steps take 0.15 s and are noted in the file `steps`, and the last one's node in `node`."""

    def __init__(self) -> None:
        def note(_: Config, epoch: int, step: int) -> None:
            with (FOLDER / "steps").open("a") as file:
                file.write(f"{epoch} {step}\n")
            (FOLDER / "node").write_text(ray.get_runtime_context().get_node_id())
            time.sleep(0.15)

        super().__init__(note)


FRAMEWORKS = {"tensorflow": PausingTensorFlow, "numpy": PausingNumpy, "slow": SlowNumpy}


def main(patience: float, framework: str, job: str, words: list[str]) -> None:
    """Run a job with what is above."""
    connection.WORKER_ENV.clear()  # the nodes have it, which starts workers with half the work
    if framework == "slow":
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "1"  # which is off on the nodes
    for kind in FIRST:
        (FOLDER / kind).mkdir(parents=True, exist_ok=True)
    changed: list[tuple[Any, str, Any]] = [
        (prepare, "Scan", Scan),
        (prepare, "Write", Write),
        (evaluate, "Classifier", Classifier),
        (trainer, "end_vain_waits", partial(callbacks.end_vain_waits, patience_s=patience)),
        (tune, "give_up_without_nodes", partial(give_up_without_nodes, patience_s=patience)),
    ]
    for module, name, value in changed:
        setattr(module, name, value)
    BACKBONES["tiny"] = replace(BACKBONES["tiny"], framework=f"{__name__}.{FRAMEWORKS[framework].__name__}")
    sys.exit(jobs.run(Path(job).stem, Path(job).name, words))


if __name__ == "__main__":
    main(float(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
