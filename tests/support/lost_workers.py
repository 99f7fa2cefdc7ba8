"""Ray Train's workers, killed in the middle of epochs."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
from support.numpy_learner import Numpy

from brain_ray.config import Config


class Killer:
    """Takes a run's lines, and kills a worker in the middle of the epochs that follow the first ones."""

    def __init__(self, kills: int) -> None:
        self.kills = kills
        self.lines: list[str] = []
        self.in_mid_epoch: list[bool] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith("epoch") and self.kills:
            self.kills -= 1
            threading.Thread(target=self._kill, args=[len(self.lines)]).start()

    def _kill(self, seen: int) -> None:
        time.sleep(0.3)
        workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in p.name()]
        workers[-1].kill()
        self.in_mid_epoch.append(len(self.lines) == seen)

    @property
    def epochs(self) -> list[str]:
        return [line.split()[1] for line in self.lines if line.startswith("epoch")]

    @property
    def losses(self) -> list[str]:
        return [line for line in self.lines if "ended with" in line]


def ending_itself(notes: Path, epoch: int, step: int) -> Numpy:
    """A framework that notes each step in a file, and kills its process before one of them, once."""

    def note(_: Config, now: int, steps: int) -> None:
        if (now, steps) == (epoch, step):
            try:
                (notes.parent / "killed").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        with notes.open("a") as file:
            file.write(f"{now} {steps}\n")

    return Numpy(note)


def pausing_in_epochs(at_step: int) -> Numpy:
    """A framework that pauses at a step of each epoch but the first, for a kill to fall there."""

    def pause(_: Config, epoch: int, step: int) -> None:
        if epoch and step == at_step:
            time.sleep(1)

    return Numpy(pause)
