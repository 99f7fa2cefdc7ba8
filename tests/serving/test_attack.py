"""Sixty-four clients, each at its own address, send the largest, slowest and strangest that is allowed."""

import json
import os
import socket
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import cycle
from multiprocessing import get_context

import cv2
import httpx
import numpy as np
import psutil
import pytest
from support import volumes
from support.endpoint import NO_TLS, Running, ask_on, picture
from support.hostile_images import all_costly, media_type, mutants
from support.hostile_studies import ARCHIVE
from support.studies import archive

CLIENTS = 64
SECONDS = float(os.environ.get("ATTACK_S", "120"))
REST_S = 30
"""Seconds after the attack until the memory is looked at once more."""

PAUSE_S = 0.5
"""Seconds that a client waits after it was refused, so that not its own work is what is measured."""

LONGEST_S = 5
"""Seconds that a good image may take in the median."""

Ask = Callable[[httpx.Client], int]
"""Function that sends a request and returns its status."""


def encode(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def post(path: str, **content: object) -> Ask:
    return lambda client: client.post(path, **content).status_code  # type: ignore[arg-type]


def attacks(endpoint: Running, over: threading.Event) -> dict[str, Callable[[str], Ask]]:
    """Kinds of attack; each gives the requests of a client at an address, which it sends again and again."""
    rng = np.random.default_rng(0)
    noise = encode(rng.integers(0, 256, (512, 512), dtype=np.uint8))
    largest = encode(np.zeros((6300, 6300), np.uint8))  # 39.7 megapixels
    volume = volumes.nifti(rng.integers(0, 2000, (400, 400, 60)).astype(np.int16), packed=False)
    zeros = archive({"a.nii": volume[:1024] + bytes(98_000_000)})
    costly = cycle([(media_type(data), data) for _, data in all_costly()])
    strange = cycle([(media_type(data), data) for _, data in mutants(400, 7)])
    url = httpx.URL(endpoint.url)

    def one_of(bodies: object) -> Ask:
        def ask(client: httpx.Client) -> int:
            kind, data = next(bodies)  # type: ignore[call-overload]
            return client.post("/v1/predict", headers={"content-type": kind}, content=data).status_code

        return ask

    def slow_body(address: str) -> int:
        """Announce 20 MB and send a few bytes a second, until it is refused."""
        head = ("POST /v1/predict HTTP/1.1", "Host: localhost", "Content-Type: image/png")
        lines = "\r\n".join([*head, "Content-Length: 19900000", "", ""])
        with socket.create_connection((url.host, url.port or 80), 5, (address, 0)) as connection:
            connection.sendall(lines.encode())
            connection.settimeout(1)
            while True:
                with suppress(TimeoutError):
                    return int(connection.recv(12)[9:12] or 0)
                connection.sendall(b"x" * 10)

    def slow_reader(client: httpx.Client) -> int:
        """Take an answer of some MB as slowly as the endpoint lets it."""
        files = [("file", ("a.png", noise))] * 32
        with client.stream("POST", "/v1/explain", files=files) as response:
            for _ in response.iter_raw(1000):
                if over.wait(0.05):  # what the sockets hold would last for minutes
                    break
            return response.status_code

    embedded = json.dumps({"images": [b64encode(noise).decode()] * 32})
    return {
        "4 pictures of 40 megapixels": lambda _: post(
            "/v1/predict", files=[("file", ("a.png", largest))] * 4
        ),
        "unfinished bodies": lambda address: lambda _: slow_body(address),
        "slow readers of explain": lambda _: slow_reader,
        "archives of zeros": lambda _: post("/v1/studies", headers=ARCHIVE, content=zeros),
        "volumes with pictures": lambda _: post("/v1/studies?pictures=true", content=volume),
        "costly images": lambda _: one_of(costly),
        "damaged images": lambda _: one_of(strange),
        "32 images in JSON": lambda _: post(
            "/v1/predict", headers={"content-type": "application/json"}, content=embedded
        ),
    }


@pytest.mark.slow
@pytest.mark.thorough
def test_sixty_four_clients_cost_no_replica_and_a_bounded_memory(endpoint: Running) -> None:
    over = threading.Event()
    kinds = attacks(endpoint, over)
    found: dict[str, Counter[str]] = {name: Counter() for name in kinds}

    def attack(number: int) -> None:
        name, address = list(kinds)[number % len(kinds)], f"127.0.1.{number + 1}"
        os.sched_setscheduler(
            0, os.SCHED_IDLE, os.sched_param(0)
        )  # as if attackers had machines of their own
        ask = kinds[name](address)
        transport = httpx.HTTPTransport(local_address=address, verify=NO_TLS)
        with httpx.Client(base_url=endpoint.url, timeout=90, transport=transport) as client:
            while not over.is_set():
                try:
                    ended = str(ask(client))
                except (httpx.HTTPError, OSError) as error:
                    ended = type(error).__name__
                found[name][ended] += 1
                if ended != "200":
                    over.wait(PAUSE_S)

    def memory() -> int:
        return sum(psutil.Process(pid).memory_info().rss for pid in endpoint.pids)

    # In a process of its own: what it measures is no waiting for the attackers' threads.
    with ProcessPoolExecutor(1, get_context("spawn")) as good:
        ask_well = partial(good.submit, ask_on, endpoint.url, picture(), address="127.0.0.2")
        alone, _ = ask_well(5).result()
        before = most = memory()
        replicas = sorted(endpoint.pids)
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(attack, number) for number in range(CLIENTS)]
            asked = ask_well(SECONDS)
            while not asked.done():
                most = max(most, memory())
                time.sleep(0.1)
            over.set()
            for one in running:
                one.result()
        beside, statuses = asked.result()
    for name, endings in found.items():
        print(f"{name}: {dict(endings.most_common())}")
    for kind, waits in (("alone", alone), ("beside", beside)):
        print(
            f"good images {kind}: {len(waits)}, median {np.median(waits):.3f} s, "
            f"nine of ten {np.quantile(waits, 0.9):.2f} s, longest {max(waits):.2f} s"
        )
    print(f"statuses {dict(statuses)}; memory {before / 1e6:.0f} MB, at most {most / 1e6:.0f} MB")
    assert sorted(endpoint.pids) == replicas
    assert statuses[200] > 0.8 * statuses.total(), "few small images are refused"
    assert not statuses[504]
    assert np.median(beside) < LONGEST_S
    assert most - before < 800e6
    time.sleep(REST_S)
    print(f"{REST_S} s later: {memory() / 1e6:.0f} MB")
    assert memory() - before < 500e6
