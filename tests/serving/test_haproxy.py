"""The proxy: two endpoints on a machine keep out of each other's way, and what it does with bad requests."""

import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest
from support.endpoint import PNG, SERVE, picture
from support.jobs import environment_of, free_port, wait_for
from support.ray_cluster import nodes_of

from brain_ray import jobs
from brain_ray.serving.haproxy import PORTS, proxy_settings
from brain_ray.serving.security import CLIENT_HEADER

FALLBACK = "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"
FIRST, LAST = "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"


def ports(folder: Path) -> set[int]:
    settings = proxy_settings(folder, shuffle=lambda starts: None)
    return {int(settings[FALLBACK]), *range(int(settings[FIRST]), int(settings[LAST]) + 1)}


def test_two_endpoints_share_no_port(tmp_path: Path) -> None:
    """A request that finds no replica of its own must not be answered by another endpoint's model."""
    one = ports(tmp_path)
    assert len(one) == PORTS
    with socket.socket() as taken:  # as Serve's own proxy takes it
        taken.bind(("127.0.0.1", min(one)))
        other = ports(tmp_path)
    assert len(other) == PORTS
    assert not one & other


RENDER = """
import sys
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve._private.haproxy import get_haproxy_binary
from ray.serve.config import HTTPOptions
port, *servers = map(int, sys.argv[1:])
config = HAProxyConfig(http_options=HTTPOptions(host="127.0.0.1", port=port))
listed = [ServerConfig(f"s{server}", "127.0.0.1", server) for server in servers]
api = HAProxyApi(config, {"app": BackendConfig(name="app", path_prefix="/", app_name="app", servers=listed)})
api._generate_config_file_internal()
print(get_haproxy_binary(), api.config_file_path)
"""
"""Writes HAProxy's configuration as Ray Serve does."""


class Mortal(threading.Thread):
    """A replica that is sound until a request comes, and hangs up without an answer then."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.start()

    def run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with closing(connection):
                    asked = connection.recv(65_536)
                    if b"/-/healthz" in asked:
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    else:
                        self.requests.append(asked)


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[int, list[Mortal]]]:
    """A proxy's port, and the replicas behind it; seconds are shorter than in earnest."""
    replicas = [Mortal() for _ in range(4)]
    with tempfile.TemporaryDirectory(prefix="br-", dir="/tmp") as name:
        settings = proxy_settings(Path(name), client_s=6, headers_s=2)
        port = free_port()
        told = subprocess.run(
            [sys.executable, "-c", RENDER, str(port), *(str(replica.port) for replica in replicas)],
            env=environment_of(name, **settings),
            capture_output=True,
            text=True,
            check=True,
        )
        binary, config = told.stdout.split()
        subprocess.run([binary, "-c", "-f", config], check=True, capture_output=True)
        running = subprocess.Popen([binary, "-db", "-f", config], stderr=subprocess.DEVNULL)

        def listens() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            return False

        try:
            wait_for(listens, 20)
            yield port, replicas
        finally:
            running.terminate()
            running.wait()
            for replica in replicas:
                replica.listener.close()


@pytest.mark.parametrize("is_apart", [False, True], ids=["in one packet", "body after the header"])
def test_a_request_that_ends_its_replica_is_carried_to_no_other(
    proxied: tuple[int, list[Mortal]], is_apart: bool
) -> None:
    port, replicas = proxied
    for replica in replicas:
        replica.requests.clear()
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 283\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        for sent in (head, bytes(283)) if is_apart else (head + bytes(283),):
            client.sendall(sent)
            time.sleep(0.05)
        assert client.recv(100).startswith(b"HTTP/1.1 5")
    assert sum(len(replica.requests) for replica in replicas) == 1


def test_a_replica_is_told_who_asks_last_in_a_header_that_clients_may_send_too(
    proxied: tuple[int, list[Mortal]],
) -> None:
    port, replicas = proxied
    for replica in replicas:
        replica.requests.clear()
    request = f"GET / HTTP/1.1\r\nHost: localhost\r\n{CLIENT_HEADER}: 192.0.2.1\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), 20, source_address=("127.0.0.9", 0)) as client:
        client.sendall(request)
        client.recv(100)
    (told,) = (one for replica in replicas for one in replica.requests)
    lines = told.decode().lower().splitlines()
    named = [line.partition(": ")[2] for line in lines if line.startswith(f"{CLIENT_HEADER.lower()}:")]
    assert named == ["192.0.2.1", "127.0.0.9"]


@pytest.mark.parametrize("goes_on", [False, True], ids=["and no more", "a byte at a time"])
def test_half_a_header_does_not_hold_a_connection(proxied: tuple[int, list[Mortal]], goes_on: bool) -> None:
    port, _ = proxied
    with socket.create_connection(("127.0.0.1", port), timeout=0.2) as client:
        client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nX-a: ")

        def is_ended() -> bool:
            try:
                if goes_on:
                    client.sendall(b"x")
                client.recv(100)  # what it is told, or that it is closed
                return True
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        wait_for(is_ended, 20)


def replica_is_up(folder: Path) -> bool:
    """Whether HAProxy's own checks reach the replica; of one machine that it runs on."""
    (admin,) = folder.rglob("admin.sock")
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(str(admin))
        asked.sendall(b"show servers state\n")
        lines = b"".join(iter(lambda: asked.recv(65_536), b"")).decode().splitlines()
    (replica,) = (line.split() for line in lines if "SERVE_REPLICA" in line)
    return replica[5] == "2"


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_replica_on_another_machine_answers(
    host: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated by two addresses of this machine: what listens on the one is not reached by the other. No
    variable of the cluster names the registry that the bundle is in: the job's does."""
    home, registry = tmp_path / "home", (tmp_path / "mlruns").as_uri()
    with monkeypatch.context() as here:
        here.setenv("MLFLOW_TRACKING_URI", registry)
        here.delenv("MLFLOW_REGISTRY_URI", raising=False)
        assert jobs.run("register", "register.py", ["--bundle", str(bundle), "--name", "brain-mr"]) == 0

    def deploy(port: int) -> str:
        where = ["--host", host, "--port", str(port)]
        command = [sys.executable, str(SERVE), "--bundle", "models:/brain-mr/1", *where]
        environment = environment_of(home, RAY_ADDRESS=nodes.address, MLFLOW_TRACKING_URI=registry)
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def answers() -> bool:
        with suppress(httpx.TransportError):
            url = f"http://127.0.0.1:{port}/v1/predict"
            return httpx.post(url, content=picture(), headers=PNG, timeout=30).status_code == 200
        return False

    with (
        tempfile.TemporaryDirectory(prefix="br-", dir="/tmp") as folder,
        nodes_of(home, **proxy_settings(Path(folder))) as nodes,
    ):
        nodes.add(2, "127.0.0.2")
        port = free_port()
        said = deploy(port)
        assert f"it listens on {host}:{port}\n" in said
        assert "that is where Ray Serve listened before" not in said
        warned = "HAProxy on the head node does not reach replicas on 1 other machines (127.0.0.2)" in said
        assert warned == (host == "127.0.0.1")
        wait_for(answers, 60)
        if warned:
            assert not replica_is_up(Path(folder))
            moved = deploy(free_port())
            assert f"it listens on {host}:{port}\n" in moved
            assert "that is where Ray Serve listened before" in moved
        else:
            wait_for(lambda: replica_is_up(Path(folder)), 60)
