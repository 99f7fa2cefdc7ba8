"""TensorBoard: one event file per epoch."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from brain_ray.runs import TENSORBOARD, Run
from brain_ray.tracking.history import SHOWN, EpochRecord

TAGS = {shown.tag: name for name, shown in SHOWN.items() if shown.tag}
"""TensorBoard's tags, and the fields of `EpochRecord` that they show."""


def write_epoch(run: Run, record: EpochRecord) -> None:
    """Writes an epoch's finite numbers for TensorBoard."""
    metrics = record.metrics()
    write_scalars(run, record.epoch, {tag: metrics[name] for tag, name in TAGS.items() if name in metrics})


def write_scalars(run: Run, step: int, scalars: Mapping[str, float]) -> None:
    """Writes a step's scalars, by tag, as a separate event file.

    Buckets cannot append, and a resumed run may repeat an epoch: it then writes the same file again.
    """
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            for tag, value in scalars.items():
                writer.add_scalar(tag, value, step)
        (file,) = Path(folder).iterdir()
        run.write_bytes(file.read_bytes(), *TENSORBOARD, f"events.out.tfevents.{step:06d}")
