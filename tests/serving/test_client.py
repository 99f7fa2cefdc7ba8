"""The client, and the job that classifies files: what is sent, retried, told, and held in memory."""

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest

from brain_ray.data.phantoms.files import draw
from brain_ray.serving import predict, prediction_text
from brain_ray.serving.client import AsyncClient, Client, EndpointError
from brain_ray.serving.client.files import PassedOver, find_images, in_order, name_of
from brain_ray.serving.client.retries import Outcome, pause_s
from brain_ray.serving.schemas import Answer, Explanation, Failure

KEY = "a-key-that-nobody-may-see"
MODEL = {"name": "trial", "sha256": "ab" * 32, "id": "trial-abababababab"}
HERE = Path(__file__).parent
JOB = Path(__file__).parents[2] / "jobs" / "predict.py"


def answer(**changes: Any) -> dict[str, Any]:
    probabilities = {"glioma": 0.9, "notumor": 0.1}
    box = {"top": 1, "bottom": 9, "left": 2, "right": 8}
    fixed = {"label": "glioma", "decision": "answer", "confidence": 0.9, "probabilities": probabilities}
    found = {"calibrated": probabilities, "unlikeness": 0.5, "box": box, "has_box": True, "width": 10}
    return {
        "status": "ok",
        "name": "image",
        **fixed,
        **found,
        "height": 10,
        "candidates": ["glioma"],
        "model": MODEL,
        "milliseconds": 3.25,
    } | changes


def answered(**changes: Any) -> httpx.Response:
    return httpx.Response(200, json={"results": [answer(**changes)], "milliseconds": 4.0})


def problem(status: int, code: str, detail: str = "as it is", **headers: str) -> httpx.Response:
    body = {"type": f"urn:brain_ray:problem:{code}", "title": "Odd", "status": status, "code": code}
    return httpx.Response(
        status, json=body | {"detail": detail}, headers={"Content-Type": "application/problem+json"} | headers
    )


class Endpoint:
    """A stand-in that answers as it is told, and remembers what it was asked.

    Its clients do not wait before they try again; `waits` lists the seconds that they would have waited.
    """

    def __init__(self, handle: Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self.results: list[Answer | Failure] = []
        self.waits: list[float] = []
        self.most = self.now = 0
        self.handle = handle
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self.requests.append(request)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return self.handle(request)
        finally:
            with self._lock:
                self.now -= 1

    def pause(self, attempt: int, heard: Outcome) -> float:
        self.waits.append(pause_s(attempt, heard))
        return 0.0

    def client(self, **options: Any) -> Client:
        options = {"pause": self.pause} | options
        return Client("http://endpoint", transport=httpx.MockTransport(self), **options)

    def async_client(self, **options: Any) -> AsyncClient:
        options = {"pause": self.pause} | options
        return AsyncClient("http://endpoint", transport=httpx.MockTransport(self), **options)


Ask = Callable[..., list[Answer | Failure]]


@pytest.fixture(params=["client", "async client"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask an endpoint about images, with one client and the other."""

    def together(endpoint: Endpoint, images: Any, **options: Any) -> list[Answer | Failure]:
        with endpoint.client(**options) as client:
            for result in client.predict(images):
                endpoint.results.append(result)
        return endpoint.results

    async def alone(endpoint: Endpoint, images: Any, **options: Any) -> list[Answer | Failure]:
        async with endpoint.async_client(**options) as client:
            async for result in client.predict(images):
                endpoint.results.append(result)
        return endpoint.results

    if request.param == "client":
        return together
    return lambda *given, **options: asyncio.run(alone(*given, **options))


def test_results_come_in_order_with_the_names_that_were_given(ask: Ask, tmp_path: Path) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        time.sleep(0.02 if request.content == b"0" else 0)  # the first is the last to be ready
        return answered(width=int(request.content))

    for number in range(20):
        (tmp_path / f"{number}.PNG").write_bytes(str(number).encode())
    paths = [tmp_path / f"{number}.PNG" for number in range(20)]
    endpoint = Endpoint(handle)
    found = ask(endpoint, [*paths, str(paths[3]), b"7"], api_key=KEY)
    assert [result.width for result in found] == [*range(20), 3, 7]
    assert [result.name for result in found] == [*map(str, paths), str(paths[3]), "image"]
    sent = endpoint.requests[0]
    assert (sent.method, sent.url.path) == ("POST", "/v1/predict")
    assert sent.headers["Content-Type"] == "image/png"
    assert sent.headers["Authorization"] == f"Bearer {KEY}"
    assert str(tmp_path) not in repr(sent.headers), "the endpoint is not told where files lie"


def test_images_that_cannot_be_used_do_not_disturb_the_others(ask: Ask, tmp_path: Path) -> None:
    odd = {
        b"1": (415, "not_an_image"),
        b"2": (422, "undecodable"),
        b"3": (413, "too_large"),
        b"4": (400, "x"),
    }

    def handle(request: httpx.Request) -> httpx.Response:
        return problem(*odd[request.content]) if request.content in odd else answered()

    missing = tmp_path / "missing.png"
    found = ask(Endpoint(handle), [b"0", b"1", b"2", missing, tmp_path, "a\0b", b"3", b"4", b"5"])
    told = [result.problem.code if isinstance(result, Failure) else "ok" for result in found]
    unread = ["unreadable"] * 3
    assert told == ["ok", "not_an_image", "undecodable", *unread, "too_large", "x", "ok"]
    assert isinstance(found[3], Failure)
    assert (found[3].name, found[3].problem.detail) == (str(missing), "No such file or directory")


@pytest.mark.parametrize(
    ("status", "code"), [(401, "unauthorized"), (404, "not_found"), (500, "internal"), (504, "timeout")]
)
def test_an_endpoint_that_cannot_be_used_ends_it(ask: Ask, status: int, code: str) -> None:
    endpoint = Endpoint(lambda _: problem(status, code))
    with pytest.raises(EndpointError) as caught:
        ask(endpoint, [b"1"], api_key=KEY)
    assert (caught.value.code, caught.value.status) == (code, status)
    assert str(caught.value) == f"http://endpoint: as it is ({code}, HTTP {status})"
    assert (len(endpoint.requests), endpoint.waits) == (1, [])


def test_what_passes_is_tried_again_with_growing_waits(ask: Ask) -> None:
    hurdles = [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        problem(503, "queue_full"),
        httpx.ProxyError("refused"),
        problem(408, "slow_upload"),
        problem(503, "queue_full"),
    ]

    def handle(request: httpx.Request) -> httpx.Response:
        if len(endpoint.requests) > len(hurdles):
            return answered()
        hurdle = hurdles[len(endpoint.requests) - 1]
        if isinstance(hurdle, Exception):
            raise hurdle
        return hurdle

    endpoint = Endpoint(handle)
    (found,) = ask(endpoint, [b"pixels"])
    assert found.status == "ok"
    assert {request.content for request in endpoint.requests} == {b"pixels"}
    for attempt, wait in enumerate(endpoint.waits):
        assert 0.125 * 2**attempt <= wait <= 0.375 * 2**attempt
    assert len(endpoint.waits) == len(hurdles)


LOST = {
    "no connection": httpx.ReadError("reset"),
    "no answer": httpx.RemoteProtocolError("Server disconnected without sending a response."),
    "no replica": problem(503, "not_ready"),
    "a bad gateway": httpx.Response(502, text="<html>Bad gateway</html>"),
    "another's 503": httpx.Response(503, text="<html>Service unavailable</html>"),
}


def replay(endpoint: Endpoint, script: list[httpx.Response | Exception]) -> None:
    """Have a stand-in answer one thing after the other, and images with an answer from then on."""

    def handle(request: httpx.Request) -> httpx.Response:
        if len(endpoint.requests) > len(script):
            return answered()
        told = script[len(endpoint.requests) - 1]
        if isinstance(told, Exception):
            raise told
        return httpx.Response(told.status_code, headers=told.headers, content=told.content)

    endpoint.handle = handle


READY = httpx.Response(200, json={"status": "ok", "models": [MODEL["id"]]})


def asked(endpoint: Endpoint) -> list[str]:
    return [request.url.path for request in endpoint.requests]


@pytest.mark.parametrize("loss", LOST.values(), ids=list(LOST))
def test_an_image_that_was_lost_is_sent_again_when_the_endpoint_is_ready(
    ask: Ask, loss: httpx.Response | Exception
) -> None:
    endpoint = Endpoint(lambda _: answered())
    replay(endpoint, [loss, problem(503, "not_ready"), httpx.ConnectError("refused"), READY])
    (found,) = ask(endpoint, [b"pixels"])
    assert found.status == "ok"
    assert asked(endpoint) == ["/v1/predict", *["/readyz"] * 3, "/v1/predict"]
    assert [request.content for request in endpoint.requests] == [b"pixels", b"", b"", b"", b"pixels"]
    assert len(endpoint.waits) == 3


@pytest.mark.parametrize("loss", LOST.values(), ids=list(LOST))
def test_an_image_is_not_carried_from_replica_to_replica(
    ask: Ask, loss: httpx.Response | Exception, tmp_path: Path
) -> None:
    (tmp_path / "poison.png").write_bytes(b"poison")
    endpoint = Endpoint(lambda _: answered())
    replay(endpoint, [loss, READY, problem(503, "queue_full"), loss, READY])
    with pytest.raises(EndpointError, match=r"lost twice while it had .*poison\.png"):
        ask(endpoint, [tmp_path / "poison.png"])
    assert asked(endpoint) == ["/v1/predict", "/readyz", "/v1/predict", "/v1/predict"]


def test_an_endpoint_that_does_not_come_back_gets_no_second_image(ask: Ask) -> None:
    endpoint = Endpoint(lambda _: problem(503, "not_ready", "no replica is ready"))
    with pytest.raises(EndpointError, match=r"no replica is ready \(not_ready, HTTP 503\)"):
        ask(endpoint, [b"1"], retries=3)
    assert asked(endpoint) == ["/v1/predict", *["/readyz"] * 3]
    assert len(endpoint.waits) == 3
    once = Endpoint(lambda _: problem(503, "not_ready"))
    with pytest.raises(EndpointError):
        ask(once, [b"1"], retries=0)
    assert asked(once) == ["/v1/predict"]


def test_a_busy_endpoint_is_asked_with_all_patience_and_so_are_facts() -> None:
    endpoint = Endpoint(lambda _: answered())
    replay(endpoint, [problem(503, "queue_full")] * 6)
    assert [result.status for result in endpoint.client().predict([b"1"])] == ["ok"]
    assert asked(endpoint) == ["/v1/predict"] * 7
    facts = {"classes": ["a"], "models": [], "limits": {}, "samples": []}
    replay(endpoint, [*([READY] * 7), *LOST.values(), httpx.Response(200, json=facts)])
    assert endpoint.client().model().classes == ["a"]


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [("3", 3, 3), ("0", 0, 0.4), ("9999", 30, 30), ("-5", 0, 0.4), ("soon", 0, 0.4), ("date", 3, 6)],
)
def test_it_waits_as_long_as_it_is_asked_to(value: str, least: float, most: float) -> None:
    value = formatdate(time.time() + 5, usegmt=True) if value == "date" else value
    endpoint = Endpoint(
        lambda _: answered() if endpoint.waits else problem(503, "queue_full", **{"Retry-After": value})
    )
    list(endpoint.client().predict([b"1"]))
    assert least <= endpoint.waits[0] <= most


def test_patience_has_an_end(ask: Ask) -> None:
    endpoint = Endpoint(lambda _: problem(503, "queue_full"))
    with pytest.raises(EndpointError, match=r"as it is \(queue_full, HTTP 503\)"):
        ask(endpoint, [b"1"], retries=3)
    assert len(endpoint.requests) == 4

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    unreachable = Endpoint(refuse)
    with pytest.raises(EndpointError, match=r"cannot be reached: Connection refused \(unreachable\)"):
        ask(unreachable, [b"1"], retries=2)
    assert (len(endpoint.waits), len(unreachable.waits)) == (3, 2)


def test_what_took_too_long_is_not_asked_again(ask: Ask) -> None:
    def stall(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("")

    endpoint = Endpoint(stall)
    with pytest.raises(EndpointError, match=r"does not answer in time \(timeout\)"):
        ask(endpoint, [b"1"])
    assert endpoint.waits == []


@pytest.mark.parametrize(
    "body",
    [
        b"<html>hello</html>",
        b"{}",
        b'{"results": [], "milliseconds": 1}',
        b"",
        b"[" * 5000,
        b'{"results": [{}]}',
    ],
)
def test_what_another_server_answers_is_no_answer(ask: Ask, body: bytes) -> None:
    with pytest.raises(EndpointError) as caught:
        ask(Endpoint(lambda _: httpx.Response(200, content=body)), [b"1"])
    assert caught.value.code == "unexpected_answer"
    assert "\n" not in str(caught.value)


def test_several_are_in_flight_and_no_more_than_allowed(ask: Ask, request: pytest.FixtureRequest) -> None:
    threaded = "async" not in request.node.name  # the stand-in does not await
    barrier = threading.Barrier(4)
    taken = 0

    def images() -> Iterator[bytes]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            assert taken - len(endpoint.results) <= 8, "twice what is in flight"
            yield str(number).encode()

    def handle(request: httpx.Request) -> httpx.Response:
        if threaded and int(request.content) < 4:
            barrier.wait(timeout=10)
        return answered()

    endpoint = Endpoint(handle)
    assert len(ask(endpoint, images(), in_flight=4)) == 1000
    assert endpoint.most == (4 if threaded else 1)


def test_a_caller_who_leaves_early_leaves_nothing_behind() -> None:
    endpoint = Endpoint(lambda _: answered())
    endless = (b"1" for _ in iter(int, 1))
    results = endpoint.client(in_flight=2).predict(endless)
    assert next(results).status == "ok"
    results.close()
    assert len(endpoint.requests) <= 6

    async def leave() -> None:
        client = endpoint.async_client(in_flight=2)
        results = client.predict(endless)
        async for _ in results:
            break
        await results.aclose()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(leave())


def test_waits_end_when_the_caller_leaves() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return answered() if request.content == b"1" else problem(503, "queue_full", **{"Retry-After": "30"})

    results = Endpoint(handle).client(in_flight=2, pause=pause_s).predict([b"1", b"2", b"3"])
    assert next(results).status == "ok"
    results.close()
    start = time.perf_counter()
    while any("ThreadPoolExecutor" in thread.name for thread in threading.enumerate()):
        assert time.perf_counter() - start < 5
        time.sleep(0.01)


def test_explanations_models_and_readiness() -> None:
    served = {
        "id": MODEL["id"],
        "role": "main",
        "share": 1,
        "mode": "answers",
        "bundle": {},
        "card": "# Card",
    }
    replies = {
        "/v1/explain": {"results": [answer(crop="YQ==", heatmap="YQ==", overlay="YQ==")], "milliseconds": 1},
        "/v1/model": {
            "classes": ["a"],
            "models": [served],
            "limits": {"max_images": 32},
            "samples": ["a.png"],
        },
        "/readyz": {"status": "ok", "models": [MODEL["id"]]},
    }
    endpoint = Endpoint(lambda request: httpx.Response(200, json=replies[request.url.path]))
    with endpoint.client() as client:
        assert isinstance(client.explain(b"1"), Explanation)
        assert client.model().classes == ["a"]
        assert client.ready()

    async def asynchronously() -> None:
        async with endpoint.async_client() as client:
            assert isinstance(await client.explain(b"1"), Explanation)
            assert (await client.model()).models[0].card == "# Card"
            assert await client.ready()

    asyncio.run(asynchronously())
    unusable = Endpoint(lambda _: problem(422, "too_small")).client().explain("/nowhere.png")
    assert isinstance(unusable, Failure)
    failed = Endpoint(lambda _: problem(422, "too_small")).client().explain(b"1")
    assert isinstance(failed, Failure)
    assert failed.problem.code == "too_small"


def test_it_is_not_ready_while_it_is_down_and_says_so_when_it_keeps_out() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    down, unavailable = Endpoint(refuse), Endpoint(lambda _: problem(503, "unavailable"))
    assert not down.client().ready()
    assert not unavailable.client().ready()
    keeps_out = Endpoint(lambda _: problem(401, "unauthorized"))
    with pytest.raises(EndpointError, match="unauthorized"):
        keeps_out.client().ready()
    assert down.waits == unavailable.waits == keeps_out.waits == []


def test_a_key_or_password_is_shown_nowhere() -> None:
    endpoint = Endpoint(lambda _: problem(401, "unauthorized"))
    with Client(f"http://me:{KEY}@endpoint/base", KEY, transport=httpx.MockTransport(endpoint)) as client:
        assert repr(client) == "Client('http://endpoint/base')"
        with pytest.raises(EndpointError) as caught:
            client.model()
    assert endpoint.requests[0].url.path == "/base/v1/model"
    assert KEY not in f"{caught.value!r} {caught.value}"
    for odd in (f"{KEY}\n", f"{KEY} x", f"{KEY}ä", f"{KEY}\0", ""):
        with pytest.raises(EndpointError) as caught:
            Client("http://endpoint", odd)
        assert KEY not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize(
    "url", ["", "endpoint:8000", "ftp://endpoint", "http://", "http://a b", "http://[", "http://x:99999"]
)
def test_what_is_no_url_is_said_at_once(url: str) -> None:
    with pytest.raises(EndpointError, match="URL"):
        Client(url)


def test_importing_the_client_loads_no_decoder_and_no_server() -> None:
    code = (
        "import sys, brain_ray.serving.client\n"
        "heavy = ('onnxruntime', 'cv2', 'ray', 'starlette', 'numpy', 'pyarrow')\n"
        "loaded = [name for name in heavy if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the job ------------------------------------------------------------------------------------------------


def test_folders_are_walked_in_order_and_only_for_images(tmp_path: Path) -> None:
    names = [
        "b.JPG",
        "a.png",
        "c/a.webp",
        "c/.hidden.png",
        ".git/x.png",
        "b/z.tiff",
        "notes.txt",
        "b/y.tif",
        "d.bmp",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "c" / "round").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in find_images([str(tmp_path)])]
    assert found == ["a.png", "b.JPG", "d.bmp", "b/y.tif", "b/z.tiff", "c/a.webp"]
    listed = [f"{tmp_path}/c\n", "\n", "-\n", f"{tmp_path}/notes.txt\r\n"]
    found = [path.name for path in find_images(["first", "-", "last.dcm"], listed)]
    assert found == ["first", "a.webp", "notes.txt", "last.dcm"]


def test_images_in_a_folder_are_known_by_their_content_too(tmp_path: Path) -> None:
    jpeg, png = b"\xff\xd8\xff\xe0...", b"\x89PNG\r\n\x1a\n..."
    for name in ("a.jfif", "b.jpe", "c", "d.jpg_large", "e.JPG", "f.jpeg ", "g.JFIF", "h.jpg"):
        (tmp_path / name).write_bytes(png if name == "e.JPG" else jpeg)
    for name in ("notes.txt", "empty", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    others = PassedOver()
    found = [path.name for path in find_images([str(tmp_path)], passed_over=others)]
    assert found == ["a.jfif", "b.jpe", "c", "d.jpg_large", "e.JPG", "f.jpeg ", "g.JFIF", "h.jpg"]
    assert [Path(name).name for name in others.files] == ["empty", "notes.txt", "pipe"]


def test_ten_thousand_are_worked_through_with_few_in_hand() -> None:
    lock, held, most = threading.Lock(), 0, 0

    def work(item: int) -> int:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return item

    taken = []
    for item in in_order(work, range(10_000), threads=3, ahead=10):
        taken.append(item)
        with lock:
            held -= 1
    assert taken == list(range(10_000))
    assert most <= 11


@pytest.fixture
def job(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the job's code against a stand-in: exit code, what it wrote, and its errors."""

    def run(endpoint: Endpoint, *argv: str) -> tuple[int, str, str]:
        def connect(url: str, key: str | None, **options: Any) -> Client:
            return Client(url, key, transport=httpx.MockTransport(endpoint), **options)

        try:
            code = predict.run("Classify.", argv, make_client=connect)
        except SystemExit as stop:
            code = int(str(stop.code))
        return code, *capsys.readouterr()

    return run


def handle_names(request: httpx.Request) -> httpx.Response:
    return problem(422, "undecodable", "damaged\x1b[2J") if request.content == b"bad" else answered()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (
        ("a.jpg", b"1"),
        ("b.jpg", b"bad"),
        ("c\x1b]0;x.jpg", b"2"),
        ("脳" * 60 + ".jpg", b"3"),
    ):
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_the_table(job: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_text.shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.chdir(folder)
    code, written, errors = job(Endpoint(handle_names), "--url", "http://endpoint", ".")
    lines = written.splitlines()
    assert (code, errors) == (1, "")
    assert lines[0].split() == ["file", "label", "confidence", "decision", "ms"]
    assert lines[1].split() == ["a.jpg", "glioma", "0.9000", "answer", "3.2"]
    assert len(lines[0]) == len(lines[1]) <= 80
    assert lines[2].split(maxsplit=1) == ["b.jpg", "error: damaged\N{REPLACEMENT CHARACTER}[2J (undecodable)"]
    assert "\x1b" not in written
    assert lines[4].startswith("…脳")
    assert lines[1].index("glioma") == prediction_text.cell_len(lines[4].partition("glioma")[0])
    assert lines[5].startswith("4 images in ")
    assert lines[5].endswith(" images/s); glioma 3; answer 3; 1 error: undecodable 1")


def test_json_lines_hold_what_the_endpoint_answers(job: Any, folder: Path) -> None:
    code, written, _ = job(
        Endpoint(handle_names), "--url", "http://endpoint", "--json", str(folder / "a.jpg")
    )
    assert code == 0
    assert json.loads(written) == answer(name=str(folder / "a.jpg"))
    code, written, _ = job(
        Endpoint(handle_names), "--url", "http://endpoint", "--json", str(folder / "b.jpg")
    )
    assert code == 1
    assert json.loads(written)["problem"]["code"] == "undecodable"


def test_errors_are_one_line(job: Any, tmp_path: Path) -> None:
    closed = Endpoint(lambda _: problem(401, "unauthorized"))
    image, empty = tmp_path / "a.jpg", tmp_path / "empty"
    image.write_bytes(b"1")
    empty.mkdir()
    url = ("--url", "http://endpoint")
    for expected, argv in (
        (2, (str(image),)),
        (2, (*url, "--bundle", "b", str(image))),
        (2, url),
        (2, (*url, "--in-flight", "0", str(image))),
        (2, (*url, "--timeout", "nan", str(image))),
        (1, (*url, str(image))),
        (1, (*url, str(empty))),
        (1, ("--url", "endpoint:8000", str(image))),
        (1, (*url, "--api-key-file", "/nowhere", str(image))),
        (1, ("--bundle", str(tmp_path), str(image))),
    ):
        code, written, errors = job(closed, *argv)
        assert code == expected, argv
        assert errors.startswith("error: "), argv
        assert errors.count("\n") == 1, argv
        assert written == "", argv


def test_the_key_comes_from_a_file_or_the_environment(
    job: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint(handle_names)
    monkeypatch.setenv("BRAIN_RAY_API_KEY", "from-environment")
    url, image = ("--url", "http://endpoint"), str(folder / "a.jpg")
    job(endpoint, *url, image)
    (folder / "key").write_text("from-file\n")
    job(endpoint, *url, "--api-key-file", str(folder / "key"), image)
    sent = [request.headers["Authorization"] for request in endpoint.requests]
    assert sent == ["Bearer from-environment", "Bearer from-file"]


def test_names_that_are_no_text_are_spelt_out(job: Any, tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"\xff.jpg")  # noqa: PTH118
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"1")
    assert name_of(os.fsdecode(path)).endswith("\\xff.jpg")
    code, written, _ = job(Endpoint(handle_names), "--url", "http://endpoint", "--json", str(tmp_path))
    assert code == 0
    assert json.loads(written)["name"].endswith("\\xff.jpg")


def test_a_reader_who_has_enough_ends_it_quietly(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number:04d}.png").write_bytes(b"")
    code = (
        "import sys, httpx\n"
        "sys.path[:0] = sys.argv.pop(1).split(':')\n"
        "from test_client import Endpoint, answered\n"
        "from brain_ray.serving import predict\n"
        "from brain_ray.serving.client import Client\n"
        "transport = httpx.MockTransport(Endpoint(lambda _: answered()))\n"
        "make = lambda url, key, **options: Client(url, key, transport=transport, **options)\n"
        "sys.exit(predict.run('Classify.', make_client=make))\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, f"{HERE}:{HERE.parent}", "--url", "http://endpoint", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    assert b"file" in writer.stdout.readline()
    writer.stdout.close()
    assert writer.stderr.read() == b""
    assert writer.wait(timeout=60) == 0


def test_help_says_how_it_is_called_and_how_it_ends() -> None:
    done = subprocess.run([sys.executable, JOB, "--help"], capture_output=True, text=True, check=True)
    for word in ("--url", "--bundle", "--json", "--api-key-file", "BRAIN_RAY_API_KEY", "exit code"):
        assert word in done.stdout


# --- a real endpoint, and a real bundle ---------------------------------------------------------------------


def phantoms() -> list[bytes]:
    from PIL import Image

    encoded = []
    for index, label in enumerate(("glioma", "notumor", "pituitary", "meningioma")):
        buffer = io.BytesIO()
        Image.fromarray(draw(label, 3, index)).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    return encoded


def test_an_endpoint_answers_both_clients_as_its_bundle_does(endpoint: Any, bundle: Path) -> None:
    images = [*phantoms(), b"no image", b"", b"x" * 30_000_000]

    async def asynchronously() -> list[Answer | Failure]:
        async with AsyncClient(endpoint.url) as client:
            assert await client.ready()
            return [result async for result in client.predict(images)]

    with Client(endpoint.url) as client:
        assert client.ready()
        assert client.model().models
        found = list(client.predict(images))
        explained = client.explain(images[0])
    assert [result.status for result in found] == ["ok"] * 4 + ["error"] * 3
    told = [result.problem.code for result in found if isinstance(result, Failure)]
    assert told == ["not_an_image", "no_image", "too_large"]
    for one, two in zip(found, asyncio.run(asynchronously()), strict=True):
        assert_alike(one, two)
    assert isinstance(explained, Explanation)
    assert explained.label == found[0].label
    for one, two in zip(found, asked_offline(bundle, images), strict=True):
        if isinstance(one, Answer):  # an empty or a large body is none before it is an image
            assert_alike(one, two)


def asked_offline(bundle: Path, images: list[bytes]) -> list[Answer | Failure]:
    from brain_ray.bundle.predictor import Predictor
    from brain_ray.serving.offline import predict_offline

    return list(predict_offline(Predictor(bundle, threads=1), images, batch_size=3))


def assert_alike(one: Answer | Failure, two: Answer | Failure) -> None:
    """Expect the same answer; how many images the model is run on at once shows in the last digit."""
    if isinstance(one, Failure) or isinstance(two, Failure):
        assert one == two
        return
    loose = {"milliseconds", "unlikeness", "confidence", "probabilities", "calibrated"}
    assert one.model_dump(exclude=loose) == two.model_dump(exclude=loose)
    assert one.calibrated == pytest.approx(two.calibrated, abs=1e-5)
    assert one.probabilities == pytest.approx(two.probabilities, abs=1e-5)
    assert one.unlikeness == pytest.approx(two.unlikeness, abs=1e-4)


def test_a_bundle_answers_without_an_endpoint(bundle: Path, tmp_path: Path) -> None:
    for number, data in enumerate([*phantoms(), b"no image", b""]):
        (tmp_path / f"{number}.png").write_bytes(data)
    command = [sys.executable, str(JOB), "--bundle", str(bundle), str(tmp_path)]
    lines = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert (lines.returncode, lines.stderr) == (1, "")
    told = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [one["status"] for one in told] == ["ok"] * 4 + ["error"] * 2
    assert [one["name"] for one in told] == [str(tmp_path / f"{number}.png") for number in range(6)]
    table = subprocess.run([*command, str(tmp_path / "0.png")], capture_output=True, text=True, check=False)
    assert table.stdout.splitlines()[-1].endswith("2 errors: not_an_image 2")
    assert len(table.stdout.splitlines()) == 1 + 7 + 1


def test_a_long_list_is_classified_with_few_images_in_memory(bundle: Path) -> None:
    from brain_ray.bundle.predictor import Predictor
    from brain_ray.serving.offline import predict_offline

    taken, given, picture = 0, 0, phantoms()[0]

    def images() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(400):
            taken += 1
            assert taken - given <= 3 * 8, "a batch, and two that are being prepared"
            yield picture

    for result in predict_offline(Predictor(bundle, threads=1), images(), batch_size=8):
        given += 1
        assert result.status == "ok"
    assert given == 400
