"""Checks that a cluster's dashboard answers and accepts this machine's token."""

import re

import ray
import requests  # what Ray's own client uses: the same proxies and certificates

from brain_ray.checks.finding import Finding
from brain_ray.cluster import private, tokens

DASHBOARD_TIMEOUT_S = 5.0
"""Seconds that the dashboard may take to answer."""


def _get_version(address: str, headers: dict[str, str]) -> requests.Response:
    return requests.get(f"{address}/api/version", headers=headers, timeout=DASHBOARD_TIMEOUT_S)


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


def connection_reason(error: BaseException) -> str:
    """Returns the operating system's reason for a failed connection."""
    found = re.search(
        r"\[Errno -?\d+\] ([\w ,]+)|(timed out|Remote end closed connection|certificate \w+ failed)",
        str(error),
    )
    return (found[1] or found[2]).lower() if found else type(error).__name__


def check_dashboard(address: str) -> list[Finding]:
    """Asks a cluster's dashboard for its Ray version; the token is sent only after it was requested.

    Returns the findings `dashboard`, `token` and `ray version`; none after the first error.
    """
    try:
        answer = _get_version(address, {})
        token = Finding("token", "ok", f"not asked for: whoever reaches {address} can run code on it")
        if answer.status_code == 401:
            tokens.use_token()
            where = tokens.find_token()
            token = Finding("token", "ok", f"that of {where} is the cluster's")
            answer = _get_version(address, private.token_headers() if where else {})
        if answer.status_code in (401, 403):
            refused = Finding("token", "error", *tokens.explain_refusal(address))
            return [Finding("dashboard", "ok", f"answers at {address}"), refused]
        theirs = str(answer.json()["ray_version"]) if answer.ok else ""
    except requests.ConnectionError as error:
        return [_unreachable(address, connection_reason(error))]
    except requests.Timeout:
        return [_unreachable(address, f"no answer within {DASHBOARD_TIMEOUT_S:.0f} s")]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        theirs = ""
    if not theirs:
        text = f"what answers at {address} is not Ray's dashboard"
        return [
            Finding("dashboard", "error", text, "give its address, http://HEAD:8265 unless set otherwise")
        ]
    return [Finding("dashboard", "ok", f"answers at {address}"), token, _compare(theirs)]
