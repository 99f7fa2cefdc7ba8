"""The job that classifies files: what it leaves behind, and what an endpoint can make it print."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.endpoint import picture
from support.jobs import ROOT, environment_of


def predict(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run jobs/predict.py as somebody at home in a folder, whose temporary folder is beside it."""
    temporary = home.parent / "tmp"
    for folder in (home, temporary):
        folder.mkdir(exist_ok=True)
    environment = environment_of(home, TMPDIR=str(temporary))
    environment.pop("ORT_DISABLE_TELEMETRY", None)  # this test's own process may have set it
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "predict.py"), *words],
        env=environment,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_prediction_leaves_no_file_behind(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    done = predict(tmp_path / "home", "--bundle", str(bundle), "a.png")
    assert (done.returncode, done.stderr) == (0, "")
    left = [path for folder in ("home", "tmp") for path in (tmp_path / folder).rglob("*")]
    assert not left, "of ONNX Runtime's telemetry, for one: a device id, a queue and a session"


class Hostile(http.server.BaseHTTPRequestHandler):
    """An endpoint whose errors hold what steers a terminal."""

    def do_POST(self) -> None:
        """Answer with a problem."""
        self.rfile.read(int(self.headers["content-length"]))
        told = {"code": "\x1b]0;owned\x07", "detail": "\x1b[2J\x9b31mred\r\nerror: fake"}
        body = json.dumps({"type": "x", "title": "t", "status": 500, **told}).encode()
        self.send_response(500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hostile() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Hostile) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_endpoint_s_error_is_one_line_without_escapes(hostile: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    done = predict(tmp_path / "home", "--url", hostile, "a.png")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr[:-1].isprintable()
    assert "[2J" in done.stderr
