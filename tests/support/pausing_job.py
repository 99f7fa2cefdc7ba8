"""A program for tests: a job whose work on the nodes pauses, at the right moment, until one of them is lost.

python pausing_job.py FOLDER PATIENCE JOB WORDS...

FOLDER gets a folder for each kind of work, and in it a note of each piece that was done, named by the piece
and the node. After the first few, what is done waits until there is a file `lost` beside the notes. A
training pauses after the epochs that have a folder there before. Nodes are waited for PATIENCE seconds.
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import ray

from brain_ray import jobs, pipeline
from brain_ray.cluster.waiting import give_up_without_nodes
from brain_ray.data import prepare, scan, writing
from brain_ray.evaluation import evaluate
from brain_ray.training import callbacks, features, trainer
from brain_ray.training.tensorflow import feature_extractor
from brain_ray.tuning import trainable, tune

FIRST = {"scan": 4, "write": 4, "score": 4, "features": 0, "trial": 0}
"""Pieces of work that are done without a pause."""

FOLDER = Path(sys.argv[1])


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


class Extractor(feature_extractor.Extractor):
    """Pauses after batches."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Compute the features of a batch, and pause."""
        computed = super().__call__(batch)
        pause("features", batch["index"][0])
        return computed


def train_worker(task: dict[str, Any]) -> None:
    """Train as one of the workers, and pause after epochs."""
    from brain_ray.training import worker

    write_epoch = worker.write_epoch

    def write_and_pause(run: Any, record: Any, state: Any) -> None:
        write_epoch(run, record, state)
        if (FOLDER / f"epoch{record.epoch}").exists():
            pause(f"epoch{record.epoch}", "")

    worker.write_epoch = write_and_pause
    worker.train_worker_task(task)


class TrialProcess(trainable.TrialProcess):
    """Pauses after epochs."""

    def step(self) -> dict[str, Any]:
        """Train an epoch of a trial, and pause."""
        report = super().step()
        pause("trial", self._home.name)
        return report


def main(patience: float, job: str, words: list[str]) -> None:
    """Run a job with what is above."""
    for kind in FIRST:
        (FOLDER / kind).mkdir(parents=True, exist_ok=True)
    changed: list[tuple[Any, str, Any]] = [
        (prepare, "Scan", Scan),
        (prepare, "Write", Write),
        (evaluate, "Classifier", Classifier),
        (features, "Extractor", Extractor),
        (trainer, "train_worker_task", train_worker),
        (tune, "TrialProcess", TrialProcess),
        (trainer, "end_vain_waits", partial(callbacks.end_vain_waits, patience_s=patience)),
        (pipeline, "give_up_without_nodes", partial(give_up_without_nodes, patience_s=patience)),
    ]
    for module, name, value in changed:
        setattr(module, name, value)
    sys.exit(jobs.run(Path(job).stem, Path(job).name, words))


if __name__ == "__main__":
    main(float(sys.argv[2]), sys.argv[3], sys.argv[4:])
