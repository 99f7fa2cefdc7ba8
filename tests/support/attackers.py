"""Clients that send the largest, slowest and strangest that an endpoint allows, as if from other machines."""

import os
import socket
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
from support import volumes
from support.endpoint import NO_TLS
from support.hostile_images import all_costly, media_type, mutants
from support.hostile_studies import ARCHIVE
from support.studies import archive

CLIENTS = 64

BEGIN_S = 5
"""Seconds after which the attackers have drawn what they send."""

PAUSE_S = 0.5
"""Seconds that a client waits after it was refused, so that not its own work is what is measured."""

Ask = Callable[[httpx.Client], int]
"""Function that sends a request and returns its status."""


OVER: list[Event] = []
"""What this process is told by that the attack is over."""


def step_back(over: Event) -> None:
    """Let this process, and all that it begins, compute only where nothing else wants the processor.

    SCHED_IDLE says so to a kernel that shares the processor among processes. Where it is shared among
    sessions (autogroup; `man 7 sched`), a session's part is the same whatever its processes are: there, the
    session's nice value says it.
    """
    OVER.append(over)
    os.setsid()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(FileNotFoundError):
        Path("/proc/self/autogroup").write_text("19")


def taken_beside(pid: int) -> float:
    """Seconds that all processes but the attackers' have taken of the processors."""
    all_of_it, own = psutil.cpu_times(), psutil.Process(pid).cpu_times()
    idle = all_of_it.idle + getattr(all_of_it, "iowait", 0.0)
    return sum(all_of_it[:8]) - idle - own.user - own.system


def attack(url: str, only: str = "") -> dict[str, Counter[str]]:
    """Send requests of all kinds, or of one, from an address for each client, until it is over.

    Returns:
        For each kind, how its requests ended: statuses, and names of errors.
    """
    (over,) = OVER
    kinds = kinds_of_attack(url, over)
    if only:
        kinds = {only: kinds[only]}
    found: dict[str, Counter[str]] = {name: Counter() for name in kinds}

    def send(number: int) -> None:
        name, address = list(kinds)[number % len(kinds)], f"127.0.1.{number + 1}"
        ask = kinds[name](address)
        transport = httpx.HTTPTransport(local_address=address, verify=NO_TLS)
        with httpx.Client(base_url=url, timeout=90, transport=transport) as client:
            while not over.is_set():
                try:
                    ended = str(ask(client))
                except (httpx.HTTPError, OSError) as error:
                    ended = type(error).__name__
                found[name][ended] += 1
                if ended != "200":
                    over.wait(PAUSE_S)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for one in [pool.submit(send, number) for number in range(CLIENTS)]:
            one.result()
    return found


def kinds_of_attack(url: str, over: Event) -> dict[str, Callable[[str], Ask]]:
    """Kinds of attack; each gives the requests of a client at an address, which it sends again and again."""
    rng = np.random.default_rng(0)
    noise = encode(rng.integers(0, 256, (512, 512), dtype=np.uint8))
    largest = encode(np.zeros((6300, 6300), np.uint8))  # 39.7 megapixels
    volume = volumes.nifti(rng.integers(0, 2000, (400, 400, 60)).astype(np.int16), packed=False)
    zeros = archive({"a.nii": volume[:1024] + bytes(98_000_000)})
    costly = cycle([data for _, data in all_costly()])
    strange = cycle([data for _, data in mutants(400, 7)])
    host = httpx.URL(url)

    def one_of(images: Iterator[bytes]) -> Ask:
        def ask(client: httpx.Client) -> int:
            data = next(images)
            headers = {"content-type": media_type(data)}
            return client.post("/v1/predict", headers=headers, content=data).status_code

        return ask

    def slow_body(address: str) -> int:
        """Announce 20 MB and send a few bytes a second, until it is refused."""
        head = ("POST /v1/predict HTTP/1.1", "Host: localhost", "Content-Type: image/png")
        lines = "\r\n".join([*head, "Content-Length: 19900000", "", ""])
        with socket.create_connection((host.host, host.port or 80), 5, (address, 0)) as connection:
            connection.sendall(lines.encode())
            connection.settimeout(1)
            while True:
                with suppress(TimeoutError):
                    return int(connection.recv(12)[9:12] or 0)
                connection.sendall(b"x" * 10)

    explained = made(files=[("file", ("a.png", noise))] * 32)

    def slow_reader(client: httpx.Client) -> int:
        """Take an answer of some MB as slowly as the endpoint lets it."""
        with client.stream("POST", "/v1/explain", **explained) as response:
            for _ in response.iter_raw(1000):
                if over.wait(0.05):  # what the sockets hold would last for minutes
                    break
            return response.status_code

    embedded = {"images": [b64encode(noise).decode()] * 32}
    return {
        "4 pictures of 40 megapixels": post("/v1/predict", files=[("file", ("a.png", largest))] * 4),
        "unfinished bodies": lambda address: lambda _: slow_body(address),
        "slow readers of explain": lambda _: slow_reader,
        "archives of zeros": post("/v1/studies", headers=ARCHIVE, content=zeros),
        "volumes with pictures": post("/v1/studies?pictures=true", content=volume),
        "costly images": lambda _: one_of(costly),
        "damaged images": lambda _: one_of(strange),
        "32 images in JSON": post("/v1/predict", json=embedded),
    }


def encode(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def made(**content: Any) -> dict[str, Any]:
    """Make a request's bytes once: attackers that compute much send little."""
    request = httpx.Request("POST", "http://localhost", **content)
    body = request.read()
    return {"content": body, "headers": {k: v for k, v in request.headers.items() if k == "content-type"}}


def post(path: str, **content: Any) -> Callable[[str], Ask]:
    request = made(**content)
    return lambda _: lambda client: client.post(path, **request).status_code
