"""Retries of a client: whether it sends a request again, and after how many seconds."""

import email.utils
import random
import time
from collections.abc import Callable

import httpx
from pydantic import ValidationError

from brain_ray.serving.schemas import Problem

Outcome = httpx.Response | httpx.RequestError | None
"""Outcome of a request; None after a pause."""

Pause = Callable[[int, Outcome], float]
"""Function of the number of retries so far and the last outcome; returns the seconds to wait before the next
retry."""

RETRIED = (408, 429, 502, 503)
"""Statuses after which a retry of the same request may succeed."""

FIRST_WAIT_S = 0.25
"""Seconds before the first retry; doubled for each further one."""

LONGEST_WAIT_S = 30.0
"""Largest number of seconds before any retry, whatever the endpoint asks for."""


def is_sent(outcome: Outcome) -> bool:
    """Returns whether an endpoint may have received a request that it did not answer."""
    return not isinstance(outcome, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)


def is_passing(outcome: Outcome) -> bool:
    """Returns whether a retry may help; after a time-out it would take as long, and load the endpoint."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in RETRIED
    if isinstance(outcome, httpx.TimeoutException):
        return not is_sent(outcome)
    return isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ProxyError)


def may_end_replicas(outcome: Outcome) -> bool:
    """Returns whether a replica may have died of a request: no answer, or one in the replica's place."""
    if not isinstance(outcome, httpx.Response):
        return is_sent(outcome)
    return outcome.status_code == 502 or (
        outcome.status_code == 503 and problem_of(outcome).code != "queue_full"
    )


def pause_s(attempt: int, outcome: Outcome) -> float:
    """Returns the seconds to wait: those that the endpoint asks for, else a doubling time, spread at
    random."""
    asked = (
        _retry_after(outcome.headers.get("Retry-After", "")) if isinstance(outcome, httpx.Response) else 0.0
    )
    backoff = FIRST_WAIT_S * 2.0**attempt * random.uniform(0.5, 1.5)
    return min(LONGEST_WAIT_S, max(asked, backoff))


def _retry_after(value: str) -> float:
    """Parses seconds or a date (RFC 9110, 10.2.3)."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return float(email.utils.parsedate_to_datetime(value).timestamp()) - time.time()
    except ValueError:
        return 0.0


def problem_of(response: httpx.Response) -> Problem:
    """Returns the problem in a response; a server in front of the endpoint may use another format."""
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
