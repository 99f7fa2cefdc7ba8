"""ASGI middleware: hosts, origins, API keys, security headers, time-outs of answers."""

import asyncio
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brain_ray.serving.config import ServingConfig
from brain_ray.serving.hosts import LOOPBACK_NAMES, is_loopback
from brain_ray.serving.problems import MEDIA_TYPE, ProblemError, problem_of, respond

OPEN = ("/", "/healthz")
"""Paths that need no key: the page, which asks for one, and the check whether the endpoint is alive."""

OPEN_BELOW = "/page/"
"""Prefix of the page's own files, which need no key."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: it runs its own files, and connects to its own server."""

DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy of Swagger's page, which contains its script."""


PIECE = 1 << 18
"""Bytes of an answer that are passed to the server at a time; it buffers everything that it was passed."""

ROOM = "brain_ray.room"
"""Key of an ASGI scope for an ExitStack, which is closed when the answer is sent or its client is gone."""


CLIENT = "brain_ray.client"
"""Key of an ASGI scope for who sent the request: a key, or the address that the proxy saw."""

CLIENT_HEADER = "X-Client-Address"
"""Header that the proxy in front of the replicas adds, with the address from which a request came."""


class SecurityMiddleware:
    """ASGI middleware: checks access, adds security headers, and sends answers in pieces."""

    def __init__(self, app: ASGIApp, config: ServingConfig) -> None:
        self._app = app
        self._keys = [key.lower().encode() for key in config.api_keys_sha256]
        self._timeout_s = config.timeout_s
        self._origins = frozenset(origin.lower() for origin in config.allowed_origins)
        self._root = config.root_path
        self._allowed = frozenset(name.lower() for name in config.allowed_hosts)
        is_checked = self._allowed or is_loopback(config.host)
        self._names = self._allowed | {config.host.lower(), *LOOPBACK_NAMES} if is_checked else frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = self._path_of(scope)
        policy = DOCS_POLICY if path.startswith(("/docs", "/static-offline-docs")) else PAGE_POLICY
        deadline: float | None = None
        is_given_up = False

        async def send_on(message: Message) -> None:
            nonlocal deadline, is_given_up
            if is_given_up:
                return
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers.setdefault("Cache-Control", "no-store")
                deadline = asyncio.get_running_loop().time() + self._timeout_s
            try:
                async with asyncio.timeout_at(deadline):
                    for piece in _pieces(message):
                        await send(piece)
            except TimeoutError:
                is_given_up = True  # the server closes a connection whose answer is not complete

        with ExitStack() as room:
            scope[ROOM] = room
            scope[CLIENT] = self._client_of(scope)
            scope["root_path"] = self._root
            if problem := self._find_problem(scope, path):
                await respond(problem.problem, path)(scope, receive, send_on)
            else:
                await self._app(scope, receive, send_on)

    def _find_problem(self, scope: Scope, path: str) -> ProblemError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._names and host and _name_of(host) not in self._names:
            return ProblemError(
                "forbidden",
                f"the request is for {host[:100]!r}; expected {', '.join(sorted(self._names))}, or a name of "
                "the setting allowed_hosts",
            )
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and self._is_from_elsewhere(headers, host):
            return ProblemError(
                "forbidden", "a page of another site sent the request; expected one of our own"
            )
        if not self._keys or path in OPEN or path.startswith(OPEN_BELOW):
            return None
        key = _key_of(headers)
        if self._is_known(key):
            return None
        found = "this one is not known" if key else "none was sent"
        return ProblemError(
            "unauthorized", f"{found}; expected the header Authorization: Bearer KEY, or X-API-Key: KEY"
        )

    def _client_of(self, scope: Scope) -> str:
        """Returns a request's key, where keys are asked for, or else its address."""
        headers = Headers(scope=scope)
        if self._keys:
            return _key_of(headers)
        seen = headers.getlist(CLIENT_HEADER)  # the proxy's own is the last
        return seen[-1] if seen else str((scope.get("client") or ("",))[0])

    def _path_of(self, scope: Scope) -> str:
        """Returns a request's path below the one that a proxy in front may have left in it."""
        path: str = scope["path"]
        return path.removeprefix(self._root) if path.startswith(f"{self._root}/") else path

    def _is_from_elsewhere(self, headers: Headers, host: str) -> bool:
        """Returns whether a browser sends the request for a site that is not let in; other programs name no
        site."""
        if self._origins & {"*", headers.get("origin", "").lower()}:
            return False
        if (site := headers.get("sec-fetch-site")) is not None:
            return site not in ("same-origin", "none")
        if (origin := headers.get("origin")) is None:
            return False
        source = origin.partition("://")[2]
        return source != host and _name_of(source) not in self._allowed

    def _is_known(self, key: str) -> bool:
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest().encode()
        # All keys are compared, so that the time taken does not reveal which one matches.
        return sum(hmac.compare_digest(digest, known) for known in self._keys) > 0


def _key_of(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


def _name_of(host: str) -> str:
    """Returns the name in a host with or without a port: localhost for localhost:8000, ::1 for [::1]:8000."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _pieces(message: Message) -> Iterator[Message]:
    """Splits a message into messages with at most `PIECE` bytes of body."""
    body = message.get("body", b"")
    if len(body) <= PIECE:
        yield message
        return
    for start in range(0, len(body), PIECE):
        more = start + PIECE < len(body) or message.get("more_body", False)
        yield {**message, "body": body[start : start + PIECE], "more_body": more}


RAY_HEADERS = (
    "x_request_timeout_seconds",
    "x_request_disconnect_disabled",
    "x_session_id",
    "serve_multiplexed_model_id",
)
"""Headers by which a client controls Ray Serve, in lower case and with underscores, as Ray compares some."""


class Front:
    """ASGI middleware around Ray Serve's own code: removes its headers, and converts its errors to problems.

    Ray answers in plain text, and with 500 if such a header is not UTF-8; it also reads the body of any
    request ahead, without a limit, while a route works.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["headers"] = [(name, value) for name, value in scope["headers"] if not _steers_ray(name, value)]
        is_started = is_replaced = False

        async def send_on(message: Message) -> None:
            nonlocal is_started, is_replaced
            if message["type"] == "http.response.start":
                is_started = True
                headers = Headers(raw=message["headers"])
                is_replaced = message["status"] >= 400 and headers.get("content-type") != MEDIA_TYPE
                if is_replaced:
                    await respond(problem_of(message["status"]))(scope, receive, send)
            if not is_replaced:
                await send(message)

        headers = Headers(scope=scope)
        if scope["method"] in ("GET", "HEAD") and (
            headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        ):
            problem = ProblemError("bad_request", f"a {scope['method']} request has no body").problem
            await respond(problem)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send_on)
        except Exception:
            if not is_started:
                await respond(problem_of(500))(scope, receive, send)
            raise


def before_ray() -> list[Middleware]:
    """Returns the middleware in front of Ray Serve's code, for RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH."""
    return [Middleware(Front)]


def _steers_ray(name: bytes, value: bytes) -> bool:
    plain = name.decode("latin-1").lower().replace("-", "_")
    return plain in RAY_HEADERS or (plain == "x_request_id" and not value.isascii())
