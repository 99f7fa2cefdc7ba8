"""Ray's Jobs API: the cluster's address, and a client with time-outs."""

import logging
import os
import re
from typing import Any

import requests  # what Ray's own client uses: the same proxies and certificates
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from brain_ray.checks.dashboard import connection_reason
from brain_ray.errors import RunError
from brain_ray.storage import refuse_keys

DEFAULT_ADDRESS = "http://127.0.0.1:8265"


REQUEST_TIMEOUT_S = 60.0
"""Seconds that a request may take: the cluster may have to start an agent first."""

VARIABLE = "RAY_API_SERVER_ADDRESS"


def find_address(given: str | None = None) -> str:
    """Returns the URL to which jobs are submitted: the given one, else the environment's, else this
    machine's.

    Raises:
        RunError: it is not an HTTP URL, or contains a user name or key (it is printed in many lines).
    """
    named = os.environ.get("RAY_ADDRESS", "")
    by_http = named if named.startswith(("http://", "https://")) else ""
    address = (given or os.environ.get(VARIABLE) or by_http or DEFAULT_ADDRESS).rstrip("/")
    try:
        refuse_keys(address)
    except RunError as error:
        raise RunError(f"the cluster's address is {error}") from error
    if "://" not in address:
        address = f"http://{address}"
    if not address.startswith(("http://", "https://")):
        raise RunError(f"jobs are not submitted to {address}: expected http://HEAD:8265, Ray's dashboard")
    return address


class JobsClient(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client of the Jobs API, with a time-out for each request."""

    def _do_request(self, method: str, endpoint: str, **given: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=REQUEST_TIMEOUT_S, **given)


def open_client(address: str) -> JobsClient:
    """Returns a client for a cluster whose dashboard has answered before.

    Raises:
        RunError: it does not answer any more.
    """
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ[VARIABLE] = address  # before which Ray's client would prefer what stands in the environment
    try:
        return JobsClient(address)
    except FAILURES as error:
        raise RunError(f"cannot reach {address}: {explain(error)}") from error


FAILURES = (requests.RequestException, OSError, RuntimeError, AuthenticationError)
"""Errors that Ray's client raises: connections, time-outs, refusals, and errors of the server."""


def explain(error: BaseException) -> str:
    """Returns one of `FAILURES` as one line: of a server's trace, the last line."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {REQUEST_TIMEOUT_S:.0f} s"
    if isinstance(error, requests.ConnectionError):
        return connection_reason(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
    said = lines[-1] if lines else type(error).__name__
    said = re.sub(r"^Request failed with status code \d+: ", "", said)
    return re.sub(r"^(\w+\.)*\w*(Error|Exception): ", "", said).rstrip(".")
