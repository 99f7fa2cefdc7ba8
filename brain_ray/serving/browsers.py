"""ASGI middleware for callers from afar: pages of other origins (CORS), and monitors that ask by HEAD."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFLIGHT_S = 600
"""Seconds for which a browser keeps what another origin may do."""


def let_in(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """Returns an application that tells browsers that pages of these origins may call it; `*`: all pages.

    Their questions (OPTIONS) are answered without a key, since browsers send none with them.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-API-Key"],
        expose_headers=["Retry-After"],
        max_age=PREFLIGHT_S,
    )


class HeadAsGet:
    """ASGI middleware: answers HEAD as GET, without the body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_on)
