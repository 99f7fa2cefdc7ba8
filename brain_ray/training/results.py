"""Result files of a training: history.csv, best.npz, result.json, answers.npz."""

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.models.weights import write_weights
from brain_ray.records import to_json
from brain_ray.runs import BEST, HISTORY, RESULT, VAL_PROBABILITIES, Run
from brain_ray.tracking import tensorboard
from brain_ray.tracking.history import EpochRecord, to_csv
from brain_ray.training import checkpoints
from brain_ray.training.framework import Arrays
from brain_ray.training.setups import read_setups
from brain_ray.training.state import TrainState


def write_epoch(run: Run, record: EpochRecord, state: TrainState) -> None:
    """Writes history.csv, the numbers for TensorBoard and, of a best epoch, answers.npz where it is kept."""
    run.write_bytes(to_csv(state.history), *HISTORY)
    if record.best and state.val_probabilities is not None:
        run.write_bytes(checkpoints.pack({"probabilities": state.val_probabilities}), *VAL_PROBABILITIES)
    tensorboard.write_epoch(run, record)


def write_result(run: Run, config: Config, state: TrainState) -> None:
    """Writes history.csv, best.npz and result.json."""
    run.write_bytes(to_csv(state.history), *HISTORY)
    write_best(run, state.best)
    best = [record for record in state.history if record.best][-1:]
    result = {
        "best_epoch": state.dwell.best_epoch,
        "epochs": state.epoch,
        "monitor": config.train.monitor,
        "keep_epoch": config.train.keep_epoch,
        "value": getattr(best[0], config.train.monitor) if best else None,
        "val_accuracy": best[0].val_accuracy if best else None,
        "diverged": state.dwell.halted,
        "seconds": sum(record.seconds for record in state.history),
        "backbone": config.model.backbone,
        "setups": [to_json(setup) for setup in read_setups(run)],
    }
    run.write_json(result, *RESULT)


def write_best(run: Run, weights: Arrays) -> None:
    """Writes best.npz, by way of a local file: the weights are not held twice."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / BEST[-1]
        write_weights(file, weights)
        run.write_bytes(file, *BEST)


def read_val_probabilities(run: Run) -> NDArray[np.float32] | None:
    """Returns (rows, classes), the best epoch's probabilities of the validation rows, if they were kept."""
    if not run.exists(*VAL_PROBABILITIES):
        return None
    with np.load(io.BytesIO(run.read_bytes(*VAL_PROBABILITIES))) as stored:
        probabilities: NDArray[np.float32] = stored["probabilities"]
    return probabilities


def summary(run: Run) -> str:
    """Returns result.json as a sentence.

    Raises:
        RunError: no epoch, or none of the last ones, had a finite loss.
    """
    result = run.read_json(*RESULT)
    if result["diverged"] or not result["best_epoch"]:
        epoch = result["best_epoch"]
        kept = f"the weights of epoch {epoch}" if epoch else "those at the start"
        raise RunError(
            f"training ended after epoch {result['epochs']}, the last ones without a finite loss; the best "
            f"weights, {kept}, are in {run.uri(*BEST)}: lower train.learning_rate, or set "
            "train.clip_norm"
        )
    return (
        f"{result.get('keep_epoch', 'best')} epoch {result['best_epoch']} of {result['epochs']}: "
        f"{result['monitor']} {result['value']:.4f}, val_accuracy {result['val_accuracy']:.4f}"
    )
