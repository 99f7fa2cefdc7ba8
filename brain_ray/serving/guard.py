"""What stands between the network and the routes: API keys, and headers that browsers obey."""

import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brain_ray.serving.problems import ProblemError, respond

OPEN = ("/", "/healthz")
"""Paths that need no key: the page, which asks for one, and whether the endpoint is alive."""

OPEN_BELOW = "/page/"
"""The page's own files."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy: the page runs its own files, and speaks to its own server."""

DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""For Swagger's page, whose script stands in it."""


class Guard:
    """ASGI middleware: lets in who has a key, and adds the headers of security to every answer."""

    def __init__(self, app: ASGIApp, keys_sha256: Iterable[str]) -> None:
        self._app = app
        self._keys = [key.lower().encode() for key in keys_sha256]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        policy = DOCS_POLICY if path.startswith(("/docs", "/static-offline-docs")) else PAGE_POLICY

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if self._keys and path not in OPEN and not path.startswith(OPEN_BELOW):
            key = _key_of(Headers(scope=scope))
            if not self._is_known(key):
                found = "this one is not known" if key else "none was sent"
                detail = f"{found}; expected the header Authorization: Bearer KEY, or X-API-Key: KEY"
                await respond(ProblemError("unauthorized", detail).problem)(scope, receive, send_on)
                return
        await self._app(scope, receive, send_on)

    def _is_known(self, key: str) -> bool:
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest().encode()
        # All of them, so that the time taken does not tell which.
        return sum(hmac.compare_digest(digest, known) for known in self._keys) > 0


def _key_of(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
