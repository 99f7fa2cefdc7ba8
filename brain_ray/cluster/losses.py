"""Lost processes and nodes: which errors they are, and retrying work after one."""

from collections.abc import Callable
from typing import TypeVar

from brain_ray.errors import RunError, last_line
from brain_ray.logs import log, silenced

LOST = {"RayActorError", "ObjectLostError", "NodeDiedError", "WorkerCrashedError"}
"""Errors of Ray that come of a lost process or node, and of nothing that was run there."""


ATTEMPTS = 3
"""How often work is begun that Ray cannot go on with once an actor of it is lost."""


T = TypeVar("T")


def retry_if_lost(work: Callable[[], T], what: str) -> T:
    """Does some work by actors of Ray Data; begins it anew when a process or node is lost that it needs.

    Ray cannot be relied on to restart such actors (ray-project/ray issue 53727).

    Raises:
        RunError: it happens again and again.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with silenced("ray.data"):  # which prints the trace of what it raises
                return work()
        except Exception as error:
            if not LOST & {kind.__name__ for kind in type(error).__mro__}:
                raise
            last = last_line(error)
            if attempt == ATTEMPTS:
                raise RunError(
                    f"{what} was begun {ATTEMPTS} times, and each time a process or node was lost, the last "
                    f"time: {last}; the same command goes on from here"
                ) from error
            log.info(f"{what} begins anew, a process or node was lost: {last}")
    raise AssertionError
