"""Trials that were never trained: settings of a small sweep, and records with made-up values."""

import math
from collections.abc import Sequence
from typing import Any

from brain_ray.config import Config, ModelConfig, SweepConfig, TrainConfig
from brain_ray.tracking.history import EpochRecord
from brain_ray.tuning.trials import Status, Trial, TrialRecord

EPOCHS = 9


def sweep_config(*space: str, seed: int = 7, **sweep: Any) -> Config:
    """Settings of a sweep of `tiny` over a space."""
    return Config(
        seed=seed,
        model=ModelConfig(backbone="tiny", weights="none", height=64, width=64),
        train=TrainConfig(epochs=EPOCHS),
        sweep=SweepConfig(**{"space": space or ("model.dropout=grid(0.1, 0.2)",), **sweep}),
    )


def make_history(values: Sequence[float]) -> tuple[EpochRecord, ...]:
    """Epochs with these validation cross-entropies."""
    records, lowest = [], math.inf
    for epoch, value in enumerate(values, 1):
        best = value < lowest
        lowest = value if best else lowest
        records.append(
            EpochRecord(
                epoch=epoch,
                loss=value,
                accuracy=0.5,
                val_loss=value + 1,
                val_cross_entropy=value,
                val_accuracy=0.5,
                learning_rate=0.001,
                best=best,
                rolled_back=False,
                seconds=1.0,
                images_per_second=100.0,
                cross_entropy=value,
                input_wait=0.0,
            )
        )
    return tuple(records)


def make_record(
    trial: int,
    values: Sequence[float],
    status: Status = "finished",
    reason: str = "",
    variant: int | None = None,
    repeat: int = 0,
    config: Config | None = None,
) -> TrialRecord:
    """A trial of these validation cross-entropies; without a variant, one of its own."""
    number = trial if variant is None else variant
    made = Trial(f"{trial:03}", number, repeat, {"model.dropout": 0.1}, config or sweep_config())
    return TrialRecord(made, status, make_history(values), reason=reason)
