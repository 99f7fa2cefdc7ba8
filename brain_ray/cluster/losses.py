"""Lost processes and nodes: which errors mean one, and a retry of work after one."""

from collections.abc import Callable
from typing import TypeVar

from brain_ray.errors import RunError, last_line
from brain_ray.logs import log, silenced

LOST_ERRORS = {"RayActorError", "ObjectLostError", "NodeDiedError", "WorkerCrashedError"}
"""Errors of Ray that only a lost process or node causes, never the work itself."""


ATTEMPTS = 3
"""Largest number of attempts of work that Ray cannot continue after it lost an actor."""


T = TypeVar("T")


def retry_if_lost(work: Callable[[], T], what: str) -> T:
    """Does some work by actors of Ray Data; repeats it if a process or node that it needs is lost.

    Ray does not restart such actors reliably (ray-project/ray issue 53727).

    Raises:
        RunError: nodes were lost in each of the attempts.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with silenced("ray.data"):  # it prints the trace of what it raises
                return work()
        except Exception as error:
            if not LOST_ERRORS & {kind.__name__ for kind in type(error).__mro__}:
                raise
            last = last_line(error)
            if attempt == ATTEMPTS:
                raise RunError(
                    f"{what} was begun {ATTEMPTS} times, and each time a process or node was lost, the last "
                    f"time: {last}; the same command goes on from here"
                ) from error
            log.info(f"{what} begins anew, a process or node was lost: {last}")
    raise AssertionError
