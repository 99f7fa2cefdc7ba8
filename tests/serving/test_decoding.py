"""The processes that decode for a replica: they end with it, and it goes on without them."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import psutil
from support.endpoint import PNG, Running, picture


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def decoders(endpoint: Running) -> list[psutil.Process]:
    """Return the processes that decode for the only replica, first the one that forks the others."""
    (replica,) = endpoint.pids
    found = []
    for child in psutil.Process(replica).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "brain_ray.data.decoder_process" in " ".join(child.cmdline()):
                found.append(child)
    return found


def answers(endpoint: Running, path: str = "/v1/predict") -> bool:
    response = httpx.post(f"{endpoint.url}{path}", content=picture(), headers=PNG, timeout=60)
    return response.status_code == 200


def test_a_replica_decodes_in_other_processes_and_no_answer_is_lost_when_they_end(endpoint: Running) -> None:
    assert answers(endpoint)
    before = endpoint.pids
    for kept in (1, 0):  # the process that forks the others, or none
        victims = decoders(endpoint)[kept:]
        assert victims
        for victim in victims:
            victim.kill()
        psutil.wait_procs(victims, 10)
        assert answers(endpoint)
        assert answers(endpoint, "/v1/explain")
    assert endpoint.pids == before


def test_they_end_with_their_replica(endpoint: Running) -> None:
    (replica,) = endpoint.pids
    found = decoders(endpoint)
    os.kill(replica, signal.SIGKILL)
    assert not psutil.wait_procs(found, 30)[1]
    wait_for(lambda: httpx.get(f"{endpoint.url}/readyz", timeout=30).status_code == 200)
    assert answers(endpoint)
