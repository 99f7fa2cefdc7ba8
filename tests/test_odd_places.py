"""Machines on which Ray does not start by itself: spaces in paths, no home, a long temporary folder."""

import json
import os
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.jobs import ROOT, environment_of

from brain_ray.checks import nodes
from brain_ray.cluster import connection, tokens
from brain_ray.errors import RunError

NOWHERE = "/proc/none"
"""A folder that nobody can make, not even root."""

LOOK = """
import json, os, sys
from brain_ray.cluster import connection, tokens
import matplotlib
connection.connect()
import ray
from ray import data, serve

def where():
    return [sys.executable, os.environ.get("SEEN", ""), os.environ["TF_CPP_MIN_LOG_LEVEL"]]

found = {"task": ray.get(ray.remote(where).remote())}
own = {"env_vars": {"SEEN": "own"}}
found["own"] = ray.get(ray.remote(where).options(runtime_env=own).remote())
found["data"] = data.range(1).map(lambda row: {"where": where()}).take(1)[0]["where"]
if "serve" in sys.argv:
    @serve.deployment(ray_actor_options={"runtime_env": own, "num_cpus": 0.1})
    class Replica:
        def __call__(self):
            return where()
    serve.start(proxy_location="Disabled")
    found["serve"] = serve.run(Replica.bind(), name="look", route_prefix=None).remote().result(timeout_s=120)
print(json.dumps({**found, "token": tokens.find_token(), "logs": connection.started_logs()}))
"""
"""What processes of a Ray that is started here run on: of tasks, of Ray Data, of Serve."""


def look(python: str, *words: str, **environment: str) -> "dict[str, list[str]]":
    """Run `LOOK` by a Python; it must say nothing else, and leave a token that only its owner reads."""
    done = subprocess.run(
        [python, "-c", LOOK, *words],
        env={**environment_of("/"), "RAY_ADDRESS": "local", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stderr.splitlines() if " serve " not in line]  # Serve's own INFO lines
    assert not said
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.thorough
def test_an_environment_on_a_path_with_a_space(tmp_path: Path) -> None:
    place = tmp_path / "mein projekt ü" / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    packages = sysconfig.get_path("purelib")
    site = next(place.glob("lib/python3*/site-packages"))
    (site / "same.pth").write_text(f"{ROOT}\nimport site; site.addsitedir({packages!r})\n")
    home = tmp_path / "home"
    home.mkdir()
    python = str(place / "bin" / "python")
    found = look(python, "serve", HOME=str(home), PYTHONPATH="")
    assert found["task"] == [python, "", "3"]
    assert found["own"] == [python, "own", "3"]
    assert found["data"] == [python, "", "3"]
    assert found["serve"] == [python, "own", "3"]
    assert stat.S_IMODE((home / ".ray" / "auth_token").stat().st_mode) == 0o600


@pytest.mark.slow
@pytest.mark.thorough
def test_no_home_folder_and_a_temporary_one_too_long_for_sockets(tmp_path: Path) -> None:
    temporary = tmp_path / ("x" * 100)
    temporary.mkdir()
    found = look(sys.executable, HOME=NOWHERE, TMPDIR=str(temporary))
    assert found["task"] == [sys.executable, "", "3"]
    assert found["token"] == "RAY_AUTH_TOKEN"
    assert str(found["logs"]).startswith("/tmp/ray/session_")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of somebody who has not used Ray yet; files are for all to read."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that it is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_for_its_owner_only_and_kept(home: Path) -> None:
    before = os.umask(0)
    try:
        tokens.make_token()
    finally:
        os.umask(before)
    file = home / ".ray" / "auth_token"
    token = file.read_text()
    assert (len(token), mode(file), mode(file.parent)) == (64, 0o600, 0o700)
    assert [path.name for path in file.parent.iterdir()] == ["auth_token"]
    tokens.make_token()
    assert file.read_text() == token
    tokens.write_token(file)  # as a process that looked for one a moment too early
    assert file.read_text() == token


def test_a_token_that_all_can_read_is_closed(home: Path) -> None:
    file = home / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("0" * 64)
    file.chmod(0o644)
    tokens.make_token()
    assert (file.read_text(), mode(file)) == ("0" * 64, 0o600)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("place", [NOWHERE, None])
def test_without_a_home_folder_the_token_is_in_the_environment(
    place: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place:
        monkeypatch.setenv("HOME", place)
    else:

        def homeless() -> Path:
            raise RuntimeError("no such user")

        monkeypatch.setattr(Path, "home", homeless)
    assert tokens.find_token() is None
    tokens.make_token()
    assert tokens.find_token() == "RAY_AUTH_TOKEN"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_token_that_is_named_or_not_wanted_is_not_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    tokens.make_token()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a")
    tokens.make_token()
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "none"))
    with pytest.raises(RunError, match=r"RAY_AUTH_TOKEN_PATH is .*none, where there is no token"):
        tokens.make_token()
    assert not list(home.iterdir())


def test_a_node_that_does_not_answer_is_looked_up_where_its_logs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "started_logs", lambda: "/tmp/ray/session_x/logs")
    assert "see Ray's logs in /tmp/ray/session_x/logs" in nodes.no_answer("n", "late").message()
    monkeypatch.setattr(connection, "started_logs", lambda: None)
    assert "see its logs (`ray logs`), or take it out" in nodes.no_answer("n", "late").message()


@pytest.mark.usefixtures("home")
def test_a_temporary_folder_that_cannot_be_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "/tmp/ray")

    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(connection.ray, "init", init)
    with pytest.raises(
        RunError, match=r"Ray cannot be started .*'/tmp/ray'; it wants .* which RAY_TMPDIR names"
    ):
        connection.start_or_join()
