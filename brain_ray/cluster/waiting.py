"""Waiting for room on the cluster: when to say so, when to give up, and ending work that waits in vain."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import ray

from brain_ray.errors import RunError
from brain_ray.logs import log

PATIENCE_S = 60.0
"""Seconds for which work waits that has no room in the whole cluster, where nothing starts nodes."""

NODES_S = 30 * 60.0
"""Seconds for which work waits for nodes that an autoscaler starts; GPUs are sold out at times."""

GIVEN_UP = "no room for {what} within {limit:g} s: {lacking}; the same command goes on from here"


class WaitLines(NamedTuple):
    """Lines of a wait, as templates of {what}, {lacking}, and the seconds {waited} and {limit}."""

    begins: str = "waits up to {limit:g} s for nodes: {lacking}"
    ends: str = "there is room again for {what}"
    no_room: str = GIVEN_UP
    """The error where nothing starts nodes."""
    no_nodes: str = GIVEN_UP
    """The error where nodes could be started, and did not come."""


class RoomWatch:
    """Looks for room again and again, says what is waited for, and ends a wait that takes too long."""

    def __init__(
        self,
        what: str,
        check: Callable[[], str],
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        *,
        nodes_s: float = NODES_S,
        lines: WaitLines = WaitLines(),  # noqa: B008  # immutable
    ) -> None:
        """Begins without a wait.

        Args:
            what: the name of what needs the room.
            check: returns "" if there is room, or which nodes may still come; raises `RunError` if none may.
            patience_s: how long to wait where `check` raises.
            clock: tells the time in seconds.
            nodes_s: how long to wait where nodes may come.
            lines: what is said.
        """
        self._what, self._check, self._clock, self._lines = what, check, clock, lines
        self._patience_s, self._nodes_s = patience_s, nodes_s
        self._since: float | None = None
        self._said = ""

    @property
    def waits(self) -> bool:
        """Whether the last look has found no room."""
        return self._since is not None

    def look(self) -> str:
        """Looks once; returns a line to log if there is something new, else "".

        The time of a wait is counted from the first look that finds no room.

        Raises:
            RunError: there is no room, and has been none for too long.
        """
        try:
            lacking, limit, given_up = self._check(), self._nodes_s, self._lines.no_nodes
        except RunError as error:
            lacking, limit, given_up = str(error), self._patience_s, self._lines.no_room
        now = self._clock()
        since = now if self._since is None else self._since
        values = {"what": self._what, "lacking": lacking, "waited": now - since, "limit": limit}
        if not lacking:
            line = self._lines.ends.format(**values) if self.waits else ""
            self._since, self._said = None, ""
            return line
        if now - since >= limit:
            raise RunError(given_up.format(**values))
        self._since = since
        line = self._lines.begins.format(**values)
        if line == self._said:
            return ""
        self._said = line
        return line


@contextmanager
def give_up_without_nodes(
    what: str, check: Callable[[], str], patience_s: float = PATIENCE_S, look_s: float = 2.0
) -> Iterator[None]:
    """Ends work that waits in vain for nodes, which Ray itself does for ever without a word.

    To be used by the main thread, which is interrupted.

    Args:
        what: the work's name.
        check: as of `RoomWatch`.
        patience_s: how long work waits where nothing starts nodes.
        look_s: seconds between two looks at the cluster.

    Raises:
        RunError: nodes that suffice did not come in time.
    """
    ended, lock = threading.Event(), threading.Lock()
    reasons: list[str] = []
    main = threading.get_ident()

    def watch() -> None:
        room = RoomWatch(what, check, patience_s)
        while not ended.wait(look_s):
            try:
                line = room.look()
            except ray.exceptions.RayError:
                continue  # the head node is not there just now, of which Ray tells
            except RunError as error:
                with lock:
                    if not ended.is_set():
                        reasons.append(str(error))
                        signal.pthread_kill(main, signal.SIGUSR2)
                return
            if line:
                log.info(line)

    # SIGINT is ignored in what a script starts in the background; SIGUSR1 is taken by Ray Tune.
    before = signal.signal(signal.SIGUSR2, signal.default_int_handler)
    thread = threading.Thread(target=watch, name="room watch", daemon=True)
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
        raise RunError(reasons[0]) from None
    finally:
        signal.signal(signal.SIGUSR2, before)
