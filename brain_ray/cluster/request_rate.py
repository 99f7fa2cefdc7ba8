"""Requests to a bucket: the whole cluster makes no more of them a second than a bucket takes."""

import threading
import time
from collections.abc import Callable

import ray

REQUESTS_PER_S = 4_000.0
"""Requests a second of all tasks of a cluster together. S3 takes 5,500 for a prefix before it answers "slow
down" (https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html)."""


class RateLimiter:
    """Rate limiter: lets the threads of a process go on one after the other, so many a second."""

    def __init__(
        self,
        per_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begins now; nothing is saved up while nobody asks.

        Args:
            per_s: how many may go on in a second.
            clock: tells the time in seconds.
            sleep: waits for so many seconds.
        """
        self._gap, self._clock, self._sleep = 1 / per_s, clock, sleep
        self._lock = threading.Lock()
        self._next = clock()

    def acquire(self) -> None:
        """Returns when this thread may go on."""
        with self._lock:
            turn = max(self._next, now := self._clock())
            self._next = turn + self._gap
        if turn > now:
            self._sleep(turn - now)


def requests_per_s(total: float = REQUESTS_PER_S) -> float:
    """Returns how many requests a second this process may make.

    A task's share of all is that of its CPUs of the cluster's, as it is now; a driver has all of them.
    """
    if not ray.is_initialized() or (context := ray.get_runtime_context()).get_task_id() is None:
        return total
    mine = float(context.get_assigned_resources().get("CPU", 1.0))
    return total * min(1.0, mine / max(1.0, float(ray.cluster_resources().get("CPU", 1.0))))
