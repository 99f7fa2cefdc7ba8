"""Client protocol without I/O: requests, response parsing, retry decisions."""

import urllib.parse
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from brain_ray.serving.client.files import Source, media_type_of, name_of
from brain_ray.serving.client.retries import (
    RETRIED,
    Outcome,
    Pause,
    is_passing,
    is_sent,
    may_end_replicas,
    pause_s,
    problem_of,
)
from brain_ray.serving.schemas import (
    Answer,
    Explanation,
    Explanations,
    Failure,
    Health,
    Predictions,
)
from brain_ray.serving.study_schemas import Study

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")

ABOUT_THE_IMAGE = (400, 413, 415, 422)
"""Statuses that depend on the image: the next image may get another."""


class EndpointError(Exception):
    """The endpoint cannot be used: it cannot be reached, refuses access, is overloaded, or is another server.

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


Exchange = Generator[httpx.Request | float, Outcome, Result]
"""An exchange: yields requests to send and seconds to wait, receives their outcomes, returns its result."""


@dataclass(frozen=True)
class Load:
    """What a request carries."""

    name: str
    """What an error calls it."""
    parts: dict[str, Any]
    """Arguments of `httpx.Request`."""

    @classmethod
    def image(cls, source: Source, data: bytes) -> "Load":
        """Returns the load of one image."""
        return cls(name_of(source), {"content": data, "headers": {"Content-Type": media_type_of(source)}})


@dataclass(frozen=True)
class Endpoint:
    """An endpoint's address, a client's key, and its rule for retries."""

    url: httpx.URL
    headers: dict[str, str]
    retries: int
    pause: Pause = pause_s

    @classmethod
    def agree(cls, url: str, api_key: str | None, retries: int, pause: Pause = pause_s) -> "Endpoint":
        """Checks an address and a key.

        Raises:
            EndpointError: a malformed URL or key.
        """
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
            # Checked here, because a later error of another library would show it.
            if not (api_key.isascii() and api_key.isprintable() and api_key and " " not in api_key):
                raise EndpointError("bad_request", "the API key is empty, or holds spaces or odd characters")
            headers["Authorization"] = f"Bearer {api_key}"
        return cls(parsed, headers, retries, pause)

    @property
    def shown(self) -> str:
        """Address of the endpoint without a password."""
        return str(self.url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")

    def fetch(self, route: str, kind: type[Body]) -> Exchange[Body]:
        """Fetches the endpoint's description of itself."""
        response = yield from self._ask("GET", route)
        return self._read(response, kind)

    def predict(self, source: Source, data: bytes) -> Exchange[Answer | Failure]:
        """Classifies one image."""
        response = yield from self._ask("POST", "v1/predict", Load.image(source, data))
        name = name_of(source)
        if response.status_code != 200:
            return Failure(name=name, problem=problem_of(response))
        return self._only(self._read(response, Predictions).results).model_copy(update={"name": name})

    def explain(self, source: Source, data: bytes) -> Exchange[Explanation | Failure]:
        """Classifies one image and fetches its heat map."""
        response = yield from self._ask("POST", "v1/explain", Load.image(source, data))
        name = name_of(source)
        if response.status_code != 200:
            return Failure(name=name, problem=problem_of(response))
        return self._only(self._read(response, Explanations).results).model_copy(update={"name": name})

    def study(self, files: Sequence[tuple[str, bytes]], *, one_patient: bool, sheet: bool) -> Exchange[Study]:
        """Has the files of a study answered by series and patient."""
        words = {"one_patient": str(one_patient).lower(), "contact_sheet": str(sheet).lower()}
        load = Load("the study", {"files": [("file", file) for file in files], "params": words})
        response = yield from self._ask("POST", "v1/studies", load)
        if response.status_code != 200:
            raise self._error(response)
        return self._read(response, Study)

    def ready(self) -> Exchange[bool]:
        """Asks once whether the endpoint would answer images now."""
        outcome = yield self._request("GET", "readyz")
        if not isinstance(outcome, httpx.Response) or outcome.status_code in (*RETRIED, 504):
            return False
        if outcome.status_code != 200:
            raise self._error(outcome)
        self._read(outcome, Health)
        return True

    def _ask(self, method: str, route: str, load: "Load | None" = None) -> Exchange[httpx.Response]:
        """Sends a request until there is a final answer, with at most `retries` retries.

        An image that may have ended its replica is sent once more, and only when the endpoint reports that it
        is ready: otherwise it could end one replica after another.
        """
        attempt, was_lost = 0, False
        while True:
            outcome = yield self._request(method, route, load)
            if isinstance(outcome, httpx.Response):
                status = outcome.status_code
                if status == 200 or (load is not None and status in ABOUT_THE_IMAGE):
                    return outcome
            if not is_passing(outcome) or attempt == self.retries:
                raise self._error(outcome)
            is_lost = load is not None and may_end_replicas(outcome)
            if load is not None and is_lost and was_lost:
                error = self._error(outcome)
                detail = f"{error.detail}; lost twice while it had {load.name}"
                raise EndpointError(error.code, detail, error.status)
            yield self.pause(attempt, outcome)
            attempt += 1
            while is_lost and not (yield from self.ready()):
                if attempt == self.retries:
                    raise self._error(outcome)
                yield self.pause(attempt, outcome)
                attempt += 1
            was_lost = was_lost or is_lost

    def _request(self, method: str, route: str, load: "Load | None" = None) -> httpx.Request:
        parts = {} if load is None else load.parts
        headers = self.headers | parts.get("headers", {})
        return httpx.Request(method, self.url.join(route), **{**parts, "headers": headers})

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

    def _only(self, results: list[Result]) -> Result:
        if len(results) != 1:
            raise EndpointError(
                "unexpected_answer", f"{self.shown}: found {len(results)} results, sent one image", 200
            )
        return results[0]

    def _error(self, outcome: Outcome) -> EndpointError:
        if isinstance(outcome, httpx.Response):
            problem = problem_of(outcome)
            return EndpointError(problem.code, f"{self.shown}: {problem.detail}", problem.status)
        if isinstance(outcome, httpx.TimeoutException) and is_sent(outcome):
            return EndpointError("timeout", f"{self.shown} does not answer in time")
        reason = str(outcome) or type(outcome).__name__
        return EndpointError("unreachable", f"{self.shown} cannot be reached: {reason}")
