"""Two endpoints on a machine keep out of each other's way."""

import random
import socket
from pathlib import Path

import pytest

from brain_ray.serving.proxy import PORTS, proxy_settings

FIRST, LAST = "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"


def test_replicas_of_two_endpoints_share_no_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that comes too late for a replica that died must not be answered by another model."""
    monkeypatch.setattr(random, "shuffle", lambda _: None)
    one = proxy_settings(tmp_path)
    assert int(one[LAST]) - int(one[FIRST]) == PORTS - 1
    with socket.socket() as replica:
        replica.bind(("127.0.0.1", int(one[FIRST])))
        other = proxy_settings(tmp_path)
    assert int(other[FIRST]) > int(one[LAST])
