"""Shutdown of an endpoint on a cluster of its own: requests are finished, then processes are ended."""

import logging
import signal
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress

import psutil

RAY_ENDS_S = 9.0
"""Seconds that Ray's processes continue after a signal, less one."""

PROCESS_END_TIMEOUT_S = 5.0
"""Seconds that processes may take to end after they are told to."""


def has_ended(processes: Iterable[psutil.Process]) -> bool:
    """Returns whether one of some processes has ended."""
    for process in processes:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False


def drain(parts: Sequence[psutil.Process], folder: str) -> None:
    """Waits until replicas have finished accepted requests; serve.shutdown would stop the proxy first.

    Some service managers, `timeout` and others signal all processes at once. Then Ray ends some seconds later
    in any case, and only the proxy remains to refuse new requests and to finish the others.

    Args:
        parts: Ray's own processes.
        folder: folder of the proxy's configuration.
    """
    from ray import serve

    from brain_ray.serving.app import NAME

    logging.getLogger("ray").setLevel(logging.CRITICAL)  # its last messages are of no use
    deleted = threading.Event()

    def delete() -> None:
        with suppress(Exception):
            serve.delete(NAME)
        deleted.set()

    threading.Thread(target=delete, daemon=True).start()
    while not deleted.wait(0.1):
        if has_ended(parts):
            proxies = find_proxies(folder)
            for process in proxies:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGUSR1)
            psutil.wait_procs(proxies, RAY_ENDS_S)
            return


def find_proxies(folder: str) -> list[psutil.Process]:
    """Returns the proxies whose configuration is in a folder."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or ()
        if "haproxy" in process.info["name"] and any(folder in word for word in words):
            found.append(process)
    return found


def end(processes: Iterable[psutil.Process]) -> None:
    """Ends processes; kills those that have not ended within `PROCESS_END_TIMEOUT_S`."""
    processes = list(processes)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(processes, PROCESS_END_TIMEOUT_S)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
