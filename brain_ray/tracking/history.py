"""EpochRecord and history.csv: the numbers recorded for each epoch."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from brain_ray.runs import HISTORY, Run


@dataclass(frozen=True)
class EpochRecord:
    """Record of one epoch. Losses and accuracies are means over all rows, from sums over all workers."""

    epoch: int
    """Number of the epoch, from 1."""
    loss: float
    """Training loss, including label smoothing and the head's penalties."""
    accuracy: float
    """Share of training rows classified correctly, with augmentation and dropout."""
    val_loss: float
    """Keras' val_loss: the configured loss plus the head's penalties."""
    val_cross_entropy: float
    """Validation cross-entropy alone, in nats."""
    val_accuracy: float
    learning_rate: float
    """Learning rate of the epoch's last step."""
    best: bool
    rolled_back: bool
    seconds: float
    """Duration of training and validation together, in seconds."""
    images_per_second: float
    """Images per second of training alone."""
    cross_entropy: float
    """Cross-entropy of the training rows, without smoothing and penalties, in nats."""
    input_wait: float
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
        return {
            name: value if isinstance(value, str) or math.isfinite(value) else None
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "EpochRecord":
        """Returns the record from an object made by `to_json`."""
        numbers: dict[str, Any] = {name: math.nan if x is None else x for name, x in value.items()}
        return cls(**numbers)


def to_csv(records: Sequence[EpochRecord]) -> bytes:
    """Returns history.csv: one row per epoch; flags are 0 or 1, NaN and infinity are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    for record in records:
        row = record.to_json()
        writer.writerow(
            {name: int(value) if isinstance(value, bool) else value for name, value in row.items()}
        )
    return text.getvalue().encode()


def from_csv(data: bytes) -> list[EpochRecord]:
    """Returns the records of a table made by `to_csv`."""
    read: dict[object, Callable[[str], Any]] = {
        int: int,
        float: lambda text: float(text) if text else math.nan,
        bool: lambda text: text == "1",
        str: str,
    }
    readers = {field.name: read[field.type] for field in fields(EpochRecord)}
    rows = csv.DictReader(io.StringIO(data.decode()))
    return [EpochRecord(**{name: readers[name](text) for name, text in row.items()}) for row in rows]


def read_history(run: Run) -> list[EpochRecord]:
    """Returns the epochs of history.csv, or none if there is no such file."""
    return from_csv(run.read_bytes(*HISTORY)) if run.exists(*HISTORY) else []
