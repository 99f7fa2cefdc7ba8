"""Waiting for room on the cluster: logs the wait, and ends work that waits in vain."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import ray

from brain_ray.cluster.node_request import NodeRequest
from brain_ray.errors import RunError
from brain_ray.logs import log

ROOM_TIMEOUT_S = 60.0
"""Seconds for which work without room in the whole cluster waits, if nothing starts nodes."""

NODES_TIMEOUT_S = 30 * 60.0
"""Seconds for which work waits for nodes that an autoscaler starts; GPUs are sold out at times."""

GIVEN_UP = "no room for {what} within {limit:g} s: {lacking}; the same command goes on from here"


class WaitLines(NamedTuple):
    """Lines of a wait: templates of {what}, {lacking}, and the seconds {waited} and {limit}."""

    begins: str = "waits up to {limit:g} s for nodes: {lacking}"
    ends: str = "there is room again for {what}"
    no_room: str = GIVEN_UP
    """Error if nothing starts nodes."""
    no_nodes: str = GIVEN_UP
    """Error if nodes could be started, and did not come."""


class RoomWatch:
    """Checks for room repeatedly, returns lines on the wait, and ends a wait that takes too long."""

    def __init__(
        self,
        what: str,
        check: Callable[[], str],
        patience_s: float = ROOM_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
        *,
        nodes_s: float = NODES_TIMEOUT_S,
        lines: WaitLines = WaitLines(),  # noqa: B008  # immutable
        ask: Callable[[], NodeRequest] | None = None,
    ) -> None:
        """Starts without a wait.

        Args:
            what: name of the work that needs the room.
            check: function that returns "" if there is room, or which nodes may still come; raises `RunError`
                if none may.
            patience_s: seconds to wait if `check` raises.
            clock: function that returns the time in seconds.
            nodes_s: seconds to wait if nodes may come.
            lines: the lines of the wait.
            ask: function that asks the autoscaler for nodes, called when a wait begins.
        """
        self._ask = ask
        self._request: NodeRequest | None = None
        self._what, self._check, self._clock, self._lines = what, check, clock, lines
        self._patience_s, self._nodes_s = patience_s, nodes_s
        self._since: float | None = None
        self._said = ""

    @property
    def waits(self) -> bool:
        """Whether the last check found no room."""
        return self._since is not None

    def look(self) -> str:
        """Checks once; returns a line to log if there is something new, else "".

        The time of a wait is counted from the first check that finds no room.

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
            self.close()
            return line
        if now - since >= limit:
            raise RunError(given_up.format(**values))
        self._since = since
        asked = ""
        if self._request is not None:
            asked = self._request.renew()
        elif self._ask is not None:
            self._request = self._ask()
        line = self._lines.begins.format(**values)
        if line == self._said:
            return asked
        self._said = line
        return f"{line}; {asked}" if asked else line

    def close(self) -> None:
        """Takes back what was asked of the autoscaler."""
        request, self._request = self._request, None
        if request is not None:
            request.cancel()


@contextmanager
def give_up_without_nodes(
    what: str,
    check: Callable[[], str],
    patience_s: float = ROOM_TIMEOUT_S,
    look_s: float = 2.0,
) -> Iterator[None]:
    """Context manager: ends work that waits in vain for nodes; Ray itself waits forever without a message.

    To be used by the main thread, which is interrupted.

    Args:
        what: name of the work.
        check: function that returns "" if there is room, or which nodes may still come; raises `RunError` if
            none may.
        patience_s: seconds to wait if nothing starts nodes.
        look_s: seconds between two checks of the cluster.

    Raises:
        RunError: nodes that suffice did not come in time.
    """
    ended, lock = threading.Event(), threading.Lock()
    reasons: list[str] = []
    main = threading.get_ident()
    room = RoomWatch(what, check, patience_s)

    def watch() -> None:
        while not ended.wait(look_s):
            try:
                line = room.look()
            except ray.exceptions.RayError:
                continue  # the head node does not answer at present, which Ray reports
            except RunError as error:
                with lock:
                    if not ended.is_set():
                        reasons.append(str(error))
                        signal.pthread_kill(main, signal.SIGUSR2)
                return
            if line:
                log.info(line)

    # SIGINT is ignored in processes that a script starts in the background; SIGUSR1 is used by Ray Tune.
    before = signal.signal(signal.SIGUSR2, signal.default_int_handler)
    thread = threading.Thread(target=watch, name="room watch", daemon=True)
    thread.start()
    try:
        try:
            yield
        finally:
            with lock:
                ended.set()
            room.close()
    except KeyboardInterrupt:
        if not reasons:
            raise
        raise RunError(reasons[0]) from None
    finally:
        signal.signal(signal.SIGUSR2, before)
