"""EpochRecord and history.csv: what is recorded of each epoch."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from brain_ray.runs import HISTORY, Run

"""Within train/: written anew after each epoch."""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. Losses and accuracies are means over all rows, computed from sums over all workers."""

    epoch: int
    """Counted from 1."""
    loss: float
    """What training minimised: smoothed labels and the head's penalties included."""
    accuracy: float
    """Share of training rows, as augmented and with dropout on, that were right."""
    val_loss: float
    """Keras' val_loss: the configured loss with the head's penalties."""
    val_cross_entropy: float
    """Cross-entropy alone, in nats."""
    val_accuracy: float
    learning_rate: float
    """Of the epoch's last step."""
    best: bool
    rolled_back: bool
    seconds: float
    """Training and validation together."""
    images_per_second: float
    """Of training alone."""
    cross_entropy: float
    """Of the training rows, without smoothing and penalties, in nats."""
    input_wait: float
    """Seconds in which the first worker had nothing to do but to wait for its batches."""
    operator: str = ""
    """What the operator said that was heard after this epoch, with the time in UTC."""

    def line(self, epochs: int, message: str) -> str:
        """Return the epoch as a line for people; lines of one run are aligned."""
        width = len(str(epochs))
        columns = [
            f"epoch {self.epoch:{width}}/{epochs}  loss {self.loss:.4f} acc {self.accuracy:.4f}",
            f"val ce {self.val_cross_entropy:.4f} acc {self.val_accuracy:.4f}",
            f"rate {self.learning_rate:.1e}",
            f"{self.seconds:4.0f} s {self.images_per_second:5.0f} img/s",
        ]
        return " | ".join([*columns, message] if message else columns)

    def metrics(self) -> dict[str, float]:
        """Return the finite numbers as plain floats: Ray's snapshot of a run takes no others."""
        numbers = {name: value for name, value in asdict(self).items() if not isinstance(value, str)}
        return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; what is not finite becomes None."""
        return {
            name: value if isinstance(value, str) or math.isfinite(value) else None
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "EpochRecord":
        """Return the record that `to_json` made an object of."""
        numbers: dict[str, Any] = {name: math.nan if x is None else x for name, x in value.items()}
        return cls(**numbers)


def to_csv(records: Sequence[EpochRecord]) -> bytes:
    """Return history.csv: a row an epoch; flags are 0 or 1, what is not finite is empty."""
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
    """Return the records that `to_csv` made a table of."""
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
    """Return the epochs of history.csv; none where there is no such file."""
    return from_csv(run.read_bytes(*HISTORY)) if run.exists(*HISTORY) else []
