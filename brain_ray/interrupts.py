"""Ctrl-C and SIGTERM: announced immediately, and not lost where Python ignores exceptions."""

import _thread
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from brain_ray.logs import log

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)

AGAIN = signal.SIGURG
"""Signal that raises an interrupt once more; nobody else sends it, and without a handler it does nothing."""

AGAIN_S = 0.05
"""Seconds between a lost interrupt and this signal."""


@contextmanager
def announced(words: str) -> Iterator[Callable[[], None]]:
    """Makes signals that interrupt this process raise `KeyboardInterrupt`, and logs a line immediately.

    Not only when it is caught: Ray takes seconds to unwind, and `ray job stop` kills a process that has not
    ended after three. Where Python ignores exceptions, as while it clears a weak reference (Ray Data has
    many), the interrupt is raised once more; otherwise the job would continue.

    Args:
        words: text of the line, which is logged as an error.

    Yields:
        A function that logs the line unless it was logged already, for interrupts that come another way.
    """
    lock, said = threading.Lock(), threading.Event()

    def tell() -> None:
        with lock:
            if not said.is_set():
                log.error(words)
                said.set()

    def listen() -> None:
        with inbox:
            while number := inbox.recv(1):
                if number[0] in INTERRUPTS:
                    tell()

    def see_ignored(ignored: "sys.UnraisableHookArgs") -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            # Not by threading, whose locks the main thread may hold just now.
            _thread.start_new_thread(_raise_again, ())
        else:
            hook(ignored)

    handlers = {number: signal.getsignal(number) for number in (*INTERRUPTS, AGAIN)}
    hook = sys.unraisablehook
    inbox, outbox = socket.socketpair()
    outbox.setblocking(False)
    threading.Thread(target=listen, name="interrupts", daemon=True).start()
    sys.unraisablehook = see_ignored
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:  # as SIGINT in what a script starts in the background
            signal.signal(number, signal.default_int_handler)
    # A signal's number is written there even while the main thread is in a call that does not end.
    descriptor = signal.set_wakeup_fd(outbox.fileno(), warn_on_full_buffer=False)
    try:
        yield tell
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        outbox.close()


def _raise_again() -> None:
    time.sleep(AGAIN_S)
    signal.pthread_kill(threading.main_thread().ident or 0, AGAIN)
