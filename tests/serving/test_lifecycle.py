"""What changes while requests come in: models, replicas and their number, keys, the end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from support.endpoint import NO_TLS, PNG, SERVE, Running, picture, start, stop
from support.jobs import ROOT, environment_of, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

KEY = "s3cret-of-ward-7"
OTHERS = "another", "third"
KEYS = {"BRAIN_RAY_API_KEYS": ",".join([KEY, *OTHERS])}
HEADERS = PNG | {"X-API-Key": OTHERS[0]}


PAUSE_S = 0.02
"""Between two requests of a thread, so that replicas that start beside them have CPU time as well."""


class Traffic:
    """Requests one after the other, from some threads; what came of them is counted."""

    def __init__(self, url: str, clients: int = 3) -> None:
        self.codes: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.bodies: list[str] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, url: str) -> None:
        data = picture()
        with httpx.Client(timeout=30, verify=NO_TLS) as client:
            while not self._ended.wait(PAUSE_S):
                try:
                    response = client.post(f"{url}/v1/predict", content=data, headers=HEADERS)
                except httpx.TransportError as error:
                    self.codes[type(error).__name__] += 1
                    continue
                self.codes[str(response.status_code)] += 1
                if response.status_code == 200:
                    self.models[response.json()["results"][0]["model"]["id"]] += 1
                else:
                    self.bodies.append(response.text)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def traffic(url: str) -> Iterator[Traffic]:
    running = Traffic(url)
    try:
        yield running
    finally:
        running.end()


@pytest.fixture(scope="module")
def served(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An endpoint with keys, whose replicas take half a CPU, so that there is room for a second one."""
    running = start(bundle, tmp_path_factory.mktemp("home"), "--cpus-per-replica", "0.5", **KEYS)
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


def renamed(bundle: Path, folder: Path, name: str) -> Path:
    """Copy a bundle under another name."""
    copy = Path(shutil.copytree(bundle, folder / name))
    info = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**info, "name": name}))
    return copy


def test_a_new_bundle_takes_over_without_a_failed_request(
    served: Running, bundle: Path, tmp_path: Path
) -> None:
    with traffic(served.url) as asked:
        time.sleep(2)
        code, _, said = deploy(served, renamed(bundle, tmp_path, "second"), **KEYS)
        assert code == 0, said
        time.sleep(3)
    assert set(asked.codes) == {"200"}, (asked.codes, asked.bodies[:3])
    assert len(asked.models) == 2
    answer = httpx.post(f"{served.url}/v1/predict", content=picture(), headers=HEADERS).json()
    assert answer["results"][0]["model"]["name"] == "second"


def test_a_killed_replica_is_replaced(served: Running) -> None:
    wait_for(lambda: len(served.pids) == 1, 60)
    (victim,) = served.pids
    with traffic(served.url) as asked:
        time.sleep(1)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(served.pids) == 1 and served.pids != [victim], 60)
        before = asked.codes["200"]
        wait_for(lambda: asked.codes["200"] > before + 10, 60)
    # Whoever was being answered may be told to try again.
    again = {"200", "503", "RemoteProtocolError", "ReadError", "ConnectError"}
    assert set(asked.codes) <= again, (asked.codes, asked.bodies[:3])


def test_a_bundle_that_fails_its_canary_is_refused_and_the_old_one_stays(
    served: Running, bundle: Path, tmp_path: Path
) -> None:
    bad = renamed(bundle, tmp_path, "bad")
    info = json.loads((bad / "bundle.json").read_text())
    canaries = info["canaries"]
    first = next(iter(canaries))
    canaries[first] = [1 - sum(canaries[first][1:]), *canaries[first][1:]]
    canaries[first] = canaries[first][::-1]
    (bad / "bundle.json").write_text(json.dumps(info))
    with traffic(served.url) as asked:
        code, _, said = deploy(served, bad, **KEYS)
        assert code == 1
        assert "canary" in said
        assert len(said.strip().splitlines()) == 1
        # As Serve's own command would do it, without the job's look at the bundle.
        script = (
            "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)\n"
            "from ray import serve; from brain_ray.serving.app import build\n"
            "serve.run(build({'bundle': sys.argv[2], 'cpus_per_replica': 0.5}), name='brain_ray')"
        )
        forced = subprocess.run(
            [sys.executable, "-c", script, served.address, str(bad)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": served.home},
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert forced.returncode != 0
    assert set(asked.codes) == {"200"}, (asked.codes, asked.bodies[:3])
    assert "bad" not in {model.rpartition("-")[0] for model in asked.models}


def ask(running: Running, key: str = "") -> int:
    headers = {"X-API-Key": key} if key else {}
    return httpx.get(f"{running.url}/v1/model", headers=headers, timeout=30).status_code


def test_a_running_endpoint_keeps_its_keys(served: Running, bundle: Path, tmp_path: Path) -> None:
    assert (ask(served), ask(served, KEY)) == (401, 200)
    processes = psutil.Process(served.process.pid).children(recursive=True)
    assert len(processes) > 8
    assert not [p for p in processes if KEY.encode() in Path(f"/proc/{p.pid}/environ").read_bytes()]

    # Without a token, or with another cluster's, nobody deploys; RAY_AUTH_TOKEN is as good as the file.
    elsewhere = str(tmp_path)
    code, _, said = deploy(served, bundle, HOME=elsewhere)
    assert (code, said.count("\n")) == (1, 1)
    assert "wants a token, and there is none here" in said
    code, _, said = deploy(served, bundle, HOME=elsewhere, RAY_AUTH_TOKEN="0" * 64)
    assert (code, said.count("\n")) == (1, 1)
    assert "refuses the token of RAY_AUTH_TOKEN" in said
    file = Path(served.home) / ".ray" / "auth_token"
    assert file.stat().st_mode & 0o777 == 0o600

    code, _, said = deploy(served, bundle, HOME=elsewhere, RAY_AUTH_TOKEN=file.read_text())
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(
        "error: the endpoint on the air has API keys (3), and this one has none: name them"
    )
    assert (ask(served), ask(served, KEY)) == (401, 200)

    code, out, said = deploy(
        served, bundle, RAY_AUTH_TOKEN_PATH=str(file), BRAIN_RAY_API_KEYS=",".join(OTHERS)
    )
    assert (code, said) == (0, "")
    assert "warning" not in out
    wait_for(lambda: (ask(served, KEY), ask(served, OTHERS[0])) == (401, 200), 60)


@pytest.mark.thorough
def test_more_replicas_come_with_the_requests(served: Running, bundle: Path) -> None:
    options = ("--min-replicas", "1", "--max-replicas", "2", "--target-ongoing-requests", "1")
    code, _, said = deploy(served, bundle, *options, **KEYS)
    assert code == 0, said
    with traffic(served.url):
        wait_for(lambda: len(served.pids) == 2, 90)


@pytest.mark.thorough
def test_metrics_count_what_was_asked(served: Running, bundle: Path) -> None:
    code, _, said = deploy(served, bundle, "--challenger", str(bundle), "--canary", "0.5", **KEYS)
    assert code == 0, said
    for _ in range(20):
        httpx.post(f"{served.url}/v1/predict", content=picture(), headers=HEADERS).raise_for_status()
    assert httpx.post(f"{served.url}/v1/predict", content=b"x", headers=HEADERS).status_code == 415

    def counted() -> bool:
        text = httpx.get(served.metrics, timeout=20).text
        lines = [line for line in text.splitlines() if "brain_ray_" in line and not line.startswith("#")]
        wanted = [
            ("brain_ray_images", 'role="main"', 'label="glioma"'),
            ("brain_ray_images", 'role="challenger"', 'decision="'),
            ("brain_ray_requests", 'route="/v1/predict"', 'status="200"'),
            ("brain_ray_errors", 'route="/v1/predict"', 'code="not_an_image"'),
            ("brain_ray_batch_size_bucket", 'le="8', ""),
            ("brain_ray_request_seconds_bucket", 'route="/v1/predict"', ""),
        ]
        return all(any(all(part in line for part in parts) for line in lines) for parts in wanted)

    wait_for(counted, 40)


@pytest.mark.thorough
def test_keys_are_taken_away_on_purpose_only_and_with_a_warning(served: Running, bundle: Path) -> None:
    code, out, said = deploy(served, bundle, "--no-api-keys")
    assert (code, said) == (0, "")
    assert "warning: it has no API keys: everybody who reaches the cluster's endpoint is let in" in out
    wait_for(lambda: ask(served) == 200, 60)
    code, out, said = deploy(served, bundle)  # nothing is taken away now
    assert (code, said) == (0, "")
    assert "warning: it has no API keys" in out


def test_a_signal_to_the_whole_process_group_ends_it_soon_and_whole(served: Running) -> None:
    """As `timeout` and some service managers send it: Ray's own processes are signalled as well.

    The last of the tests that share the endpoint.
    """
    wait_for(lambda: len(served.pids) == 1, 60)
    processes = psutil.Process(served.process.pid).children(recursive=True)
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
            request = client.build_request("POST", f"{served.url}/v1/explain", files=files)
            request.extensions["trace"] = note
            answers.append(client.send(request).status_code)

    thread = threading.Thread(target=explain)
    thread.start()
    assert sent.wait(60)
    headers = PNG | {"X-API-Key": OTHERS[1]}
    wait_for(
        lambda: httpx.post(f"{served.url}/v1/predict", content=picture(), headers=headers).is_success, 60
    )
    os.killpg(served.process.pid, signal.SIGTERM)
    out, said = served.process.communicate(timeout=45)  # Ray alone looks for its processes for 60 s
    thread.join()
    assert (served.process.returncode, said) == (0, "")
    assert "ends when what was accepted is answered" in out
    assert answers == [200]
    _, left = psutil.wait_procs(processes, 30)
    assert not left
    assert not Path(folder).parent.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{served.url}/healthz")


@pytest.mark.thorough
def test_a_signal_to_the_job_alone_lets_it_answer_what_it_has_accepted(bundle: Path, tmp_path: Path) -> None:
    running = start(bundle, tmp_path)
    answers: list[int] = []
    sent = [threading.Event() for _ in range(3)]
    files = [("file", (f"{i}.png", picture())) for i in range(32)]
    form = httpx.Request("POST", f"{running.url}/v1/explain", files=files)
    body = form.read()

    def ask(is_sent: threading.Event) -> None:
        def content() -> Iterator[bytes]:
            yield body
            is_sent.set()

        answer = httpx.post(form.url, content=content(), headers=form.headers, timeout=60)
        answers.append(answer.status_code)

    threads = [threading.Thread(target=ask, args=(is_sent,)) for is_sent in sent]
    for thread in threads:
        thread.start()
    for is_sent in sent:
        assert is_sent.wait(30)
    time.sleep(0.5)
    stop(running)
    for thread in threads:
        thread.join()
    assert answers == [200, 200, 200]
    assert running.process.returncode == 0
    assert running.pids == []
