"""Lost processes and nodes: which errors mean one, and a retry of work after one."""

import re
import time
from collections.abc import Callable
from typing import TypeVar

import ray.exceptions
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    UnserializableException,
    WorkerCrashedError,
)

from brain_ray.errors import RunError, last_line
from brain_ray.logs import log, silenced

LOST_ERRORS = (RayActorError, ObjectLostError, NodeDiedError, WorkerCrashedError)
"""Errors of Ray that only a lost process or node causes, never the work itself."""


ATTEMPTS = 3
"""Largest number of attempts of work that Ray cannot continue after it lost an actor."""

PAUSE_S = 5.0
"""Seconds between a failed attempt and the next one.

Ray Data lets a failed attempt's tasks end by themselves. One whose rows were lost with a node waits until
these are read again, and holds its actor's CPUs; if the next attempt takes the last free CPU meanwhile, both
wait for ever (seen once with Ray 2.60).
"""


T = TypeVar("T")


def is_loss(error: BaseException) -> bool:
    """Returns whether an error comes of a lost process or node.

    Ray Data 2.60 adds words to the arguments of what its tasks fail with, and a dead actor's error cannot be
    unpickled with them: only its text is left, whose last exception tells. The actors that read the footers
    of Parquet files are lost in this way.
    """
    if isinstance(error, UnserializableException):
        names = re.findall(r"^ray\.exceptions\.(\w+)", str(error), re.MULTILINE)
        kind = getattr(ray.exceptions, names[-1], None) if names else None
        return isinstance(kind, type) and issubclass(kind, LOST_ERRORS)
    return isinstance(error, LOST_ERRORS)


def retry_if_lost(work: Callable[[], T], what: str, pause_s: float = PAUSE_S) -> T:
    """Does some work by actors of Ray Data; repeats it if a process or node that it needs is lost.

    Ray does not restart such actors reliably (ray-project/ray issue 53727).

    Args:
        work: what is done; returns its result.
        what: its name in messages.
        pause_s: seconds before each further attempt.

    Raises:
        RunError: nodes were lost in each of the attempts.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with silenced("ray.data"):  # it prints the trace of what it raises
                return work()
        except Exception as error:
            if not is_loss(error):
                raise
            last = last_line(error)
            if attempt == ATTEMPTS:
                raise RunError(
                    f"{what} was begun {ATTEMPTS} times, and each time a process or node was lost, the last "
                    f"time: {last}; the same command goes on from here"
                ) from error
            log.info(f"{what} begins anew, a process or node was lost: {last}")
        time.sleep(pause_s)  # when nothing refers to the error any more, and through it to actors
    raise AssertionError
