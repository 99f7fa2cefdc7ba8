"""Jobs on a cluster of their own that wants a token: how they end, and what is said where they cannot run."""

import os
import pty
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import psutil
import pytest
import requests
from support.jobs import environment_of, free_port, wait_for
from support.ray_cluster import LASTING

from brain_ray.data.phantoms.files import draw

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
SUBMIT = [sys.executable, str(ROOT / "jobs" / "submit.py")]
SMALL = ("--data.phantoms.train-per-class", "6", "--data.phantoms.test-per-class", "4")
SMALL += ("--data.phantoms.copies", "0", "--data.phantoms.conflicts", "0", "--data.phantoms.faults", "0")
BEGUN = "prepare\n"
"""What a job's log ends with when it has come to its stage."""

CURE = "copy ~/.ray/auth_token from the head node"


@dataclass(frozen=True)
class Head:
    """A head node in processes of its own."""

    home: Path
    url: str
    address: str
    token: str

    def environment(self, **changed: str) -> dict[str, str]:
        """Environment variables of somebody at home there, who has the token."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return environment_of(self.home, **{"PATH": path, **changed})

    def ask(self, method: str, path: str) -> Any:
        """Ask the Jobs API, without Ray's client."""
        headers = {"authorization": f"Bearer {self.token}"}
        answer = requests.request(method, f"{self.url}/api/jobs/{path}", headers=headers, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def log(self, job: str) -> str:
        """Return a job's log as the cluster has it."""
        return str(self.ask("GET", f"{job}/logs")["logs"])

    def submit(self, *words: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        """Run jobs/submit.py to its end."""
        return subprocess.run(
            [*SUBMIT, "--address", self.url, *words],
            env=self.environment(**changed),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Start a head node with two CPUs and a token; end all its processes afterwards."""
    place = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))  # sockets have short paths
    home = place / "home"
    (home / ".ray").mkdir(parents=True)
    token = secrets.token_hex(16)
    (home / ".ray" / "auth_token").write_text(token)
    port, dashboard, agent, metrics = (str(free_port()) for _ in range(4))
    started = Head(home, f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", token)
    options = ("--num-cpus", "2", "--temp-dir", str(place / "t"), "--port", port, "--disable-usage-stats")
    ports = ("--dashboard-port", dashboard, "--dashboard-agent-listen-port", agent)
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            ["ray", "start", "--head", "--block", *options, *ports, "--metrics-export-port", metrics],
            env=started.environment(**LASTING),
            cwd=home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: answers(started), 60)
        yield started
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        end_all_of(home)
        shutil.rmtree(place, ignore_errors=True)


def answers(head: Head) -> bool:
    try:
        return head.ask("GET", "") == []
    except requests.ConnectionError:
        return False


def end_all_of(home: Path) -> None:
    """Kill what was started in a home folder, Ray's workers and their jobs."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME") == str(home):
                process.kill()
        except psutil.Error:
            continue


class CuttingProxy:
    """Passes connections on to a server, and cuts those of a log after so many bytes, one after the other."""

    def __init__(self, url: str, cuts: Sequence[int], *, then_close: bool = False) -> None:
        self._upstream = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._cuts, self._then_close = list(cuts), then_close
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.number_cut = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        asked = client.recv(65536)
        cut = self._cuts.pop(0) if b"/logs/tail" in asked and self._cuts else None
        server = socket.create_connection(self._upstream)
        server.sendall(asked)
        threading.Thread(target=self._pump, args=(client, server, None), daemon=True).start()
        self._pump(server, client, cut)

    def _pump(self, source: socket.socket, target: socket.socket, cut: int | None) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                passed += len(data)
                if cut is not None and passed > cut:
                    target.sendall(data[: len(data) - (passed - cut)])
                    self.number_cut += 1
                    if self._then_close and not self._cuts:
                        self.close()
                    break
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # which ends a waiting accept too
        self._server.close()


def test_a_job_succeeds_and_its_log_is_whole_over_broken_connections(head: Head, tmp_path: Path) -> None:
    proxy = CuttingProxy(head.url, [300, 900, 1800, 2500])
    words = ("prepare", "smoke", *SMALL, "--storage", str(tmp_path), "--name", "whole", "--id", "whole")
    done = head.submit(*words, "--address", proxy.url)
    proxy.close()
    assert done.returncode == 0, done.stderr
    assert proxy.number_cut >= 2  # as many as the job's seconds leave room for
    assert done.stdout == head.log("whole")
    assert re.search(r"prepare: \d+ s, ", done.stdout)
    said = done.stderr.splitlines()
    assert said[0].startswith(f"warning  storage        {tmp_path} is a path on the cluster's machines")
    assert said[1:3] == [
        "job whole: the image has what is needed",
        f"job whole: submitted to {proxy.url}",
    ]
    broken = [line for line in said if line.startswith("the connection to the log broke (")]
    assert len(broken) >= 1
    assert re.fullmatch(r"job whole: succeeded after \d+ s", said[-1])
    assert len(said) == 4 + len(broken)
    shown = head.ask("GET", "whole")
    assert shown["metadata"].items() >= {"job": "prepare", "run": "whole", "recipe": "smoke"}.items()


@pytest.mark.thorough
def test_the_plain_ray_command_does_the_same(head: Head, tmp_path: Path) -> None:
    job = ("python", "jobs/prepare.py", "smoke", *SMALL, "--storage", str(tmp_path))
    done = subprocess.run(
        ["ray", "job", "submit", "--address", head.url, "--working-dir", ".", "--", *job],
        env=head.environment(RAY_AUTH_MODE="token"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert (tmp_path / "smoke" / "dataset" / "stage.json").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, f"wants a token, and there is none here: {CURE}"),
        (
            {"RAY_AUTH_TOKEN": "wrong"},
            f"refuses the token of RAY_AUTH_TOKEN, which is another cluster's: {CURE}",
        ),
    ],
)
def test_without_the_right_token_a_line_says_where_to_get_it(
    head: Head, tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    """By jobs/submit.py, and by another job, which uses ray.init."""
    control = [sys.executable, str(ROOT / "jobs" / "control.py"), "first", "status"]
    before = time.monotonic()
    started = [
        subprocess.Popen(
            words,
            env=head.environment(HOME=str(tmp_path), **changed, **more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words, more in (
            ([*SUBMIT, "--address", head.url, "prepare", "smoke"], {}),
            (control, {"RAY_ADDRESS": head.address}),
        )
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert said in errors
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        assert "wrong" not in errors
    assert time.monotonic() - before < 30


def test_the_right_token_is_found_by_ray_init_too(head: Head) -> None:
    code = (
        "from brain_ray.cluster import capacity, connection, tokens\n"
        "connection.join(); print(tokens.find_token(), capacity.cpus())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=head.environment(RAY_ADDRESS=head.address),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("~/.ray/auth_token 2\n", "")


def test_no_cluster_is_one_line(head: Head) -> None:
    done = head.submit("prepare", "smoke", "--address", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "nothing answers at http://127.0.0.1:" in done.stderr
    assert "(connection refused): start the cluster" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.thorough
def test_an_id_is_given_once_and_a_detached_job_is_followed_to_its_failure_or_until_its_cluster_is_gone(
    head: Head,
) -> None:
    words = ("predict", "--environment", "image", "--detach", "--id", "once")
    done = head.submit(*words)
    assert (done.returncode, done.stdout) == (0, "once\n")
    assert f"python jobs/submit.py --follow once --address {head.url}" in done.stderr
    assert f"RAY_AUTH_MODE=token ray job stop once --address {head.url}" in done.stderr
    again = head.submit(*words)
    assert again.returncode == 1
    assert re.match(r"error: there is a job once \(\w+\): give another --id, or follow it", again.stderr)
    assert again.stderr.count("\n") == 1
    followed = head.submit("--follow", "once")
    assert followed.returncode == 2
    assert followed.stdout == head.log("once")
    assert followed.stdout.splitlines()[-1] == "error: the following arguments are required: FILES"
    assert re.search(r"failed with exit code 2 after \d+ s\n$", followed.stderr)
    unknown = head.submit("--follow", "never")
    assert (unknown.returncode, unknown.stderr) == (1, "error: Job never does not exist\n")

    proxy = CuttingProxy(head.url, [300], then_close=True)
    code = (
        "from brain_ray.submission import log_follower, submit; log_follower.GIVE_UP_S = 2.0\n"
        f"raise SystemExit(submit.main('', ['--follow', 'once', '--address', {proxy.url!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=head.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    broken, given_up = done.stderr.splitlines()
    assert broken.startswith("the connection to the log broke (")
    assert given_up.startswith(
        "error: the cluster has not answered for 3 s (connection refused): job once ends"
    )
    assert given_up.endswith(f"python jobs/submit.py --follow once --address {proxy.url}")


@pytest.fixture(scope="module")
def many_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that takes a job long to prepare, and no time to make: each class is one file, 6000 times."""
    folder = tmp_path_factory.mktemp("images")
    for kind in ("glioma", "meningioma", "notumor", "pituitary"):
        place = folder / "Training" / kind
        place.mkdir(parents=True)
        first = place / "0.png"
        first.write_bytes(cv2.imencode(".png", draw(kind, 5, 0))[1].tobytes())
        for number in range(1, 6000):
            (place / f"{number}.png").hardlink_to(first)
    return folder


def on_terminal(head: Head, words: Sequence[str], sign: str, answer: str) -> tuple[int, str]:
    """Run jobs/submit.py on a terminal; press Ctrl-C at a sign, and answer. Returns exit code and output."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which what runs in the background ignores
        os.execve(sys.executable, [*SUBMIT, "--address", head.url, *words], head.environment())
    said, read = "", b""
    typed = [(sign, "\x03"), ("[y/N] ", answer)]
    while True:
        try:
            read += os.read(terminal, 65536)
        except OSError:  # the terminal's other end is closed
            break
        said = read.decode(errors="replace").replace("\r\n", "\n")  # of which two reads may each have one
        if typed and typed[0][0] in said:
            os.write(terminal, typed.pop(0)[1].encode())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.removesuffix("\x1b[0m")  # Ray's last word


def test_ctrl_c_asks_and_leaves_the_job_or_stops_it_for_all_who_follow(
    head: Head, many_images: Path, tmp_path: Path
) -> None:
    places = ("--data.source", str(many_images), "--storage", str(tmp_path))
    words = ("prepare", "smoke", *places, "--environment", "image", "--id", "asked")
    code, said = on_terminal(head, words, BEGUN, "\n")
    assert code == 130
    assert said.endswith(
        f"goes on; to follow it: python jobs/submit.py --follow asked --address {head.url}\n"
    )
    assert head.ask("GET", "asked")["status"] == "RUNNING"

    # For whoever else follows it, the job is stopped from outside.
    other = subprocess.Popen(
        [*SUBMIT, "--address", head.url, "--follow", "asked"],
        env=head.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    code, said = on_terminal(head, ("--follow", "asked"), BEGUN, "y\n")
    assert code == 130
    assert "error: interrupted; the same command goes on from here\n" in said
    assert re.search(r"job asked: stopped after \d+ s\n$", said)
    assert head.ask("GET", "asked")["status"] == "STOPPED"
    heard, errors = other.communicate(timeout=60)
    assert other.returncode == 130
    assert heard == head.log("asked")
    assert heard.rstrip().endswith("error: interrupted; the same command goes on from here")
    assert re.search(r"job asked: stopped after \d+ s\n$", errors)
