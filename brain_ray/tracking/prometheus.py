"""Prometheus gauges of a run, set by its driver process.

Ray's agent on that process' node exports them, each with `ray_` in front, beside Ray's own. Without an agent
they go nowhere. Nothing here prints, raises or waits.
"""

import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ray.util.metrics import Gauge

from brain_ray.tracking.history import SHOWN

PREFIX = "brain_ray_"

REFRESH_S = 5.0
"""Interval in seconds at which all values are given to Ray again. Ray forgets a gauge once it has sent it,
every ten seconds (`metrics_report_interval_ms`), and its agent drops it twenty seconds later."""

TRAINING = ("run", "trial")
"""Labels of a training's gauges; outside of sweeps, `trial` is empty, which Prometheus treats as absent."""

FIELDS = {name: shown.gauge for name, shown in SHOWN.items() if shown.gauge is not None}
"""Gauge of each field of an `EpochRecord` that has one."""

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        gauge.name: (gauge.text, (*TRAINING, "split") if gauge.split else TRAINING)
        for gauge in FIELDS.values()
    },
    "epoch_timestamp_seconds": ("When the last epoch ended, in seconds since 1970", TRAINING),
    "input_wait": ("Share of the last epoch that the first worker waited for its batches", TRAINING),
    "trials": ("Trials of a sweep", ("run", "status")),
    "prepared_images": ("Images of a data set, by the split that they went to", ("run", "split")),
    "stage": ("1 while a stage runs, 0 when it has ended", ("run", "stage")),
    "stage_seconds": ("Seconds that a stage took", ("run", "stage")),
}
"""Description and labels of each gauge, by its name without PREFIX."""

STATUSES = ("waiting", "running", "retried", "finished", "stopped", "failed")
"""Statuses of trials; a status without trials has the value 0."""

Series = tuple[str, frozenset[tuple[str, str]]]
"""Name of a gauge without PREFIX, and its labels."""


def epoch(run: str, record: Mapping[str, float], trial: str = "") -> None:
    """Sets the gauges of an epoch that has ended, from the finite numbers of an `EpochRecord`."""
    labels = {"run": run, "trial": trial}
    for name, gauge in FIELDS.items():
        split = {"split": gauge.split} if gauge.split else {}
        VALUES.put(gauge.name, record.get(name, math.nan), **labels, **split)
    seconds = record.get("seconds", 0.0)
    if seconds > 0:
        VALUES.put("input_wait", record.get("input_wait", math.nan) / seconds, **labels)
    VALUES.put("epoch_timestamp_seconds", time.time(), **labels)


def end_trial(run: str, trial: str) -> None:
    """Removes the gauges of an ended trial, so that for a large sweep only running trials are sent."""
    VALUES.drop({("run", run), ("trial", trial)})


def trials(run: str, counts: Mapping[str, int]) -> None:
    """Sets how many trials of a sweep have each of STATUSES."""
    for status in STATUSES:
        VALUES.put("trials", counts.get(status, 0), run=run, status=status)


def prepared(run: str, images: Mapping[Any, int]) -> None:
    """Sets how many images of a data set went to each split, including `dropped` and `rejected`."""
    for split, number in images.items():
        VALUES.put("prepared_images", number, run=run, split=str(split))


@contextmanager
def stage(run: str, name: str) -> Iterator[None]:
    """Sets the gauges of a running stage inside the block, and its duration at the end."""
    start = time.monotonic()
    VALUES.put("stage", 1, run=run, stage=name)
    try:
        yield
    finally:
        VALUES.put("stage", 0, run=run, stage=name)
        VALUES.put("stage_seconds", time.monotonic() - start, run=run, stage=name)


@cache
def _gauge(name: str) -> Any:
    text, labels = GAUGES[name]
    return Gauge(PREFIX + name, text, labels)


def give_to_ray(series: Series, value: float) -> None:
    """Gives a value to Ray; errors are ignored, because they are no concern of a run."""
    with suppress(Exception):
        _gauge(series[0]).set(value, dict(series[1]))


@dataclass
class Values:
    """Latest values of this process, which a thread gives to Ray repeatedly while the process lives."""

    last: dict[Series, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None

    def put(self, name: str, value: float, **labels: str) -> None:
        """Keeps and gives a value of a gauge, by its name without PREFIX, if it is finite."""
        if not math.isfinite(value):
            return
        series = (name, frozenset(labels.items()))
        with self.lock:
            self.last[series] = float(value)
            if self.thread is None:
                self.thread = threading.Thread(target=self._refresh, name="metrics", daemon=True)
                self.thread.start()
        give_to_ray(series, float(value))

    def drop(self, labels: set[tuple[str, str]]) -> None:
        """Forgets the gauges that have all of some labels."""
        with self.lock:
            self.last = {series: value for series, value in self.last.items() if not labels <= series[1]}

    def give(self) -> None:
        """Gives all values to Ray again."""
        with self.lock:
            values = list(self.last.items())
        for series, value in values:
            give_to_ray(series, value)

    def _refresh(self) -> None:
        while True:
            time.sleep(REFRESH_S)
            self.give()


VALUES = Values()
"""Those of this process."""
