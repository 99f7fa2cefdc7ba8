"""Whether a client tries a request again, and after how many seconds."""

import email.utils
import random
import time
from collections.abc import Callable

import httpx
from pydantic import ValidationError

from brain_ray.serving.schemas import Problem

Heard = httpx.Response | httpx.RequestError | None
"""What came of a request; None after a pause."""

Pause = Callable[[int, Heard], float]
"""Seconds to wait before a retry, by the number of retries before it and what came of the last request."""

RETRIED = (408, 429, 502, 503)
"""Statuses that the same request may not get a second time."""

FIRST_WAIT_S = 0.25
"""Before the first retry; doubled for each further one."""

LONGEST_WAIT_S = 30.0
"""Before any retry, whatever the endpoint asks for."""


def is_sent(heard: Heard) -> bool:
    """Tells whether an endpoint may have got a request that it did not answer."""
    return not isinstance(heard, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)


def is_passing(heard: Heard) -> bool:
    """Tells whether trying again may help; what took too long would take so again, and load the endpoint."""
    if isinstance(heard, httpx.Response):
        return heard.status_code in RETRIED
    if isinstance(heard, httpx.TimeoutException):
        return not is_sent(heard)
    return isinstance(heard, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ProxyError)


def may_end_replicas(heard: Heard) -> bool:
    """Tells whether a replica may have died of a request: no answer, or one in the replica's place."""
    if not isinstance(heard, httpx.Response):
        return is_sent(heard)
    return heard.status_code == 502 or (heard.status_code == 503 and problem_of(heard).code != "queue_full")


def pause_s(attempt: int, heard: Heard) -> float:
    """Returns the seconds to wait: what the endpoint asks for, else a doubling time, spread at random."""
    asked = _retry_after(heard.headers.get("Retry-After", "")) if isinstance(heard, httpx.Response) else 0.0
    backoff = FIRST_WAIT_S * 2.0**attempt * random.uniform(0.5, 1.5)
    return min(LONGEST_WAIT_S, max(asked, backoff))


def _retry_after(value: str) -> float:
    """Reads seconds or a date (RFC 9110, 10.2.3)."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return float(email.utils.parsedate_to_datetime(value).timestamp()) - time.time()
    except ValueError:
        return 0.0


def problem_of(response: httpx.Response) -> Problem:
    """Returns what a response says is wrong; what stands before the endpoint may say it in its own way."""
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
