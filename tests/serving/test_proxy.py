"""Two endpoints on a machine keep out of each other's way."""

import random
import socket
from pathlib import Path

import pytest

from brain_ray.serving.proxy import PORTS, proxy_settings

FALLBACK = "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"
FIRST, LAST = "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"


def ports(folder: Path) -> set[int]:
    settings = proxy_settings(folder)
    return {int(settings[FALLBACK]), *range(int(settings[FIRST]), int(settings[LAST]) + 1)}


def test_two_endpoints_share_no_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that finds no replica of its own must not be answered by another endpoint's model."""
    monkeypatch.setattr(random, "shuffle", lambda _: None)
    one = ports(tmp_path)
    assert len(one) == PORTS
    with socket.socket() as taken:  # as Serve's own proxy takes it
        taken.bind(("127.0.0.1", min(one)))
        other = ports(tmp_path)
    assert len(other) == PORTS
    assert not one & other
