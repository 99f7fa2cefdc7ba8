"""Setups: on how many workers, on which device and in which precision the epochs of a training ran."""

import platform
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from brain_ray.config import Config
from brain_ray.records import from_json, to_json
from brain_ray.runs import TRAIN, Run

SETUPS = (TRAIN, "setups.json")

LEAST_NORM_ROWS = 16
"""Rows of a worker in a step below which learning batch norms are warned of: Wu and He (2018,
arxiv.org/abs/1803.08494, figure 1) measure a rising error from there down."""


@dataclass(frozen=True)
class Setup:
    """What a training ran on from one epoch on, until the next setup."""

    first_epoch: int
    """Counted from 1."""
    num_workers: int
    worker_batch: int
    """Largest number of rows of a step on one worker."""
    device: str
    """Name of the first worker's processor or GPU; the others' are not looked at."""
    precision: str
    """Data type in which the network computed, as Keras names it; `auto` is resolved."""


def note_setup(run: Run, setup: Setup) -> None:
    """Adds a setup to setups.json, if it is another than before; those of epochs that are trained again are
    dropped."""
    before = [each for each in read_setups(run) if each.first_epoch < setup.first_epoch]
    same = before and replace(setup, first_epoch=before[-1].first_epoch) == before[-1]
    run.write_json([to_json(each) for each in (before if same else [*before, setup])], *SETUPS)


def read_setups(run: Run) -> Sequence[Setup]:
    """Reads setups.json; empty if an earlier version trained."""
    if not run.exists(*SETUPS):
        return []
    return [from_json(Setup, each) for each in run.read_json(*SETUPS)]


def cpu_name() -> str:
    """Returns the name of this machine's processor, such as `AMD EPYC 7B13`."""
    with suppress(OSError):  # there is none but on Linux
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine() or "CPU"


def describe_small_norms(config: Config) -> str:
    """Returns what is wrong with a worker's share of a step for batch norms that learn, and what to do; "" if
    nothing is."""
    model, train = config.model, config.train
    rows = -(-train.step_images // train.max_workers)
    in_backbone = model.backbone_spec.batch_norms and model.batch_norm == "learned" and train.epochs > 0
    if rows >= LEAST_NORM_ROWS or not (in_backbone or model.head == "seed"):
        return ""
    fewer = "lower train.num_workers, raise" if train.max_workers > 1 else "raise"
    return (
        f"batch norms learn from {rows} images at a time, each worker's own, fewer than {LEAST_NORM_ROWS}: "
        f"their statistics are noisy, and the result depends on the number of workers; {fewer} "
        "train.batch_size, or set model.batch_norm to fixed"
    )
