"""Ends work that waits in vain for nodes, and logs what it waits for."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic

import ray

from brain_ray.cluster.autoscaling import WAIT_S, check_now_or_later
from brain_ray.cluster.capacity import Nodes
from brain_ray.errors import RunError
from brain_ray.logs import log

LOOK_S = 2.0
"""Between two looks at the cluster."""


@contextmanager
def bounded(what: str, check: Callable[[Nodes], None]) -> Iterator[None]:
    """End work that waits in vain for nodes, which Ray itself does for ever without a word.

    To be used by the main thread, which is interrupted.

    Args:
        what: the work's name.
        check: raises `RunError` where some nodes do not suffice.

    Raises:
        RunError: nodes that suffice did not come in time.
    """
    ended, lock = threading.Event(), threading.Lock()
    reasons: list[str] = []
    main = threading.get_ident()

    def watch() -> None:
        since: float | None = None
        while not ended.wait(LOOK_S):
            try:
                limit, lacking = shortage(partial(check_now_or_later, check, what), PATIENCE_S)
            except ray.exceptions.RayError:
                continue  # the head node is not there just now, of which Ray tells
            if not lacking:
                if since is not None:
                    log.info(f"there is room again for {what}")
                since = None
                continue
            if since is None:
                since = monotonic()
                log.info(f"waits up to {limit:g} s for nodes: {lacking}")
            with lock:
                if monotonic() > since + limit and not ended.is_set():
                    reasons.append(f"no room for {what} within {limit:g} s: {lacking}")
                    signal.pthread_kill(main, signal.SIGUSR2)
                    return

    # SIGINT is ignored in what a script starts in the background; SIGUSR1 is taken by Ray Tune.
    before = signal.signal(signal.SIGUSR2, signal.default_int_handler)
    thread = threading.Thread(target=watch, name="outage", daemon=True)
    thread.start()
    try:
        try:
            yield
        finally:
            with lock:
                ended.set()
    except KeyboardInterrupt:
        if not reasons:
            raise
        raise RunError(f"{reasons[0]}; the same command goes on from here") from None
    finally:
        signal.signal(signal.SIGUSR2, before)


PATIENCE_S = 60.0
"""How long work waits that has no room in the whole cluster, where nothing starts nodes."""


def shortage(look: Callable[[], str], patience: float) -> tuple[float, str]:
    """Return for how many seconds to wait for room, and what is waited for; "" if there is room.

    Args:
        look: does as `check_now_or_later`.
        patience: the seconds where nothing starts nodes.
    """
    try:
        return WAIT_S, look()
    except RunError as error:
        return patience, str(error)
