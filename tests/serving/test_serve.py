"""The job that serves: who is let in, who may change that, and how it ends."""

import codecs
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from support.endpoint import PNG, SERVE, Running, picture, start
from support.jobs import environment_of, wait_for

from brain_ray.errors import RunError
from brain_ray.serving import serve as launch
from brain_ray.serving.config import ServingConfig

KEY = "s3cret-of-ward-7"
OTHERS = "another", "third"


def written(folder: Path, *words: str) -> tuple[str, ...]:
    """Return the hashes of keys that the job writes into a config file."""
    file = folder / "serve.yaml"
    launch.main(["--bundle", "b", "--write-config", str(file), *words])
    arguments = yaml.safe_load(file.read_text())["applications"][0]["args"]
    return tuple(arguments.get("api_keys_sha256", ()))


def hashes(*keys: str) -> tuple[str, ...]:
    return tuple(hashlib.sha256(key.encode()).hexdigest() for key in keys)


@pytest.mark.parametrize(
    "content",
    [
        b"first\nsecond\n",
        b"first\r\nsecond",
        b"# keys of ward 7\n\n  first \n\t\n# alice\nsecond\n",
        codecs.BOM_UTF8 + b"first\nsecond\n",
    ],
)
def test_a_file_has_one_key_a_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_bytes(content)
    assert written(tmp_path, "--api-keys-file", str(tmp_path / "keys.txt")) == hashes("first", "second")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"first\nalice: hidden\n", "line 2 of .* is no API key: expected one key, of printable ASCII"),
        (b"first\nhidden # of alice\n", "line 2 of .* is no API key"),
        ("first\n\nhidd\u00fcn\n".encode(), "line 3 of .* is no API key"),
        ("hidden\u00a0hidden\n".encode(), "line 1 of .* is no API key"),
        (b"hid\x1cden\n", "line 1 of .* is no API key"),
        (b"hid\rden\n", "line 1 of .* is no API key"),
        (b"hidden\nhid\xffden\n", "cannot read the API keys of .*: expected text in UTF-8"),
        (codecs.BOM_UTF16_LE + "hidden\n".encode("utf-16-le"), "expected text in UTF-8"),
        (b"\n # nobody\n", "holds no API key: expected one a line"),
        (b"", "holds no API key"),
    ],
)
def test_what_is_no_key_is_an_error_that_does_not_show_it(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_bytes(content)
    with pytest.raises(RunError, match=said) as refused:
        written(tmp_path, "--api-keys-file", str(tmp_path / "keys.txt"))
    assert "hid" not in str(refused.value)


def test_a_file_that_is_not_named_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot read the API keys of"):
        written(tmp_path, "--api-keys-file", "")


def test_keys_of_the_environment_are_taken_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAIN_RAY_API_KEYS", " first,second\nthird, ")
    assert written(tmp_path) == hashes("first", "second", "third")
    assert "BRAIN_RAY_API_KEYS" not in os.environ


@pytest.mark.parametrize("value", ["", " ", " , ,\n"])
def test_a_variable_without_a_key_is_no_open_endpoint(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAIN_RAY_API_KEYS", value)
    with pytest.raises(RunError, match="BRAIN_RAY_API_KEYS is set, and holds no API key"):
        written(tmp_path)


def test_an_odd_key_of_the_environment_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAIN_RAY_API_KEYS", "first,hidd\u00fcn")
    with pytest.raises(RunError, match="key 2 of BRAIN_RAY_API_KEYS is no API key") as refused:
        written(tmp_path)
    assert "hid" not in str(refused.value)


def test_keys_and_no_keys_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAIN_RAY_API_KEYS", "first")
    with pytest.raises(RunError, match="--no-api-keys is given, and API keys as well"):
        written(tmp_path, "--no-api-keys")


def test_a_config_file_without_keys_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert written(tmp_path) == ()
    assert "warning: " in capsys.readouterr().out
    (tmp_path / "keys.txt").write_text("first\n")
    written(tmp_path, "--api-keys-file", str(tmp_path / "keys.txt"))
    assert "warning" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def guarded(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An endpoint with keys, whose replicas take half a CPU, so that there is room for a second one."""
    home = tmp_path_factory.mktemp("home")
    running = start(bundle, home, "--cpus-per-replica", "0.5", BRAIN_RAY_API_KEYS=",".join([KEY, *OTHERS]))
    yield running
    running.process.kill()


def deploy(running: Running, bundle: Path, *options: str, **environment: str) -> "tuple[int, str, str]":
    """Run the job again, on the cluster of a running endpoint; return the exit code and what it says."""
    done = subprocess.run(
        [sys.executable, str(SERVE), "--bundle", str(bundle), "--cpus-per-replica", "0.5", *options],
        env={**environment_of(running.home, RAY_ADDRESS=running.address), **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def ask(running: Running, key: str = "") -> int:
    headers = {"X-API-Key": key} if key else {}
    return httpx.get(f"{running.url}/v1/model", headers=headers, timeout=30).status_code


@pytest.mark.slow
def test_a_running_endpoint_keeps_its_keys(guarded: Running, bundle: Path, tmp_path: Path) -> None:
    assert (ask(guarded), ask(guarded, KEY)) == (401, 200)
    processes = psutil.Process(guarded.process.pid).children(recursive=True)
    assert len(processes) > 8
    assert not [p for p in processes if KEY.encode() in Path(f"/proc/{p.pid}/environ").read_bytes()]

    # Without a token, or with another cluster's, nobody deploys; RAY_AUTH_TOKEN is as good as the file.
    elsewhere = str(tmp_path)
    code, _, said = deploy(guarded, bundle, HOME=elsewhere)
    assert (code, said.count("\n")) == (1, 1)
    assert "wants a token, and there is none here" in said
    code, _, said = deploy(guarded, bundle, HOME=elsewhere, RAY_AUTH_TOKEN="0" * 64)
    assert (code, said.count("\n")) == (1, 1)
    assert "refuses the token of RAY_AUTH_TOKEN" in said
    file = Path(guarded.home) / ".ray" / "auth_token"
    assert file.stat().st_mode & 0o777 == 0o600

    code, _, said = deploy(guarded, bundle, HOME=elsewhere, RAY_AUTH_TOKEN=file.read_text())
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(
        "error: the endpoint on the air has API keys (3), and this one has none: name them"
    )
    assert (ask(guarded), ask(guarded, KEY)) == (401, 200)

    code, out, said = deploy(
        guarded, bundle, RAY_AUTH_TOKEN_PATH=str(file), BRAIN_RAY_API_KEYS=",".join(OTHERS)
    )
    assert (code, said) == (0, "")
    assert "warning" not in out
    wait_for(lambda: (ask(guarded, KEY), ask(guarded, OTHERS[0])) == (401, 200), 60)


@pytest.mark.slow
@pytest.mark.thorough
def test_keys_are_taken_away_on_purpose_only_and_with_a_warning(guarded: Running, bundle: Path) -> None:
    code, out, said = deploy(guarded, bundle, "--no-api-keys")
    assert (code, said) == (0, "")
    assert "warning: it has no API keys: everybody who reaches the cluster's endpoint is let in" in out
    wait_for(lambda: ask(guarded) == 200, 60)
    code, out, said = deploy(guarded, bundle)  # nothing is taken away now
    assert (code, said) == (0, "")
    assert "warning: it has no API keys" in out


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_ends_it_soon_and_whole(guarded: Running) -> None:
    """As `timeout` and some service managers send it: Ray's own processes are signalled as well."""
    wait_for(lambda: len(guarded.pids) == 1, 60)
    processes = psutil.Process(guarded.process.pid).children(recursive=True)
    folder = next(
        word.rpartition("/")[0]
        for p in processes
        if p.name() == "haproxy"
        for word in p.cmdline()
        if word.startswith("/tmp/br-")
    )
    answers: list[int] = []
    sent = threading.Event()

    def note(event: str, _: object) -> None:
        if event == "http11.send_request_body.complete":
            sent.set()

    def explain() -> None:
        files = [("file", (f"{i}.png", picture())) for i in range(12)]
        with httpx.Client(headers={"X-API-Key": OTHERS[0]}, timeout=60) as client:
            request = client.build_request("POST", f"{guarded.url}/v1/explain", files=files)
            request.extensions["trace"] = note
            answers.append(client.send(request).status_code)

    thread = threading.Thread(target=explain)
    thread.start()
    assert sent.wait(60)
    headers = PNG | {"X-API-Key": OTHERS[1]}
    wait_for(
        lambda: httpx.post(f"{guarded.url}/v1/predict", content=picture(), headers=headers).is_success, 60
    )
    os.killpg(guarded.process.pid, signal.SIGTERM)
    out, said = guarded.process.communicate(timeout=45)  # Ray alone looks for its processes for 60 s
    thread.join()
    assert (guarded.process.returncode, said) == (0, "")
    assert "ends when what was accepted is answered" in out
    assert answers == [200]
    _, left = psutil.wait_procs(processes, 30)
    assert not left
    assert not Path(folder).parent.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{guarded.url}/healthz")


def test_a_proxy_that_does_not_start_is_one_line() -> None:
    from ray.exceptions import ActorDiedError

    def too_slow(**_: object) -> None:
        raise ActorDiedError

    with pytest.raises(
        RunError, match=r"the endpoint's proxy did not start \(try again if .* busy\): ."
    ) as told:
        launch.put_on_air(ServingConfig(bundle="b"), start=too_slow)
    assert "\n" not in str(told.value)
