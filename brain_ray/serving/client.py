"""A client of the endpoint, for programs: `Client`, and `AsyncClient` for those that run on asyncio.

    with Client("http://127.0.0.1:8000") as client:
        for result in client.predict(["one.jpg", "two.png"]):
            print(result.name, result.label if result.status == "ok" else result.problem.detail)

What is said to the endpoint, and what is made of its answers, stands in functions and generators that know no
network; the two clients only carry requests and responses to and fro.
"""

import asyncio
import email.utils
import random
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from brain_ray.serving.files import MEDIA_TYPES, Source, in_order, name_of, read_image
from brain_ray.serving.schemas import (
    Answer,
    Explanation,
    Explanations,
    Failure,
    Health,
    Models,
    Predictions,
    Problem,
)

Body = TypeVar("Body", bound=BaseModel)
Kept = TypeVar("Kept")

ABOUT_THE_IMAGE = (400, 413, 415, 422)
"""Statuses that one image gets and the next may not."""

RETRIED = (408, 429, 502, 503)
"""Statuses that the same request may not get a second time."""

FIRST_WAIT_S = 0.25
"""Before the first retry; doubled for each further one."""

LONGEST_WAIT_S = 30.0
"""Before any retry, whatever the endpoint asks for."""


class EndpointError(Exception):
    """The endpoint cannot be used: it is not there, lets nobody in, is overloaded, or is not one of ours.

    `code` is the endpoint's own (unauthorized, queue_full, ...), or one of `unreachable`, `timeout`,
    `unexpected_answer` and `bad_request`; `status` is the HTTP status, if there was one.
    """

    def __init__(self, code: str, detail: str, status: int | None = None) -> None:
        super().__init__(code, detail, status)
        self.code = code
        self.detail = detail
        self.status = status

    def __str__(self) -> str:
        return f"{self.detail} ({self.code}{f', HTTP {self.status}' if self.status else ''})"


Heard = httpx.Response | httpx.RequestError | None
"""What came of a request; None after a pause."""

Steps = Generator[httpx.Request | float, Heard, Kept]
"""A conversation: it yields requests to send and seconds to wait, and hears what came of them."""


@dataclass(frozen=True)
class _Terms:
    """Where the endpoint is, who asks, and with how much patience."""

    url: httpx.URL
    headers: dict[str, str]
    retries: int

    @classmethod
    def agree(cls, url: str, api_key: str | None, retries: int) -> "_Terms":
        try:
            parsed = httpx.URL(url.rstrip("/") + "/")
            named = urllib.parse.urlsplit(url)  # stricter about hosts and ports
            sound = named.scheme in ("http", "https") and bool(named.hostname) and named.port != 0
        except (httpx.InvalidURL, ValueError):
            sound = False
        if not sound or " " in url:
            raise EndpointError("bad_request", "not a URL: expected http:// or https:// and a host")
        headers = {"User-Agent": "brain_ray", "Accept": "application/json"}
        if api_key is not None:
            # Here, since the message of whoever refuses it later would show it.
            if not (api_key.isascii() and api_key.isprintable() and api_key and " " not in api_key):
                raise EndpointError("bad_request", "the API key is empty, or holds spaces or odd characters")
            headers["Authorization"] = f"Bearer {api_key}"
        return cls(parsed, headers, retries)

    @property
    def shown(self) -> str:
        """The endpoint's address without a password."""
        return str(self.url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")

    def fetch(self, route: str, kind: type[Body]) -> Steps[Body]:
        """Get what the endpoint says of itself."""
        response = yield from self._ask("GET", route)
        return self._read(response, kind)

    def predict(self, source: Source, data: bytes) -> Steps[Answer | Failure]:
        """Have one image classified."""
        response = yield from self._ask("POST", "v1/predict", source, data)
        name = name_of(source)
        if response.status_code != 200:
            return Failure(name=name, problem=_problem(response))
        return self._only(self._read(response, Predictions).results).model_copy(update={"name": name})

    def explain(self, source: Source, data: bytes) -> Steps[Explanation | Failure]:
        """Have one image classified and explained."""
        response = yield from self._ask("POST", "v1/explain", source, data)
        name = name_of(source)
        if response.status_code != 200:
            return Failure(name=name, problem=_problem(response))
        return self._only(self._read(response, Explanations).results).model_copy(update={"name": name})

    def ready(self) -> Steps[bool]:
        """Ask once whether images would be answered now."""
        heard = yield self._request("GET", "readyz")
        if not isinstance(heard, httpx.Response) or heard.status_code in (502, 503, 504):
            return False
        if heard.status_code != 200:
            raise self._error(heard)
        self._read(heard, Health)
        return True

    def _ask(
        self, method: str, route: str, source: Source = b"", data: bytes | None = None
    ) -> Steps[httpx.Response]:
        """Ask until there is an answer about the matter, at most `retries` times after the first."""
        attempt = 0
        while True:
            heard = yield self._request(method, route, source, data)
            if isinstance(heard, httpx.Response):
                status = heard.status_code
                if status == 200 or (data is not None and status in ABOUT_THE_IMAGE):
                    return heard
                if status not in RETRIED or attempt == self.retries:
                    raise self._error(heard)
            elif not _is_passing(heard) or attempt == self.retries:
                raise self._silence(heard)
            yield _pause(attempt, heard)
            attempt += 1

    def _request(
        self, method: str, route: str, source: Source = b"", data: bytes | None = None
    ) -> httpx.Request:
        headers = dict(self.headers)
        if data is not None:
            suffix = "" if isinstance(source, bytes) else Path(source).suffix.lower()
            headers["Content-Type"] = MEDIA_TYPES.get(suffix, "application/octet-stream")
        return httpx.Request(method, self.url.join(route), headers=headers, content=data)

    def _read(self, response: httpx.Response, kind: type[Body]) -> Body:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "body"
            raise EndpointError(
                "unexpected_answer",
                f"{response.request.url.path} of {self.shown} answers something else than brain_ray does: "
                f"{where}: {first['msg']}",
                response.status_code,
            ) from None

    def _only(self, results: list[Kept]) -> Kept:
        if len(results) != 1:
            raise EndpointError(
                "unexpected_answer", f"{self.shown}: found {len(results)} results, sent one image", 200
            )
        return results[0]

    def _error(self, response: httpx.Response) -> EndpointError:
        problem = _problem(response)
        return EndpointError(problem.code, f"{self.shown}: {problem.detail}", problem.status)

    def _silence(self, error: httpx.RequestError | None) -> EndpointError:
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.TimeoutException) and _is_sent(error):
            return EndpointError("timeout", f"{self.shown} does not answer in time")
        return EndpointError("unreachable", f"{self.shown} cannot be reached: {reason}")


def _is_sent(error: httpx.RequestError | None) -> bool:
    return not isinstance(error, httpx.ConnectTimeout)


def _is_passing(error: httpx.RequestError | None) -> bool:
    """Tell whether trying again may help; what took too long would take so again, and load the endpoint."""
    if isinstance(error, httpx.TimeoutException):
        return not _is_sent(error)
    return isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ProxyError)


def _pause(attempt: int, heard: Heard) -> float:
    """Return the seconds to wait: what the endpoint asks for, else a doubling time, spread at random."""
    asked = _retry_after(heard.headers.get("Retry-After", "")) if isinstance(heard, httpx.Response) else 0.0
    backoff = FIRST_WAIT_S * 2.0**attempt * random.uniform(0.5, 1.5)
    return min(LONGEST_WAIT_S, max(asked, backoff))


def _retry_after(value: str) -> float:
    """Read seconds or a date (RFC 9110, 10.2.3)."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return float(email.utils.parsedate_to_datetime(value).timestamp()) - time.time()
    except ValueError:
        return 0.0


def _problem(response: httpx.Response) -> Problem:
    """Return what a response says is wrong; what stands before the endpoint may say it in its own way."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        status = response.status_code
        return Problem(
            type="about:blank",
            title=response.reason_phrase or "Error",
            status=status,
            code=f"http_{status}",
            detail=f"HTTP {status} {response.reason_phrase}".strip(),
        )


class _Base:
    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60,
        retries: int = 6,
        in_flight: int = 8,
    ) -> None:
        """Set up, without a connection as yet.

        Args:
            url: of the endpoint, such as http://127.0.0.1:8000.
            api_key: a key that the endpoint knows; it is sent, and shown nowhere.
            timeout_s: how long to wait for one answer; longer than the endpoint's own limit.
            retries: after connection errors and 503; with their waits, 6 take about 16 s.
            in_flight: requests of `predict` at a time.

        Raises:
            EndpointError: no URL, or not a key.
        """
        self._terms = _Terms.agree(url, api_key, retries)
        self._in_flight = in_flight
        self._timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10), pool=None)
        self._limits = httpx.Limits(max_connections=in_flight + 1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._terms.shown!r})"


class Client(_Base):
    """Asks an endpoint; may be shared by threads. Close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60,
        retries: int = 6,
        in_flight: int = 8,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Set up as described above; `transport` replaces the network, for tests."""
        super().__init__(url, api_key, timeout_s=timeout_s, retries=retries, in_flight=in_flight)
        self._http = httpx.Client(timeout=self._timeout, limits=self._limits, transport=transport)

    def predict(self, images: Iterable[Source]) -> Iterator[Answer | Failure]:
        """Yield a result for each image, in order, as soon as it is there; several are asked for at a time.

        A result's name is the path as it was given, or `image` for bytes. Of files, at most `in_flight` are
        held; of an iterable of bytes, twice as many.

        Raises:
            EndpointError: the endpoint cannot be used. An image that cannot be used becomes a Failure.
        """
        stop = threading.Event()

        def ask(source: Source) -> Answer | Failure:
            data = read_image(source)
            return data if isinstance(data, Failure) else self._run(self._terms.predict(source, data), stop)

        try:
            yield from in_order(ask, images, self._in_flight, 2 * self._in_flight)
        finally:
            stop.set()

    def explain(self, image: Source) -> Explanation | Failure:
        """Return the answer for an image, and what it rests on.

        Raises:
            EndpointError: the endpoint cannot be used.
        """
        data = read_image(image)
        return data if isinstance(data, Failure) else self._run(self._terms.explain(image, data))

    def model(self) -> Models:
        """Return what is on the air: models, classes, limits.

        Raises:
            EndpointError: the endpoint cannot be used.
        """
        return self._run(self._terms.fetch("v1/model", Models))

    def ready(self) -> bool:
        """Tell whether images would be answered now; asks once.

        Raises:
            EndpointError: there is something, but it lets us not in, or is no endpoint.
        """
        return self._run(self._terms.ready())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Steps[Kept], stop: threading.Event | None = None) -> Kept:
        stop = stop or threading.Event()
        heard: Heard = None
        while True:
            try:
                step = steps.send(heard)
            except StopIteration as done:
                kept: Kept = done.value
                return kept
            if isinstance(step, float):
                heard = None
                if stop.wait(step):
                    raise EndpointError("unreachable", "nobody waits for the answer any more")
                continue
            try:
                heard = self._http.send(step)
            except httpx.RequestError as error:
                heard = error


class AsyncClient(_Base):
    """Asks an endpoint from asyncio. Close it, or use it in an `async with`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60,
        retries: int = 6,
        in_flight: int = 8,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Set up as `Client`."""
        super().__init__(url, api_key, timeout_s=timeout_s, retries=retries, in_flight=in_flight)
        self._http = httpx.AsyncClient(timeout=self._timeout, limits=self._limits, transport=transport)

    async def predict(self, images: Iterable[Source]) -> AsyncIterator[Answer | Failure]:
        """Yield a result for each image, in order; see `Client.predict`."""
        room = asyncio.Semaphore(self._in_flight)
        waiting: deque[asyncio.Task[Answer | Failure]] = deque()

        async def ask(source: Source) -> Answer | Failure:
            async with room:
                return await self._ask(source, self._terms.predict)

        try:
            for source in images:
                waiting.append(asyncio.create_task(ask(source)))
                while waiting and (len(waiting) >= 2 * self._in_flight or waiting[0].done()):
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def explain(self, image: Source) -> Explanation | Failure:
        """Return the answer for an image, and what it rests on; see `Client.explain`."""
        return await self._ask(image, self._terms.explain)

    async def model(self) -> Models:
        """Return what is on the air; see `Client.model`."""
        return await self._run(self._terms.fetch("v1/model", Models))

    async def ready(self) -> bool:
        """Tell whether images would be answered now; see `Client.ready`."""
        return await self._run(self._terms.ready())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(
        self, source: Source, ask: Callable[[Source, bytes], Steps[Kept | Failure]]
    ) -> Kept | Failure:
        data = await asyncio.to_thread(read_image, source)
        return data if isinstance(data, Failure) else await self._run(ask(source, data))

    async def _run(self, steps: Steps[Kept]) -> Kept:
        heard: Heard = None
        while True:
            try:
                step = steps.send(heard)
            except StopIteration as done:
                kept: Kept = done.value
                return kept
            if isinstance(step, float):
                heard = None
                await asyncio.sleep(step)
                continue
            try:
                heard = await self._http.send(step)
            except httpx.RequestError as error:
                heard = error
