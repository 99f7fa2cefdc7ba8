"""Trainings and sweeps that are kept when settings change, until their replacements are finished."""

import csv
import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from brain_ray.fingerprints import digest
from brain_ray.logs import log
from brain_ray.runs import HISTORY, KEPT, MARKER, STARTED, SWEEP, TRAIN, TRIALS, Run
from brain_ray.tuning.trial_store import trial_run

WORTH_S = 60.0
"""Seconds of training from which on a folder is kept."""


@dataclass(frozen=True)
class Work:
    """Amount of training in a folder, from its history.csv files."""

    epochs: int = 0
    seconds: float = 0.0

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the training took more than `WORTH_S` seconds."""
        return self.seconds > WORTH_S

    def __str__(self) -> str:
        minutes = round(self.seconds / 60)
        time = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
        return f"{self.epochs} epoch{'' if self.epochs == 1 else 's'} ({time})"


def work_in(run: Run, folder: str) -> Work:
    """Addses up the epochs of a run's training, or of all trials of its sweep; none for any other folder."""
    homes = [run] if folder == TRAIN else []
    if folder == SWEEP:
        homes = [trial_run(run, trial) for trial in run.list_folders(*TRIALS)]
    seconds: list[float] = []
    for home in homes:
        with suppress(FileNotFoundError):
            rows = csv.DictReader(io.StringIO(home.read_bytes(*HISTORY).decode()))
            seconds += [float(row["seconds"] or 0) for row in rows]
    return Work(len(seconds), sum(seconds))


def inputs_of(run: Run, *parts: str) -> dict[str, Any] | None:
    """Returns the inputs with which the stage in a folder was finished or started; None if no stage is
    complete there."""
    for name in (MARKER, STARTED):
        if run.exists(*parts, name):
            stored = run.read_json(*parts, name)
            inputs: dict[str, Any] = stored["inputs"] if name == MARKER else stored
            return inputs
    return None


def put_aside(run: Run, folder: str) -> None:
    """Moves a stage's folder into `KEPT` if it is worth keeping; logs a line first."""
    inputs, work = inputs_of(run, folder), work_in(run, folder)
    if inputs is None or not work.is_worth_keeping:
        return
    target = (KEPT, f"{folder}-{digest(inputs)[:12]}")
    log.info(
        f"{work} of {folder}/ are kept in {run.uri(*target)} until what takes their place is finished; "
        "take the change back before, and the run goes on with them"
    )
    run.move((folder,), target)


def find(run: Run, folder: str, fits: Callable[[Mapping[str, Any]], bool], *, finished: bool) -> str | None:
    """Returns the name in `KEPT` of a folder that was kept for a stage and whose inputs fit; None if there is
    none.

    Args:
        run: the run.
        folder: the stage's folder.
        fits: returns whether inputs are the current ones.
        finished: whether only a finished stage is wanted.
    """
    for name in _names(run, folder):
        inputs = inputs_of(run, KEPT, name)
        if finished and not run.exists(KEPT, name, MARKER):
            continue
        if inputs is not None and fits(inputs):
            return name
    return None


def restore(run: Run, folder: str, name: str) -> None:
    """Moves a kept folder back to the place of a stage's folder."""
    run.move((KEPT, name), (folder,))


def remove_all(run: Run, folder: str) -> list[str]:
    """Deletes everything that was kept of a stage's folder; returns the paths."""
    names = _names(run, folder)
    for name in names:
        run.remove(KEPT, name)
    return [run.uri(KEPT, name) for name in names]


def _names(run: Run, folder: str) -> list[str]:
    return [name for name in run.list_folders(KEPT) if name.rpartition("-")[0] == folder]
