"""EpochRecord and history.csv: the numbers recorded for each epoch."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Annotated, Any

from brain_ray import records
from brain_ray.records import Number
from brain_ray.runs import HISTORY, Run


@dataclass(frozen=True)
class Gauge:
    """A gauge of Prometheus that shows a field of an `EpochRecord`."""

    name: str
    """Without the prefix of all gauges of the package."""
    text: str
    """Description; fields that share a gauge have the same."""
    split: str = ""
    """Value of its label `split`; without one it has no such label."""


@dataclass(frozen=True)
class Shown:
    """Where a field of `EpochRecord` is shown, as an annotation of its type."""

    tag: str = ""
    """TensorBoard's; empty: it is not shown there."""
    gauge: Gauge | None = None


LOSS = partial(Gauge, "loss", "Loss of the last epoch")
CROSS_ENTROPY = partial(Gauge, "cross_entropy", "Cross-entropy of the last epoch, in nats")
ACCURACY = partial(Gauge, "accuracy", "Share of images that were right in the last epoch")
SECONDS = Gauge("epoch_seconds", "Seconds of the last epoch, training and validation")
RATE = Gauge("learning_rate", "Learning rate of the last epoch's last step")
SPEED = Gauge("images_per_second", "Images a second while the last epoch trained, all workers together")


@dataclass(frozen=True)
class EpochRecord:
    """Record of one epoch. Losses and accuracies are means over all rows, from sums over all workers.

    A field is a column of history.csv and a metric of MLflow, and TensorBoard and Prometheus show it as
    annotated here. A new one goes to the end, with a default for the files of earlier versions.
    """

    epoch: Annotated[int, Shown(gauge=Gauge("epoch", "Finished epochs"))]
    """Number of the epoch, from 1."""
    loss: Annotated[Number, Shown("loss/train", LOSS("train"))]
    """Training loss, including label smoothing and the head's penalties."""
    accuracy: Annotated[Number, Shown("accuracy/train", ACCURACY("train"))]
    """Share of training rows classified correctly, with augmentation and dropout."""
    val_loss: Annotated[Number, Shown("loss/validation", LOSS("validation"))]
    """Keras' val_loss: the configured loss plus the head's penalties."""
    val_cross_entropy: Annotated[Number, Shown("cross_entropy/validation", CROSS_ENTROPY("validation"))]
    """Validation cross-entropy alone, in nats."""
    val_accuracy: Annotated[Number, Shown("accuracy/validation", ACCURACY("validation"))]
    learning_rate: Annotated[Number, Shown("learning_rate", RATE)]
    """Learning rate of the epoch's last step."""
    best: bool
    rolled_back: bool
    seconds: Annotated[Number, Shown("speed/seconds", SECONDS)]
    """Duration of training and validation together, in seconds."""
    images_per_second: Annotated[Number, Shown("speed/images_per_second", SPEED)]
    """Images per second of training alone."""
    cross_entropy: Annotated[Number, Shown("cross_entropy/train", CROSS_ENTROPY("train"))]
    """Cross-entropy of the training rows, without smoothing and penalties, in nats."""
    input_wait: Annotated[Number, Shown("speed/input_wait")]
    """Seconds in which the first worker only waited for batches."""
    operator: str = ""
    """Operator commands that took effect after this epoch, with their times in UTC."""

    def line(self, epochs: int, message: str) -> str:
        """Returns the epoch as a line of the log; lines of one run are aligned."""
        width = len(str(epochs))
        columns = [
            f"epoch {self.epoch:{width}}/{epochs}  loss {self.loss:.4f} acc {self.accuracy:.4f}",
            f"val ce {self.val_cross_entropy:.4f} acc {self.val_accuracy:.4f}",
            f"rate {self.learning_rate:.1e}",
            f"{self.seconds:4.0f} s {self.images_per_second:5.0f} img/s",
        ]
        return " | ".join([*columns, message] if message else columns)

    def metrics(self) -> dict[str, float]:
        """Returns the finite numbers as plain floats: Ray's snapshot of a run accepts no others."""
        numbers = {name: value for name, value in asdict(self).items() if not isinstance(value, str)}
        return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object; NaN and infinity become None."""
        return dict(records.to_json(self))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "EpochRecord":
        """Returns the record from an object made by `to_json`."""
        return records.from_json(cls, value)


SHOWN = {
    field.name: mark
    for field in fields(EpochRecord)
    for mark in getattr(field.type, "__metadata__", ())
    if isinstance(mark, Shown)
}
"""Where each field of `EpochRecord` is shown, by its name."""


def to_csv(history: Sequence[EpochRecord]) -> bytes:
    """Returns history.csv: one row per epoch; flags are 0 or 1, NaN and infinity are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    for record in history:
        row = record.to_json()
        writer.writerow(
            {name: int(value) if isinstance(value, bool) else value for name, value in row.items()}
        )
    return text.getvalue().encode()


def from_csv(data: bytes) -> list[EpochRecord]:
    """Returns the records of a table made by `to_csv`."""
    return [EpochRecord.from_json(row) for row in csv.DictReader(io.StringIO(data.decode()))]


def read_history(run: Run) -> list[EpochRecord]:
    """Returns the epochs of history.csv, or none if there is no such file."""
    return from_csv(run.read_bytes(*HISTORY)) if run.exists(*HISTORY) else []
