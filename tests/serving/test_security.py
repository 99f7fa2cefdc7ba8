"""What stands between the network and the routes: who may ask, and what a request may hold, and how long."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brain_ray.serving.config import ServingConfig
from brain_ray.serving.security import CLIENT, CLIENT_HEADER, PIECE, ROOM, Front, SecurityMiddleware

Headers = dict[str, str | bytes]


def scope_of(method: str = "POST", path: str = "/v1/predict", **headers: str | bytes) -> Scope:
    """An ASGI scope, as the server makes it; underscores of header names become hyphens."""
    named = {"host": "localhost:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [
            (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1"))
            for name, value in named.items()
        ],
    }


async def receive_nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def ask(app: ASGIApp, scope: Scope, receive: Receive = receive_nothing) -> tuple[int, dict[str, str], bytes]:
    """Send a request; returns status, headers and body of the answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    start, *rest = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, b"".join(message["body"] for message in rest)


def code_of(answer: tuple[int, dict[str, str], bytes]) -> str:
    """The problem's code, or `ok`."""
    status, headers, body = answer
    if status == 200:
        return "ok"
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(body)
    assert problem["status"] == status
    return str(problem["code"])


def guarded(app: ASGIApp | None = None, **settings: Any) -> SecurityMiddleware:
    return SecurityMiddleware(app or PlainTextResponse("fine"), ServingConfig(bundle="none", **settings))


# --- clients ------------------------------------------------------------------------------------------------


def client_in(scope: Scope, **settings: Any) -> str:
    found: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope[CLIENT])
        await PlainTextResponse("fine")(scope, receive, send)

    assert code_of(ask(guarded(app, **settings), scope)) == "ok"
    return found[0]


def test_a_client_is_its_address_as_the_proxy_saw_it_and_not_as_it_says() -> None:
    scope = {**scope_of(), "client": ("192.0.2.7", 50_000)}
    assert client_in(scope) == "192.0.2.7"
    for address in (b"192.0.2.1", b"192.0.2.9"):
        scope["headers"] = [*scope["headers"], (CLIENT_HEADER.lower().encode(), address)]
    assert client_in(scope) == "192.0.2.9", "the proxy's own comes last"
    assert client_in(scope_of()) == "", "a server that does not tell"


def test_a_client_with_a_key_is_the_same_at_any_address() -> None:
    keys = {"api_keys_sha256": (hashlib.sha256(b"secret").hexdigest(),)}
    for address in ("192.0.2.7", "192.0.2.8"):
        scope = {**scope_of(x_api_key="secret"), "client": (address, 50_000)}
        assert client_in(scope, **keys) == "secret"


# --- hosts and sites ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "settings", "expected"),
    [
        ("localhost", {}, "ok"),
        ("LOCALHOST:8000", {}, "ok"),
        ("127.0.0.1:8000", {}, "ok"),
        ("[::1]:8000", {}, "ok"),
        ("evil.example", {}, "forbidden"),
        ("evil.example:8000", {}, "forbidden"),
        ("localhost.evil.example", {}, "forbidden"),
        ("127.0.0.1.evil.example", {}, "forbidden"),
        ("evil.example@localhost", {}, "ok"),  # the host of this is localhost, and no browser sends it
        ("[::1", {}, "forbidden"),
        ("\xff", {}, "forbidden"),
        ("evil.example", {"host": "localhost"}, "forbidden"),
        ("evil.example", {"host": "127.1.2.3"}, "forbidden"),
        ("127.1.2.3:8000", {"host": "127.1.2.3"}, "ok"),
        ("any.example", {"host": "0.0.0.0"}, "ok"),
        ("any.example", {"host": "192.0.2.7"}, "ok"),
        ("mri.example", {"allowed_hosts": ("MRI.example",)}, "ok"),
        ("localhost:8000", {"allowed_hosts": ("mri.example",)}, "ok"),
        ("evil.example", {"allowed_hosts": ("mri.example",)}, "forbidden"),
        ("evil.example", {"allowed_hosts": ("mri.example",), "host": "0.0.0.0"}, "forbidden"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_was_bent_to_this_machine_reads_nothing(
    method: str, host: str, settings: dict[str, Any], expected: str
) -> None:
    """DNS rebinding: a browser takes evil.example:8000 for 127.0.0.1, and for one site with its page."""
    assert code_of(ask(guarded(**settings), scope_of(method, host=host))) == expected


def test_who_is_refused_reads_by_which_names_it_goes() -> None:
    _, _, body = ask(guarded(allowed_hosts=("mri.example",)), scope_of(host="x.example:8000"))
    detail = json.loads(body)["detail"]
    assert "'x.example:8000'" in detail
    for name in ("localhost", "127.0.0.1", "::1", "mri.example", "allowed_hosts"):
        assert name in detail


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "ok"),  # curl, the Python client
        ({"origin": "http://localhost:8000"}, "ok"),
        ({"origin": "http://localhost:8000", "sec_fetch_site": "same-origin"}, "ok"),
        ({"sec_fetch_site": "none"}, "ok"),
        ({"origin": "http://evil.example", "sec_fetch_site": "cross-site"}, "forbidden"),
        ({"sec_fetch_site": "cross-site"}, "forbidden"),
        ({"sec_fetch_site": "same-site"}, "forbidden"),
        ({"origin": "http://evil.example"}, "forbidden"),
        ({"origin": "http://evil.example", "sec_fetch_site": ""}, "forbidden"),
        ({"origin": "http://localhost:3000"}, "forbidden"),
        ({"origin": "null"}, "forbidden"),
        ({"origin": ""}, "forbidden"),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_page_of_another_site_cannot_send_images(host: str, headers: dict[str, str], expected: str) -> None:
    assert code_of(ask(guarded(host=host), scope_of(**headers))) == expected
    assert code_of(ask(guarded(host=host), scope_of("GET", **headers))) == "ok", "a link may lead here"


def test_a_proxy_in_front_may_ask_in_its_own_name_or_in_ours() -> None:
    app = guarded(allowed_hosts=("mri.example",))
    for host in ("mri.example", "127.0.0.1:8000"):
        assert code_of(ask(app, scope_of(host=host, origin="https://mri.example"))) == "ok"
        assert code_of(ask(app, scope_of(host=host, origin="https://evil.example"))) == "forbidden"


# --- answers that nobody takes ------------------------------------------------------------------------------


def test_a_large_answer_goes_out_in_pieces_and_keeps_its_room_until_the_last() -> None:
    body = bytes(range(256)) * (PIECE // 64)
    room: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROOM].callback(room.append, "free")
        await Response(body)(scope, receive, send)

    async def send(message: Message) -> None:
        assert room == []
        sent.append(message)

    asyncio.run(guarded(app)(scope_of(), receive_nothing, send))
    pieces = [message["body"] for message in sent[1:]]
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) == PIECE
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(pieces) - 1) + [False]
    assert room == ["free"]


def test_who_takes_no_more_of_an_answer_holds_nothing_for_ever() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROOM].callback(room.append, "free")
        await Response(bytes(10 * PIECE))(scope, receive, send)

    room: list[str] = []
    taken = 0

    async def take_one_piece(message: Message) -> None:
        nonlocal taken
        taken += len(message.get("body", b""))
        if taken > PIECE:
            await asyncio.Event().wait()

    async def take_a_little_now_and_then(message: Message) -> None:
        nonlocal taken
        taken += len(message.get("body", b""))
        await asyncio.sleep(0.2)

    for send in (take_one_piece, take_a_little_now_and_then):
        room.clear()
        taken = 0
        call = guarded(app, timeout_s=1)(scope_of(), receive_nothing, send)
        asyncio.run(asyncio.wait_for(call, 30))
        assert 0 < taken < 10 * PIECE
        assert room == ["free"]


def test_who_hangs_up_leaves_no_room_taken() -> None:
    room: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROOM].callback(room.append, "free")
        await asyncio.Event().wait()

    async def leave() -> None:
        async def send(message: Message) -> None:
            raise AssertionError("nobody is there")

        task = asyncio.create_task(guarded(app)(scope_of(), receive_nothing, send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert room == ["free"]


# --- what Ray Serve reads and says --------------------------------------------------------------------------


def like_ray(answer: Callable[[Scope, Receive, Send], Awaitable[None]]) -> ASGIApp:
    """A stand-in for Ray's code around the application, which decodes its headers."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope["headers"]:
            if name.startswith((b"x-", b"serve")):
                value.decode()
        if timeout := dict(scope["headers"]).get(b"x-request-timeout-seconds"):
            assert float(timeout) > 1
        await answer(scope, receive, send)

    return app


@pytest.mark.parametrize("value", [b"\xff", b"1e-9", b"0", b"?1", b"x" * 1000])
@pytest.mark.parametrize(
    "name",
    [
        "x-request-id",
        "x-request-timeout-seconds",
        "x-request-disconnect-disabled",
        "x-session-id",
        "X_Session_Id",
        "serve_multiplexed_model_id",
        "Serve-Multiplexed-Model-Id",
    ],
)
def test_a_client_does_not_steer_ray_by_headers(name: str, value: bytes) -> None:
    seen: list[Scope] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await PlainTextResponse("fine")(scope, receive, send)

    scope = scope_of(accept=b"\xff")
    scope["headers"].append((name.encode(), value))
    assert ask(Front(like_ray(answer)), scope)[0] == 200
    kept = [left.decode() for left, _ in seen[0]["headers"]]
    assert kept == [
        "host",
        "accept",
        *(["x-request-id"] if name == "x-request-id" and value.isascii() else []),
    ]


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (404, "not_found", 404),
        (405, "method_not_allowed", 405),
        (408, "timeout", 504),
        (429, "bad_request", 400),
        (500, "internal", 500),
        (502, "internal", 500),
        (503, "not_ready", 503),
    ],
)
def test_errors_of_ray_are_problems_as_ours_are(status: int, code: str, told: int) -> None:
    found = ask(Front(PlainTextResponse("Internal Server Error", status)), scope_of())
    assert code_of(found) == code
    assert found[0] == told
    assert (found[1].get("retry-after") == "1") == (told == 503)


def test_a_fault_of_ray_is_a_problem_and_stays_one_for_its_log() -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "secret")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(UnicodeDecodeError):
        asyncio.run(Front(fail)(scope_of(), receive_nothing, send))
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["code"] == "internal"
    assert b"secret" not in sent[1]["body"]


def test_what_we_answer_passes_as_it_is() -> None:
    for path in ("/v1/model", "/healthz"):
        answer = ask(Front(guarded(host="127.0.0.1")), scope_of("GET", path, host="evil.example"))
        assert code_of(answer) == "forbidden"
        assert "content-security-policy" in answer[1]
        assert ask(Front(guarded()), scope_of("GET", path))[2] == b"fine"


def test_a_body_where_none_belongs_is_not_read() -> None:
    """Ray reads ahead without a limit while a route works, whatever the method."""

    async def never() -> Message:
        raise AssertionError("it was read")

    for headers in ({"content_length": "1000000000"}, {"transfer_encoding": "chunked"}):
        for method in ("GET", "HEAD"):
            found = ask(Front(PlainTextResponse("fine")), scope_of(method, "/readyz", **headers), never)
            assert code_of(found) == "bad_request"
    assert ask(Front(PlainTextResponse("fine")), scope_of("GET", content_length="0"))[0] == 200
    assert ask(Front(PlainTextResponse("fine")), scope_of("POST", content_length="5"))[0] == 200
