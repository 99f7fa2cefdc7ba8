"""An endpoint in processes of its own, and a picture to send it."""

import re
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import httpx
import psutil
from support.jobs import ROOT, environment_of

from brain_ray.data.phantoms.files import draw

PNG = {"content-type": "image/png"}

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""What httpx `verify`s with where nothing is encrypted: else each client reads all certificates there are."""

Ask = Callable[..., httpx.Response]
"""Function that sends a request to the application in this process; `settings` are changed for it."""

SERVE = ROOT / "jobs" / "serve.py"


@dataclass(frozen=True)
class Running:
    """An endpoint in processes of its own."""

    url: str
    metrics: str
    process: subprocess.Popen[str]
    home: str

    @property
    def pids(self) -> list[int]:
        """Process ids of its replicas."""
        return [pid for pid, command in self._processes() if "ServeReplica" in command]

    def memory(self) -> int:
        """Bytes that its replicas hold, without their decoders."""
        return sum(psutil.Process(pid).memory_info().rss for pid in self.pids)

    @property
    def address(self) -> str:
        """Address of its Ray cluster."""
        found = [re.search(r"--gcs-address=(\S+)", command) for _, command in self._processes()]
        return next(match[1] for match in found if match)

    def _processes(self) -> Iterator[tuple[int, str]]:
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for child in children:
            try:
                yield child.pid, " ".join(child.cmdline())
            except psutil.Error:  # it has just ended
                continue


def start(bundle: Path, home: Path, *options: str, **environment: str) -> Running:
    """Start an endpoint on a free port and a Ray cluster of its own; wait until it answers.

    Its process group is its own.
    """
    command = [sys.executable, str(SERVE), "--bundle", str(bundle), "--port", "0", *options]
    process = subprocess.Popen(
        command,
        env=environment_of(home, RAY_ADDRESS="local", **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    metrics = ""
    for line in process.stdout:
        if line.startswith("metrics "):
            metrics = line.split()[1]
        if line.startswith("page "):
            return Running(line.split()[1].rstrip("/"), metrics, process, str(home))
    raise AssertionError(f"the endpoint did not start: {process.stderr.read()}")


def stop(running: Running) -> None:
    """End an endpoint as Ctrl-C does."""
    running.process.terminate()
    running.process.wait(60)


def ask_on(
    url: str, content: bytes, seconds: float, address: str = "127.0.0.1"
) -> tuple[list[float], Counter[int]]:
    """Send an image again and again, from an address of this machine; return how long each answer took in
    seconds, and all statuses."""
    waits: list[float] = []
    statuses: Counter[int] = Counter()
    end = time.monotonic() + seconds
    transport = httpx.HTTPTransport(local_address=address, verify=NO_TLS)
    with httpx.Client(base_url=url, timeout=90, transport=transport) as client:
        while (begin := time.monotonic()) < end:
            response = client.post("/v1/predict", content=content, headers=PNG)
            statuses[response.status_code] += 1
            if response.status_code == 200:
                waits.append(time.monotonic() - begin)
            time.sleep(0.1)
    return waits, statuses


@cache
def picture(kind: str = "glioma", index: int = 0, suffix: str = ".png") -> bytes:
    """Draw a phantom, as a file."""
    return cv2.imencode(suffix, draw(kind, 5, index))[1].tobytes()
