"""Sweeps that were never trained: trials with made-up histories and predictions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from brain_ray.comparison.cost import Cost
from brain_ray.config import Config, ModelConfig, SweepConfig
from brain_ray.scoring.calibration import FLOOR
from brain_ray.tracking.history import EpochRecord
from brain_ray.tuning.trials import Reached, Rung, Status, SweepRecord, Trial, TrialRecord

SIZES = {
    "EfficientNetB0": 224,
    "EfficientNetB3": 300,
    "EfficientNetV2B0": 224,
    "EfficientNetV2S": 384,
    "tiny": 64,
}
COSTS = {
    "EfficientNetB0 224x224 gap": Cost(4_054_695, 0.79, 14.2, 92.0),
    "EfficientNetB3 300x300 gap": Cost(10_789_683, 3.71, 48.9, 21.5),
    "EfficientNetV2B0 224x224 gap": Cost(5_924_436, 1.45, 15.9, 88.3),
    "EfficientNetV2S 384x384 gap": Cost(20_336_484, 16.9, 131.0, 7.9),
    "tiny 64x64 gap": Cost(25_300, 0.012, 0.4, 4210.0),
}


def make_config(**sweep: Any) -> Config:
    return Config(name="compare", sweep=SweepConfig(**{"bootstrap": 300} | sweep))


def labels_of(images: int) -> np.ndarray:
    return np.arange(images) % 4


def predictions(labels: np.ndarray, sharpness: float, seed: int, difficulty: int = 7) -> np.ndarray:
    """Predictions that are the better the larger `sharpness` is; images are as hard for all models."""
    images = len(labels)
    shared = np.random.default_rng(difficulty).normal(size=(images, 4))
    logits = 1.1 * shared + 0.5 * np.random.default_rng([seed, 1]).normal(size=(images, 4))
    logits[np.arange(images), labels] += sharpness
    chances = np.exp(logits)
    return (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    chosen = probabilities[np.arange(len(labels)), labels].astype(float)
    return float(-np.log(np.maximum(chosen, FLOOR)).mean())


def make_history(values: Sequence[float], seconds: float = 30.0) -> tuple[EpochRecord, ...]:
    """Epochs with these validation cross-entropies."""
    records, lowest = [], math.inf
    for epoch, value in enumerate(values, 1):
        best = value < lowest
        lowest = min(lowest, value) if math.isfinite(value) else lowest
        fields = {"loss": value, "val_loss": value, "val_cross_entropy": value, "cross_entropy": value}
        fields |= {"accuracy": 0.9, "val_accuracy": 0.9, "learning_rate": 1e-3, "images_per_second": 70.0}
        records.append(
            EpochRecord(epoch=epoch, best=best, rolled_back=False, seconds=seconds, input_wait=0.1, **fields)
        )
    return tuple(records)


def make_trial(
    number: int,
    variant: int,
    repeat: int = 0,
    backbone: str = "EfficientNetB0",
    changes: dict[str, Any] | None = None,
) -> Trial:
    size = SIZES[backbone]
    config = make_config().model_copy(
        update={"model": ModelConfig(backbone=backbone, height=size, width=size), "seed": 123 + repeat}
    )
    return Trial(f"{number:03}", variant, repeat, {"model.backbone": backbone} | (changes or {}), config)


def make_record(
    trial: Trial,
    labels: np.ndarray,
    probabilities: np.ndarray | None,
    status: Status = "finished",
    epochs: int = 9,
    reason: str = "",
) -> TrialRecord:
    """A trial that falls towards the cross-entropy of its probabilities; without any it has no epochs."""
    history: tuple[EpochRecord, ...] = ()
    if probabilities is not None:
        end = cross_entropy(labels, probabilities)
        wobble = np.random.default_rng(int(trial.id)).uniform(0.0, 0.15, epochs)
        best = max(0, epochs - 2) if status == "finished" else epochs - 1
        fall = [
            end * (1 + 2.2 * (math.exp(-0.7 * i) - math.exp(-0.7 * best)) + wobble[i]) for i in range(best)
        ]
        fall += [end, *(1.1 * end for _ in range(epochs - 1 - best))]
        history = make_history(fall)
    return TrialRecord(
        trial, status, history, probabilities, reason, held_seconds=400.0, devices=0.5, device="CPU"
    )


def make_sweep(
    records: Sequence[TrialRecord],
    labels: np.ndarray,
    rungs: Sequence[Rung] = (),
    groups: np.ndarray | None = None,
    **sweep: Any,
) -> SweepRecord:
    """A sweep; without groups, each image is one of its own."""
    units = np.arange(len(labels)) if groups is None else groups
    return SweepRecord(make_config(**sweep), tuple(records), labels, units, tuple(rungs))


def sweep_of_four(images: int = 600, **sweep: Any) -> SweepRecord:
    """Four backbones, one trial each, of which EfficientNetV2S is barely the best."""
    labels = labels_of(images)
    sharpness = {
        "EfficientNetB0": 4.6,
        "EfficientNetB3": 4.7,
        "EfficientNetV2B0": 3.2,
        "EfficientNetV2S": 4.75,
    }
    return make_sweep(
        [
            make_record(make_trial(i, i, backbone=name), labels, predictions(labels, value, i))
            for i, (name, value) in enumerate(sharpness.items())
        ],
        labels,
        **sweep,
    )


def sweep_of_forty(images: int = 600, **sweep: Any) -> SweepRecord:
    """Four backbones, five rates of two repeats each; with ASHA, two failures, and one of NaN."""
    labels = labels_of(images)
    rng = np.random.default_rng(11)
    base = {"EfficientNetB0": 4.4, "EfficientNetB3": 4.6, "EfficientNetV2B0": 4.5, "EfficientNetV2S": 4.7}
    records, reached = [], {1: [], 3: []}
    for variant, (rate, name) in enumerate(
        (rate, name) for rate in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2) for name in base
    ):
        dropout = round(float(rng.uniform(0.1, 0.5)), 3)
        changes = {
            "train.learning_rate": rate,
            "model.dropout": dropout,
            "train.optimizer": ["Adamax", "AdamW"][variant % 2],
        }
        for repeat in range(2):
            number = len(records)
            trial = make_trial(number, variant, repeat, name, changes)
            if number in (9, 30):
                reason = (
                    "OSError: cannot read <dataset/rows.parquet>: no such file"
                    if number == 9
                    else "out of memory"
                )
                records.append(TrialRecord(trial, "failed", (), None, reason, attempts=2, held_seconds=20.0))
                continue
            if number == 36:
                nan = make_history([math.nan] * 9)
                records.append(TrialRecord(trial, "finished", nan, None, held_seconds=400.0))
                continue
            sharp = base[name] - 0.9 * abs(math.log10(rate / 6e-4)) + float(rng.normal(0, 0.15))
            last = 1 if sharp < 3.6 else 3 if sharp < 4.2 else 9
            at = {1: 0.2, 3: 0.75, 9: 1.0}[last]
            status: Status = "finished" if last == 9 else "stopped"
            reason = "" if last == 9 else f"at epoch {last} it was not among the best third"
            one = make_record(trial, labels, predictions(labels, sharp * at, number), status, last, reason)
            records.append(one)
            for epoch, came in reached.items():
                if last >= epoch:
                    best = min(past.val_cross_entropy for past in one.history[:epoch])
                    came.append(Reached(trial.id, best, last == epoch))
    rungs = [Rung(epoch, tuple(came)) for epoch, came in reached.items()]
    return make_sweep(records, labels, rungs, **{"seeds": 2} | sweep)
