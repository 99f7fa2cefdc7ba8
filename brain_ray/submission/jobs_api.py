"""The way to a cluster's Jobs API: its address, the token it wants, and a client with time-outs."""

import logging
import os
import re
from typing import Any

import ray
import requests  # what Ray's own client uses: the same proxies and certificates
from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from brain_ray.checks.finding import Finding
from brain_ray.cluster import connection
from brain_ray.runs import RunError, refuse_keys

DEFAULT_ADDRESS = "http://127.0.0.1:8265"

ANSWER_S = 5.0
"""How long the dashboard may take to say that it is there."""

PATIENCE_S = 60.0
"""How long a request may take: the cluster may have to start an agent first."""

VARIABLE = "RAY_API_SERVER_ADDRESS"


def find_address(given: str | None = None) -> str:
    """Return the URL where jobs are submitted: as given, of the environment, else that of this machine.

    Raises:
        RunError: it is not one of HTTP, or holds a user's name or key: it is printed in many lines.
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


def check_dashboard(address: str) -> list[Finding]:
    """Ask a cluster's dashboard for its Ray version; a token is shown only to one that wants it.

    Returns findings `dashboard`, `token` and `ray version`; after an error, no others.
    """
    try:
        answer = _ask(address, {})
        token = Finding("token", "ok", f"not asked for: whoever reaches {address} can run code on it")
        if answer.status_code == 401:
            connection.use_token()
            where = connection.find_token()
            token = Finding("token", "ok", f"that of {where} is the cluster's")
            answer = _ask(address, get_auth_headers_if_auth_enabled({}) if where else {})
        if answer.status_code in (401, 403):
            refused = Finding("token", "error", *connection.explain_refusal(address))
            return [Finding("dashboard", "ok", f"answers at {address}"), refused]
        theirs = str(answer.json()["ray_version"]) if answer.ok else ""
    except requests.ConnectionError as error:
        return [_unreachable(address, _reason(error))]
    except requests.Timeout:
        return [_unreachable(address, f"no answer within {ANSWER_S:.0f} s")]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        theirs = ""
    if not theirs:
        text = f"what answers at {address} is not Ray's dashboard"
        return [
            Finding("dashboard", "error", text, "give its address, http://HEAD:8265 unless set otherwise")
        ]
    return [Finding("dashboard", "ok", f"answers at {address}"), token, _compare(theirs)]


def _ask(address: str, headers: dict[str, str]) -> requests.Response:
    return requests.get(f"{address}/api/version", headers=headers, timeout=ANSWER_S)


def _unreachable(address: str, reason: str) -> Finding:
    cure = "start the cluster, open a way to it (ray dashboard, kubectl port-forward), or give --address"
    return Finding("dashboard", "error", f"nothing answers at {address} ({reason})", cure)


def _compare(theirs: str) -> Finding:
    ours = ray.__version__
    if theirs == ours:
        return Finding("ray version", "ok", f"{ours}, there and here")
    text = f"the cluster runs Ray {theirs}, and here is {ours}"
    if theirs.split(".")[:2] == ours.split(".")[:2]:
        return Finding("ray version", "ok", text)
    cure = f"take an image with Ray {ours} for the cluster, such as rayproject/ray:{ours}-py311"
    return Finding("ray version", "error", text, cure)


class JobsClient(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client of the Jobs API, with a time-out for each request."""

    def _do_request(self, method: str, endpoint: str, **given: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=PATIENCE_S, **given)


def open_client(address: str) -> JobsClient:
    """Return a client for a cluster whose dashboard answers.

    Raises:
        RunError: it does no longer.
    """
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ[VARIABLE] = address  # before which Ray's client would prefer what stands in the environment
    try:
        return JobsClient(address)
    except FAILURES as error:
        raise RunError(f"cannot reach {address}: {explain(error)}") from error


FAILURES = (requests.RequestException, OSError, RuntimeError, AuthenticationError)
"""What Ray's client raises: connections, time-outs, refusals, and whatever the server says."""


def explain(error: BaseException) -> str:
    """Return what one of `FAILURES` says, in one line: of a server's trace, its last."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {PATIENCE_S:.0f} s"
    if isinstance(error, requests.ConnectionError):
        return _reason(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
    said = lines[-1] if lines else type(error).__name__
    said = re.sub(r"^Request failed with status code \d+: ", "", said)
    return re.sub(r"^(\w+\.)*\w*(Error|Exception): ", "", said).rstrip(".")


def _reason(error: BaseException) -> str:
    """Return the operating system's word for a connection that failed."""
    found = re.search(
        r"\[Errno -?\d+\] ([\w ,]+)|(timed out|Remote end closed connection|certificate \w+ failed)",
        str(error),
    )
    return (found[1] or found[2]).lower() if found else type(error).__name__
