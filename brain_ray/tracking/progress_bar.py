"""Progress bar of a training, on a terminal."""

import sys
from contextlib import ExitStack
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from brain_ray import logs
from brain_ray.tracking.position import Position


class ProgressBar:
    """Progress bar with images/s and the remaining time."""

    def __init__(self, batch_size: int, console: Console | None = None) -> None:
        self._above = ExitStack()
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            TextColumn("step {task.fields[step]}/{task.fields[steps]}"),
            BarColumn(),
            _ImagesPerSecond(batch_size),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
        )

    def __enter__(self) -> "ProgressBar":
        self._above.enter_context(logs.above(self._progress.console))
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._above.close()

    def show(self, at: Position) -> None:
        """Moves the bar to a position."""
        fields: Any = {"epoch": at.epoch + 1, "epochs": at.epochs, "step": at.step, "steps": at.steps}
        done, total = at.epoch * at.steps + at.step, at.epochs * at.steps
        if not self._progress.tasks:  # a resumed run does not begin at 0
            self._progress.add_task("", completed=done, total=total, **fields)
        self._progress.update(self._progress.task_ids[0], completed=done, total=total, **fields)


class _ImagesPerSecond(ProgressColumn):
    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self._batch_size = batch_size

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed * self._batch_size:.0f} img/s")


def on_a_terminal() -> bool:
    """Returns whether the output of this process goes to a terminal."""
    return sys.stdout.isatty()
