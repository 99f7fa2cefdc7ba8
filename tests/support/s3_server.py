"""An S3 server in a process of its own: what a user has with MinIO, Ceph or AWS."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from support.busy_s3 import AGAIN, CALLS
from support.jobs import free_port

KEYS = {
    "AWS_ACCESS_KEY_ID": "some-key",
    "AWS_SECRET_ACCESS_KEY": "some-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Environment of whoever reads and writes; the last spares a look for keys that a machine of AWS has."""

START_S = 60.0
"""In which the server answers."""


class Call(NamedTuple):
    """What Arrow has asked a server for."""

    name: str
    """Method, bucket and key: `GET /images/a.png`; of a listing, `LIST` and what is listed."""
    refused: bool


@dataclass(frozen=True)
class Server:
    """A server whose buckets are gone with it."""

    url: str

    @property
    def query(self) -> str:
        """What names it in a URI, after the question mark."""
        return f"endpoint_override={self.url.removeprefix('http://')}&scheme=http"

    def buckets(self) -> str:
        """The list of the buckets, XML."""
        return httpx.get(self.url).text

    def objects(self, bucket: str) -> list[str]:
        """The keys of a bucket's objects; those that stand for folders end in a slash."""
        return re.findall("<Key>(.*?)</Key>", httpx.get(f"{self.url}/{bucket}").text)

    def calls(self) -> list[Call]:
        """What it was asked for, if it counts calls."""
        return [Call(*each) for each in httpx.get(self.url + CALLS).json()]

    def refuse_first_again(self) -> None:
        """Have it refuse first calls once more."""
        httpx.get(self.url + AGAIN).raise_for_status()

    @contextmanager
    def refusing_keys(self) -> Iterator[None]:
        """Know none of the keys for the while."""
        self._let_in("0")
        try:
            yield
        finally:
            self._let_in("inf")

    def _let_in(self, requests: str) -> None:
        httpx.post(f"{self.url}/moto-api/reset-auth", content=requests.encode()).raise_for_status()


@contextmanager
def s3_server(
    *buckets: str, refuse_every: int | None = None, refuse_first: str | None = None
) -> Iterator[Server]:
    """Lend a server with some buckets, and give this process the keys and the address of it.

    If told so, it counts calls, and refuses every so-many-th, or the first by each name that fits a pattern.
    """
    port = free_port()
    server = Server(f"http://127.0.0.1:{port}")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    if refuse_every or refuse_first:
        busy = str(Path(__file__).with_name("busy_s3.py"))
        command = [sys.executable, busy, str(port), str(refuse_every or 0), refuse_first or "$^"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(server, process)
        for bucket in buckets:
            httpx.put(f"{server.url}/{bucket}").raise_for_status()
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url}.items():
                patch.setenv(name, value)
            yield server
    finally:
        process.kill()
        process.wait()


def _wait(server: Server, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            httpx.get(server.url)
            return
        except httpx.TransportError:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < end, f"no answer within {START_S:g} s"
            time.sleep(0.1)
