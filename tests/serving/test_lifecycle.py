"""What changes while requests come in: models, replicas, their number, the end."""

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
import pytest
from support.endpoint import PNG, SERVE, Running, picture, start, stop
from support.jobs import ROOT, wait_for

pytestmark = pytest.mark.slow


class Traffic:
    """Requests without a pause, from some threads; what came of them is counted."""

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
        with httpx.Client(timeout=30) as client:
            while not self._ended.is_set():
                try:
                    response = client.post(f"{url}/v1/predict", content=data, headers=PNG)
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
    """An endpoint whose replicas take half a CPU, so that there is room for a second one."""
    running = start(bundle, tmp_path_factory.mktemp("home"), "--cpus-per-replica", "0.5")
    yield running
    stop(running)


def deploy(running: Running, bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the job again, on the cluster of a running endpoint."""
    return subprocess.run(
        [sys.executable, str(SERVE), "--bundle", str(bundle), "--cpus-per-replica", "0.5", *options],
        env={**os.environ, "RAY_ADDRESS": running.address, "PYTHONPATH": str(ROOT), "HOME": running.home},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


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
        done = deploy(served, renamed(bundle, tmp_path, "second"))
        assert done.returncode == 0, done.stderr
        time.sleep(3)
    assert set(asked.codes) == {"200"}, (asked.codes, asked.bodies[:3])
    assert len(asked.models) == 2
    answer = httpx.post(f"{served.url}/v1/predict", content=picture(), headers=PNG).json()
    assert answer["results"][0]["model"]["name"] == "second"


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
        refused = deploy(served, bad)
        assert refused.returncode == 1
        assert "canary" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
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


def test_a_killed_replica_is_replaced(served: Running, bundle: Path) -> None:
    assert deploy(served, bundle).returncode == 0
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


@pytest.mark.thorough
def test_more_replicas_come_with_the_requests(served: Running, bundle: Path) -> None:
    options = ("--min-replicas", "1", "--max-replicas", "2", "--target-ongoing-requests", "1")
    assert deploy(served, bundle, *options).returncode == 0
    with traffic(served.url):
        wait_for(lambda: len(served.pids) == 2, 90)


@pytest.mark.thorough
def test_metrics_count_what_was_asked(served: Running, bundle: Path) -> None:
    assert deploy(served, bundle, "--challenger", str(bundle), "--canary", "0.5").returncode == 0
    for _ in range(20):
        httpx.post(f"{served.url}/v1/predict", content=picture(), headers=PNG).raise_for_status()
    assert httpx.post(f"{served.url}/v1/predict", content=b"x", headers=PNG).status_code == 415

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


def test_what_was_accepted_is_answered_before_the_end(served: Running) -> None:
    """The last of the tests: the endpoint is not there any more."""
    answers: list[int] = []
    sent = [threading.Event() for _ in range(3)]
    files = [("file", (f"{i}.png", picture())) for i in range(32)]
    form = httpx.Request("POST", f"{served.url}/v1/explain", files=files)
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
    stop(served)
    for thread in threads:
        thread.join()
    assert answers == [200, 200, 200]
    assert served.process.returncode == 0
    assert served.pids == []
