"""A running endpoint under fire: each answer keeps its form, and the replica stays what it was."""

import asyncio
import ctypes
import json
import os
import random
import re
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
import pytest
from support import volumes
from support.endpoint import NO_TLS, PNG, Running, picture
from support.hostile_images import media_type, mutants
from support.hostile_studies import ARCHIVE, Made, hostile_studies
from support.jobs import wait_for
from support.studies import archive

from brain_ray.serving.config import ServingConfig
from brain_ray.serving.engine import Engine
from brain_ray.serving.haproxy import HEADERS_S
from brain_ray.serving.routes import make_app
from brain_ray.serving.schemas import Predictions, Problem
from brain_ray.serving.study_schemas import Study as StudyAnswer

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))
"""How many times as much is sent to a running endpoint as by `make test`; by `make fuzz` 300 times."""

SEED = int(os.environ.get("FUZZ_SEED", "0"))
"""Another one makes other images, forms and studies."""

OVER_HTTP, IN_PROCESS = 200 * TIMES, 1_800
"""Hostile images that are sent to a running endpoint, and to its application in this process."""

WARM = 800
"""Images in this process after which caches and pools are filled."""

FORMS_SENT = 500 * TIMES
STUDIES_SENT = 140 * TIMES

CONNECTIONS = 4
MAX_BODY = 20_000_000

TRACES = ("Traceback", 'File "', "brain_ray/", "site-packages", "0x7f")
"""What a stack trace or an object's repr would leave in a text."""


@pytest.fixture(autouse=True)
def unharmed(endpoint: Running) -> Iterator[None]:
    """The same replicas answer a good image before and right after each test."""
    expect_good(endpoint)
    before = sorted(endpoint.pids)
    assert before
    yield
    expect_good(endpoint)
    assert sorted(endpoint.pids) == before


def expect_good(endpoint: Running) -> None:
    """Expect an answer for a good image, from a new connection."""
    response = httpx.post(
        f"{endpoint.url}/v1/predict", content=picture(), headers=PNG, timeout=30, verify=NO_TLS
    )
    assert response.status_code == 200, response.text
    (result,) = Predictions.model_validate_json(response.content).results
    assert result.status == "ok"


def check(response: httpx.Response, what: str) -> str:
    """Expect a response of the endpoint's own form, and return `ok` or its code."""
    assert response.status_code < 500 or response.status_code in (503, 504), f"{what}: {response.text}"
    if response.status_code == 200:
        Predictions.model_validate_json(response.content)
        return "ok"
    assert response.headers["content-type"] == "application/problem+json", f"{what}: {response.headers}"
    problem = Problem.model_validate_json(response.content)
    assert problem.status == response.status_code, what
    assert problem.code, what
    assert not any(trace in response.text for trace in TRACES), f"{what}: {response.text}"
    return problem.code


def memory(endpoint: Running) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in endpoint.pids)


def fire(endpoint: Running, shots: Iterable[Made]) -> Counter[str]:
    """Send requests (what it is, headers, body) over several connections, and count how they end."""
    with httpx.Client(base_url=endpoint.url, timeout=60) as client, ThreadPoolExecutor(CONNECTIONS) as pool:

        def shoot(shot: Made) -> str:
            what, headers, body = shot
            return check(client.post("/v1/predict", headers=headers, content=body), what)

        found: Counter[str] = Counter()
        for some in batched(shots):
            found.update(pool.map(shoot, some))
        return found


def batched(made: Iterable[Made]) -> Iterator[list[Made]]:
    """Hand a hundred at a time on, so that a long run needs no more memory than a short one."""
    left = iter(made)
    while some := list(islice(left, 100)):
        yield some


def as_body(name: str, data: bytes) -> tuple[str, dict[str, str], bytes]:
    return name, {"content-type": media_type(data)}, data


WAYS_OUT = {"ok", "not_an_image", "undecodable", "too_small", "too_many_pixels", "several_images"}
"""How requests with hostile images end, all of them taken by some hundred."""


def check_endings(found: Counter[str], count: int) -> None:
    assert found.total() == count
    assert set(found) >= WAYS_OUT
    assert found["ok"] > count / 10
    assert set(found) <= WAYS_OUT | {"no_image", "queue_full"}


@pytest.mark.slow
def test_hostile_images_cost_no_replica_and_no_memory(endpoint: Running) -> None:
    # Caches and pools are filled first.
    fire(endpoint, (as_body(*made) for made in mutants(OVER_HTTP, seed=2 + SEED)))
    before = memory(endpoint)
    check_endings(fire(endpoint, (as_body(*made) for made in mutants(OVER_HTTP, seed=3 + SEED))), OVER_HTTP)
    assert memory(endpoint) - before < 100e6


@pytest.mark.slow
@pytest.mark.thorough
def test_many_hostile_images_cost_the_application_no_memory(bundle: Path) -> None:
    """The same application in this process, without a network and a proxy.

    What the C library keeps of freed memory does not count: a replica has settings of its own for that.
    """
    app = make_app(Engine(ServingConfig(bundle=str(bundle))))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def fire_all(shots: list[tuple[str, dict[str, str], bytes]]) -> Counter[str]:
        room = asyncio.Semaphore(CONNECTIONS)

        async def shoot(what: str, headers: dict[str, str], body: bytes) -> str:
            async with room:
                return check(await client.post("/v1/predict", headers=headers, content=body), what)

        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return Counter(await asyncio.gather(*(shoot(*shot) for shot in shots)))

    made = [as_body(*made) for made in mutants(IN_PROCESS + WARM, seed=5 + SEED)]

    def held() -> int:
        ctypes.CDLL(None).malloc_trim(0)
        return psutil.Process().memory_info().rss

    async def fire_twice() -> tuple[Counter[str], int]:
        await fire_all(made[:WARM])  # caches and pools are filled
        before = held()
        found = await fire_all(made[WARM:])
        return found, held() - before

    found, grown = asyncio.run(fire_twice())
    check_endings(found, IN_PROCESS)
    assert grown < 100e6


@pytest.mark.slow
def test_hostile_forms_get_an_answer_each(endpoint: Running) -> None:
    rng = random.Random(4 + SEED)
    found = fire(endpoint, (hostile_form(rng, *made) for made in mutants(FORMS_SENT, seed=4 + SEED)))
    assert {"ok", "bad_request", "no_image", "too_many_images"} <= set(found)


NAMES = (
    "image.png",
    "../../../etc/passwd",
    "C:\\Windows\\System32\\x.dll",
    "/dev/stdin",
    "a\x00b.png",
    "a\x1b[2Jb\x07.png",
    "\u202egnp.exe",
    "ä" * 300,
    "x" * 5_000,
    "",
    "a;b=c.png",
    '"quoted".png',
    "%0d%0aSet-Cookie: a=b",
    "${jndi:ldap://x}",
    "<img src=x onerror=alert(1)>",
    "\udcff.png",
)


def hostile_form(rng: random.Random, what: str, data: bytes) -> tuple[str, dict[str, str], bytes]:
    """Wrap an image into a form that is sound, odd or broken."""
    form = rng.choice(FORMS)
    name = rng.choice(NAMES)
    headers, body = form(rng, name.encode("utf-8", "surrogateescape"), data)
    return f"{form.__name__}, {name!r}, {what}", {"content-type": headers}, body


def part(data: bytes, name: bytes, field: bytes = b'name="file"', more: bytes = b"") -> bytes:
    disposition = b"Content-Disposition: form-data; " + field + b'; filename="' + name + b'"'
    return b"--cut\r\n" + disposition + b"\r\n" + more + b"\r\n" + data + b"\r\n"


FORM = "multipart/form-data; boundary=cut"
Form = tuple[str, bytes]


def sound(rng: random.Random, name: bytes, data: bytes) -> Form:
    return FORM, part(data, name) * rng.choice([1, 3]) + part(picture(), name) + b"--cut--\r\n"


def other_boundary(rng: random.Random, name: bytes, data: bytes) -> Form:
    boundary = rng.choice(["cu", "cutt", "", "x" * 5_000, '"', "cut; boundary=other", "c\tu"])
    return f"multipart/form-data; boundary={boundary}", part(data, name) + b"--cut--\r\n"


def no_boundary(rng: random.Random, name: bytes, data: bytes) -> Form:
    kind = rng.choice(
        ["multipart/form-data", "multipart/form-data; charset=none; boundary=cut", "multipart/mixed"]
    )
    return kind, part(data, name) + b"--cut--\r\n"


def no_end(rng: random.Random, name: bytes, data: bytes) -> Form:
    body = part(data, name)
    return FORM, body[: rng.randrange(len(body))]


def no_parts(rng: random.Random, name: bytes, data: bytes) -> Form:
    return FORM, rng.choice([b"", b"--cut--\r\n", b"\r\n", b"--cut\r\n", b"--cut\r\n\r\n", data])


def nameless(rng: random.Random, name: bytes, data: bytes) -> Form:
    field = rng.choice([b"", b'name=""', b"name", b'name="\xff\xfe"', b"name=" + b"f" * 50_000])
    return FORM, part(data, name, field) + b"--cut--\r\n"


def odd_headers(rng: random.Random, name: bytes, data: bytes) -> Form:
    more = rng.choice(
        [
            b"Content-Type: \r\n",
            b"Content-Type: text/html; charset=nothing\r\n",
            b"Content-Transfer-Encoding: base64\r\n",
            b"X: " + b"y" * 100_000 + b"\r\n",
            b"no colon\r\n",
            b": \r\n",
            b"X: y\r\n" * 2_000,
            b"\x00: \x01\r\n",
            b"Content-Transfer-Encoding: quoted-printable\r\n",
        ]
    )
    return FORM, part(data, name, more=more) + b"--cut--\r\n"


def fields_only(rng: random.Random, name: bytes, data: bytes) -> Form:
    field = b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + data[:1000] + b"\r\n"
    return FORM, field * rng.choice([1, 5]) + b"--cut--\r\n"


def too_many(rng: random.Random, name: bytes, data: bytes) -> Form:
    return FORM, part(rng.choice([b"", data[:2000]]), name) * rng.choice([33, 2_000]) + b"--cut--\r\n"


def foreign_charset(rng: random.Random, name: bytes, data: bytes) -> Form:
    charset = rng.choice(["punycode", "utf-7", "idna", "utf-16", "rot13", "zlib", "undefined"])
    field = b'--cut\r\nContent-Disposition: form-data; name="f-"\r\n\r\n' + b"x-" * 100_000 + b"\r\n"
    return f"{FORM}; charset={charset}", field + part(data, name) + b"--cut--\r\n"


def near_boundaries(rng: random.Random, name: bytes, data: bytes) -> Form:
    near = rng.choice([b"\r\n--cu", b"\r\n--cutt", b"\r\n--cut" + b" " * 99, b"\r", b"\r\n--"])
    return FORM, part(data + near * rng.choice([1, 200_000]), name) + b"--cut--\r\n"


def nested(rng: random.Random, name: bytes, data: bytes) -> Form:
    inner = part(data, name).replace(b"--cut", b"--inner") + b"--inner--"
    return FORM, part(inner, name, more=b"Content-Type: multipart/mixed; boundary=inner\r\n") + b"--cut--\r\n"


def flipped(rng: random.Random, name: bytes, data: bytes) -> Form:
    body = bytearray(part(data, name) + b"--cut--\r\n")
    for _ in range(rng.choice([1, 5])):
        body[rng.randrange(min(120, len(body)))] ^= 1 << rng.randrange(8)
    return FORM, bytes(body)


FORMS = (
    sound,
    other_boundary,
    no_boundary,
    no_end,
    no_parts,
    nameless,
    odd_headers,
    fields_only,
    too_many,
    nested,
    flipped,
    foreign_charset,
    near_boundaries,
)


@pytest.mark.parametrize("route", ["/v1/predict", "/v1/explain"])
def test_what_is_too_large_is_refused_announced_or_not(endpoint: Running, route: str) -> None:
    def in_pieces() -> Iterator[bytes]:
        for _ in range(MAX_BODY // 10**6 + 5):
            yield bytes(10**6)

    for content in (bytes(MAX_BODY + 1), in_pieces()):
        response = httpx.post(f"{endpoint.url}{route}", content=content, headers=PNG, timeout=60)
        assert check(response, route) == "too_large"


@pytest.mark.parametrize("kind", ["text/plain", "application/ld+json", "image", "", "image/", "a/b;" * 500])
def test_odd_content_types_are_refused(endpoint: Running, kind: str) -> None:
    response = httpx.post(f"{endpoint.url}/v1/predict", content=b"1", headers={"content-type": kind})
    assert check(response, kind) == "not_an_image"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/samples/..%2f..%2fetc%2fpasswd",
        "/page/..%2findex.html",
        "/v1/samples/%00",
        "/v1/nothing",
        "//",
        "/%ff",
        "/page/%2e%2e",
    ],
)
def test_odd_paths_lead_nowhere(endpoint: Running, path: str) -> None:
    assert check(httpx.get(f"{endpoint.url}{path}"), path) == "not_found"


# --- below HTTP ---------------------------------------------------------------------------------------------


def talk(
    endpoint: Running, sent: bytes, *, seconds: float = 10, answers: int = 99, hang_up: bool = False
) -> bytes:
    """Send bytes over a connection of its own, and return what comes back within bounds."""
    url = httpx.URL(endpoint.url)
    heard = b""
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        try:
            connection.sendall(sent)
            if hang_up:
                return b""
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0 and len(statuses(heard)) < answers:
                connection.settimeout(left)
                received = connection.recv(65_536)
                if not received:
                    break
                heard += received
        except (TimeoutError, ConnectionError):
            pass
    return heard


def head(*lines: str, path: str = "/v1/predict", method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")


def statuses(heard: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3})", heard)]


def test_what_is_no_http_is_turned_away(endpoint: Running) -> None:
    rng = random.Random(5)
    good = head("Content-Type: image/png", "Content-Length: 4") + b"abcd"
    for round_ in range(60):
        garbage = [
            rng.randbytes(rng.choice([1, 100, 5_000])),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500),  # TLS
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(50),
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",  # no host
            head("A" * 70_000),
            head(*(f"X-{number}: y" for number in range(3_000))),
            head("X: " + "y" * 300_000),
            head(path="/" + "x" * 100_000),
            head("Content-Length: 5", "Content-Length: 6") + b"12345",
            head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
            head("Transfer-Encoding: chunked") + b"ffffffffffffffffff\r\n",
            head("Transfer-Encoding: chunked") + b"-1\r\n",
            head("Content-Length: -1"),
            head("Content-Length: 99999999999999999999"),
            head("Content-Length: \xb2"),
            head("Expect: 200-ok", "Content-Length: 0"),
            head("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x", method="GET"),
            bytes(byte ^ (rng.random() < 0.03) for byte in good),
        ][round_ % 20]
        heard = talk(endpoint, garbage, seconds=0.5)
        assert not any(500 <= status < 600 and status not in (501, 503, 505) for status in statuses(heard)), (
            f"{garbage[:80]!r}: {heard[:300]!r}"
        )
        assert b"Traceback" not in heard


def test_a_body_that_stops_half_way_and_clients_that_leave(endpoint: Running) -> None:
    image = picture()
    announced = head("Content-Type: image/png", f"Content-Length: {len(image)}")
    for kept in (0, 1, len(image) // 2, len(image) - 1):
        assert 200 not in statuses(talk(endpoint, announced + image[:kept], seconds=0.2))
        talk(endpoint, announced + image[:kept], hang_up=True)
    for _ in range(30):  # the whole image came, nobody waits for the answer
        talk(endpoint, announced + image, hang_up=True)
    for kept in (1, len(announced) // 2, len(announced) - 1):
        talk(endpoint, announced[:kept], hang_up=True)


def test_a_length_that_lies_does_not_mix_up_requests(endpoint: Running) -> None:
    image = picture()
    longer = head("Content-Type: image/png", f"Content-Length: {len(image) - 10}") + image
    assert statuses(talk(endpoint, longer, answers=1))[:1] == [422], "what is left over is no image"
    twice = head("Content-Type: image/png", f"Content-Length: {len(image)}") + image
    assert statuses(talk(endpoint, twice * 2, answers=2)) == [200, 200]
    early = head("Content-Type: image/png", "Content-Length: 50000000")
    assert statuses(talk(endpoint, early + image, answers=1))[:1] == [413], "refused before it is all there"


@pytest.mark.parametrize(
    "name",
    [
        "x-request-timeout-seconds",
        "x-request-disconnect-disabled",
        "x-request-id",
        "x-session-id",
        "serve_multiplexed_model_id",
    ],
)
def test_headers_that_steer_ray_change_nothing(endpoint: Running, name: str) -> None:
    for value in (b"0", b"1e-9", b"nan", b"?1", b"x" * 500, b"\xff"):
        headers = [(b"content-type", b"image/png"), (name.encode(), value)]
        response = httpx.post(
            f"{endpoint.url}/v1/predict", content=picture(), headers=headers, timeout=30, verify=NO_TLS
        )
        assert check(response, f"{name}: {value!r}") == "ok"


def test_a_body_where_none_belongs_is_not_read_ahead(endpoint: Running) -> None:
    for lines in (["Content-Length: 1000000000"], ["Transfer-Encoding: chunked"]):
        heard = talk(endpoint, head(*lines, method="GET", path="/readyz"), answers=1)
        assert statuses(heard) == [400]
        assert b"application/problem+json" in heard


def test_another_name_and_another_site_are_turned_away(endpoint: Running) -> None:
    port = str(httpx.URL(endpoint.url).port)
    image = picture()
    for name, headers, expected in (
        ("evil.example", {}, "forbidden"),
        (f"evil.example:{port}", {"origin": f"http://evil.example:{port}"}, "forbidden"),
        (f"localhost:{port}", {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}, "forbidden"),
        (f"localhost:{port}", {"origin": f"http://localhost:{port}", "sec-fetch-site": "same-origin"}, "ok"),
        (f"localhost:{port}", {}, "ok"),
    ):
        response = httpx.post(
            f"{endpoint.url}/v1/predict", content=image, headers=PNG | {"host": name} | headers, timeout=30
        )
        assert check(response, f"{name} {headers}") == expected


# --- slow clients -------------------------------------------------------------------------------------------


def connect(endpoint: Running, sent: bytes) -> socket.socket:
    url = httpx.URL(endpoint.url)
    connection = socket.create_connection((url.host, url.port or 80), timeout=20)
    connection.sendall(sent)
    return connection


@pytest.mark.slow
def test_half_a_request_does_not_hold_the_endpoint(endpoint: Running) -> None:
    """More connections than the proxy takes, with unfinished headers; some go on, a byte at a time."""
    number = 4_200
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < number + 500:
        pytest.skip(f"needs {number + 500} open files, this process may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, number + 500), hard))
    half = head("X-a: b")[: -len("\r\n\r\n")]
    connections = []
    try:
        with suppress(OSError):  # those that find no room
            connections += [connect(endpoint, half) for _ in range(number)]
        assert len(connections) > 4_000
        end = time.monotonic() + HEADERS_S + 30
        while time.monotonic() < end:
            for connection in connections[-100:]:
                with suppress(OSError):
                    connection.sendall(b"x")
            try:
                expect_good(endpoint)
                break
            except httpx.TimeoutException:
                continue
        expect_good(endpoint)
        answers = Counter(connection.recv(12) for connection in connections[-100:])
        assert set(answers) <= {b"HTTP/1.1 408", b""}, answers
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@pytest.mark.slow
def test_unfinished_bodies_and_untaken_answers_hold_a_bounded_memory(endpoint: Running) -> None:
    def send_most(_: int) -> None:
        size = MAX_BODY - 100_000
        try:
            connection = connect(endpoint, head("Content-Type: image/png", f"Content-Length: {size}"))
            connections.append(connection)
            for _ in range(size // 10**6):
                connection.sendall(piece)
        except OSError:  # refused, and closed
            return

    def take_a_byte(_: int) -> None:
        body = b"".join(part(noise, b"a.png") for _ in range(32)) + b"--cut--\r\n"
        lines = head(f"Content-Type: {FORM}", f"Content-Length: {len(body)}", path="/v1/explain")
        connection = connect(endpoint, lines + body)
        connections.append(connection)
        connection.settimeout(60)
        connection.recv(1)

    piece = bytes(10**6)
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512)).astype(np.uint8)
    noise = cv2.imencode(".png", pixels)[1].tobytes()
    expect_good(endpoint)
    for work, number in ((send_most, 60), (take_a_byte, 8)):
        connections: list[socket.socket] = []
        before = most = memory(endpoint)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(work, i) for i in range(number)]
            while not all(request.done() for request in asked):
                most = max(most, memory(endpoint))
                time.sleep(0.05)
        most = max(most, memory(endpoint))
        for connection in connections:
            connection.close()
        print(f"{work.__name__} {number}: {before / 1e6:.0f} MB, at most {most / 1e6:.0f} MB")
        assert most - before < 400e6
        wait_for(lambda before=before: memory(endpoint) - before < 100e6, 60)


# --- studies ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hostile_studies_get_an_answer_each(endpoint: Running) -> None:
    found: Counter[str] = Counter()
    # One at a time, as a replica works on them: of more, the last would wait, and on a busy machine too long.
    with httpx.Client(base_url=endpoint.url, timeout=60) as client:

        def shoot(shot: Made) -> str:
            what, headers, body = shot
            response = client.post("/v1/studies?pictures=true", headers=headers, content=body)
            if response.status_code != 200:
                return check(response, what)
            study = StudyAnswer.model_validate_json(response.content)
            assert not any(
                secret in response.text for secret in (volumes.NAME, volumes.PATIENT, volumes.STUDY)
            )
            assert sum(patient.num_slices for patient in study.patients) == len(study.slices)
            return "ok" if study.patients else "none usable"

        before = memory(endpoint)
        for some in batched(hostile_studies(STUDIES_SENT, seed=23 + SEED)):
            found.update(map(shoot, some))
    assert found["ok"] > STUDIES_SENT / 3
    assert found["bad_request"] > STUDIES_SENT / 20
    known = {
        "ok",
        "none usable",
        "bad_request",
        "no_image",
        "too_large",
        "too_many_images",
        "too_many_pixels",
    }
    assert set(found) <= known | WAYS_OUT | {"queue_full", "no_patient"}, found
    wait_for(lambda: memory(endpoint) - before < 100e6, 60)


@pytest.mark.slow
def test_the_largest_studies_hold_a_bounded_memory_and_others_are_answered(endpoint: Running) -> None:
    pixels = np.random.default_rng(0).integers(0, 2000, (400, 400, 60)).astype(np.int16)
    volume = volumes.nifti(pixels, packed=False)
    zeros = archive({"a.nii": volume[:1024] + bytes(98_000_000)})  # begins as a volume, which it is not

    def seconds_of_good() -> float:
        begin = time.monotonic()
        expect_good(endpoint)
        return time.monotonic() - begin

    print(f"at rest: median {np.median([seconds_of_good() for _ in range(30)]):.3f} s")
    attacks = {"zeros": (12, ARCHIVE, zeros), "volumes": (4, {}, volume), "pictures": (3, {}, volume)}
    for name, (number, headers, body) in attacks.items():
        before = most = memory(endpoint)
        route = f"{endpoint.url}/v1/studies" + ("?pictures=true" if name == "pictures" else "")

        def send(_: int, route: str = route, headers: Any = headers, body: bytes = body) -> int:
            return httpx.post(route, headers=headers, content=body, timeout=90, verify=NO_TLS).status_code

        waits: list[float] = []
        with ThreadPoolExecutor(number) as pool:
            asked = [pool.submit(send, i) for i in range(number)]
            while not all(request.done() for request in asked):
                waits.append(seconds_of_good())
                most = max(most, memory(endpoint))
        statuses = Counter(request.result() for request in asked)
        print(f"{name}: {before / 1e6:.0f} MB, at most {most / 1e6:.0f} MB; {len(waits)} good images beside")
        print(f"  median {np.median(waits):.3f} s, at most {max(waits):.2f} s; statuses {dict(statuses)}")
        assert most - before < 600e6
        assert set(statuses) <= {200, 400, 503}  # of zeros, all slices are empty
        wait_for(lambda before=before: memory(endpoint) - before < 100e6, 60)


# --- what its own description promises ----------------------------------------------------------------------


@pytest.mark.slow
def test_it_keeps_what_its_openapi_document_says(endpoint: Running) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    document = httpx.get(f"{endpoint.url}/openapi.json").json()
    assert set(document["paths"]) >= {"/v1/predict", "/v1/explain", "/v1/model", "/healthz", "/readyz"}
    schema = schemathesis.openapi.from_dict(document)
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    answered: Counter[str] = Counter()

    @settings(
        max_examples=40 * TIMES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        response = case.call(base_url=endpoint.url)
        case.validate_response(response, checks=checks)
        answered[f"{case.path} {response.status_code}"] += 1

    for operation in schema.get_all_operations():
        from hypothesis import given

        given(case=operation.ok().as_strategy())(ask)()
    assert len({key.split()[0] for key in answered}) == len(document["paths"]), json.dumps(answered)
