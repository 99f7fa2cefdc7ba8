"""What the job that classifies files says about its own words: doubles, keys, addresses, folders of runs."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path

import pytest

from brain_ray.bundle.bundle import BundleError, load_bundle
from brain_ray.serving import predict, serve
from brain_ray.serving.answers import rounded
from brain_ray.serving.client.files import watch_doubles


class Slow(BaseHTTPRequestHandler):
    """An endpoint that answers when it is told to, with an error about the image."""

    may = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.may.wait(60)
        told = {"type": "x", "title": "t", "status": 400, "code": "no", "detail": "not this one"}
        body = json.dumps(told).encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Opening(StringIO):
    """A standard error whose first line lets the endpoint answer."""

    def write(self, text: str) -> int:
        Slow.may.set()
        return super().write(text)


def test_the_wait_for_a_silent_endpoint_is_spoken_of_and_it_needs_no_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = Opening()
    monkeypatch.setattr(sys, "stderr", heard)
    (tmp_path / "a.png").write_bytes(b"x")
    with HTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        assert predict.run("", ["--url", address, str(tmp_path / "a.png")], silence_s=0.1) == 1
        server.shutdown()
    assert heard.getvalue() == f"waiting for http://{address} to answer\n"
    assert "error: not this one (no)" in capsys.readouterr().out


def test_files_that_are_no_images_are_passed_over_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(7):
        (tmp_path / f"{number}.txt").write_text("x")
    assert predict.run("", ["--url", "127.0.0.1:9", str(tmp_path)]) == 1
    names = ", ".join(f"{tmp_path}/{number}.txt" for number in range(5))
    out, err = capsys.readouterr()
    assert out == f"7 files passed over, no images: {names} and 2 more\n"
    assert err == f"error: no image in {tmp_path}\n"


def test_what_lies_in_a_folder_named_before_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mri" / "deep").mkdir(parents=True)
    words = [str(tmp_path / name) for name in ("mri", "mri/a.png", "mri/deep", "mri/deep/b.png")]
    listed = [f"{word}\n" for word in words]
    assert list(watch_doubles(listed, set())) == listed
    heard = capsys.readouterr().err
    assert heard.startswith(f"warning: {tmp_path}/mri/a.png is in a folder that was named before it")
    assert heard.count("\n") == 1
    others = [str(tmp_path / name) for name in ("mri/deep", "mri/a.png", "-")]
    assert list(watch_doubles(others, set())) == others
    assert not capsys.readouterr().err


def test_a_file_with_several_keys_is_none_to_ask_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys.txt").write_text("hidden-one\nhidden-two\n")
    words = ["--url", "http://127.0.0.1:9", "--api-key-file", str(tmp_path / "keys.txt"), "a.png"]
    assert predict.run("", words) == 1
    heard = capsys.readouterr().err
    assert heard == f"error: {tmp_path}/keys.txt holds 2 lines: expected one API key, alone in its file\n"


@pytest.mark.parametrize(
    ("confidence", "shown"), [(0.999982, ">0.9999"), (1.0, "1.0000"), (0.99994, "0.9999"), (0.5, "0.5000")]
)
def test_a_confidence_is_not_rounded_up_to_certainty(confidence: float, shown: str) -> None:
    assert rounded(confidence) == shown


def test_a_run_s_folder_for_its_bundle(tmp_path: Path) -> None:
    (tmp_path / "smoke" / "bundle").mkdir(parents=True)
    with pytest.raises(BundleError, match=r"no bundle at .*/smoke: expected a folder with bundle\.json$"):
        load_bundle(tmp_path / "smoke")
    (tmp_path / "smoke" / "bundle" / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match=r"; did you mean .*/smoke/bundle\?$"):
        load_bundle(tmp_path / "smoke")


def test_the_page_s_address_is_one_that_a_browser_can_open() -> None:
    assert [serve.browser_host(host) for host in ("0.0.0.0", "::", "10.0.0.7", "::1")] == [
        "127.0.0.1",
        "[::1]",
        "10.0.0.7",
        "[::1]",
    ]
