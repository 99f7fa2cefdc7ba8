"""A node is lost while a stage works on it: the stage ends with the same result, or says what is missing.

Jobs run as a user starts them, on a cluster of several nodes.
"""

import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from shutil import copytree
from typing import Self

import cv2
import httpx
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal
from support.jobs import ROOT, free_port
from support.ray_cluster import Job, Nodes, nodes_of

from brain_ray.config import ModelConfig
from brain_ray.data.phantoms.files import draw
from brain_ray.data.rows import SPLITS
from brain_ray.models.backbones import build_backbone
from brain_ray.runs import Run
from brain_ray.serving.client import Client
from brain_ray.serving.haproxy import proxy_settings
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.tracking.history import from_csv
from brain_ray.tuning.trial_store import trial_run

PNG = {"content-type": "image/png"}

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

SETTINGS = {
    "data.phantoms.train-per-class": 100,
    "data.phantoms.test-per-class": 16,
    "data.phantoms.copies": 12,
    "data.phantoms.faults": 6,
    "data.max-rejected": 0.1,
    "model.height": 32,
    "model.width": 32,
    # What is computed does not depend on the number of workers.
    "model.batch-norm": "fixed",
    "model.dropout": 0.0,
    "train.epochs": 6,
    "train.batch-size": 8,
    "train.learning-rate": 0.0005,
    "train.schedule": "constant",
    "train.cpus-per-worker": 1.5,  # one on a node
    "train.mlflow-uri": "none",
    "evaluate.batch-size": 4,
}


def job(name: str) -> str:
    return str(ROOT / "jobs" / f"{name}.py")


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes_of(tmp_path_factory.mktemp("home"), 2, 2) as nodes:
        yield nodes


@pytest.fixture
def nodes(lasting: Nodes) -> Nodes:
    """A cluster of two nodes, beside the head that has no CPUs."""
    while len(lasting.names) < 2:
        lasting.add(2)
    return lasting


@pytest.fixture(scope="module")
def undisturbed(lasting: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run from which nothing was taken."""
    storage = tmp_path_factory.mktemp("undisturbed")
    words = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    with lasting.start(job("pipeline"), "smoke", "--storage", str(storage), *words) as done:
        done.finish()
    return Run(str(storage), "smoke")


def up_to(undisturbed: Run, storage: Path, *folders: str) -> Run:
    """Copy what a stage starts from."""
    run = Run(str(storage), undisturbed.name)
    for folder in folders:
        copytree(undisturbed.path(folder), run.path(folder))
    run.write_bytes(undisturbed.read_bytes("config.json"), "config.json")
    return run


def words_for(run: Run) -> tuple[str, ...]:
    """Name a run on a command line; its other settings are stored."""
    return "--storage", run.storage, "--name", run.name


def pausing_job(nodes: Nodes, notes: Path, name: str, *words: str, patience: float = 60) -> Job:
    """Start a job whose work on the nodes pauses until `lose_in` lets it go on."""
    program = str(ROOT / "tests/support/pausing_job.py"), str(notes.parent), str(patience), job(name)
    return nodes.start(*program, *words)


def done_by(notes: Path) -> dict[str, list[str]]:
    """Return the pieces of work that each node has done, those done twice too."""
    found: dict[str, list[str]] = {}
    for note in notes.iterdir() if notes.exists() else ():
        if note.name != "lost":
            piece, node, _ = note.name.split(".")
            found.setdefault(node, []).append(piece)
    return found


def lose_in(nodes: Nodes, notes: Path, running: Job, pieces: int = 3, node: str = "") -> str:
    """Lose the first node, or a certain one, that has done so many pieces of some work; return its id.

    More pieces are not done, on it and elsewhere, and go on only then.
    """

    def found() -> list[str]:
        return [each for each, done in done_by(notes).items() if len(done) >= pieces and node in each]

    running.wait_until(lambda: bool(found()), f"work in {notes.name}")
    (lost, *_) = found()
    nodes.lose(lost)
    (notes / "lost").touch()
    return lost


def rows_of(run: Run, *folder: str) -> pd.DataFrame:
    table: pd.DataFrame = pq.read_table(run.path(*folder)).to_pandas()
    return table.sort_values("row_id", ignore_index=True) if "row_id" in table else table


def test_preparation_does_again_what_was_lost(nodes: Nodes, undisturbed: Run, tmp_path: Path) -> None:
    run = up_to(undisturbed, tmp_path, "phantoms")
    scans, writes = tmp_path / "notes" / "scan", tmp_path / "notes" / "write"
    with pausing_job(nodes, scans, "prepare", *words_for(run)) as running:
        first = lose_in(nodes, scans, running)
        assert run.finished("dataset") is None
        nodes.add(2)
        running.wait_until(lambda: len(done_by(writes)) > 1, "work in write")
        scanned = done_by(scans)
        # Whose memory holds the most blocks, which the writing wants again.
        holder = max(nodes.names, key=lambda name: len(scanned.get(name, [])))
        lose_in(nodes, writes, running, 1, holder)
        assert run.finished("dataset") is None
        nodes.add(2)
        running.finish()
    again, written = done_by(scans), done_by(writes)
    assert again[first] == scanned[first]
    assert again[holder] == scanned[holder]
    assert sum(map(len, again.values())) > sum(map(len, scanned.values()))
    pieces = {piece for node, done in again.items() if node != first for piece in done}
    assert set(scanned[first]) < pieces
    assert {piece for done in written.values() for piece in done} == pieces
    assert run.finished("dataset") == undisturbed.finished("dataset")
    assert run.read_json("dataset", "audit.json") == undisturbed.read_json("dataset", "audit.json")
    for name in ("manifest.parquet", "rejected.parquet", "pairs.parquet", *SPLITS):
        assert_frame_equal(rows_of(run, "dataset", name), rows_of(undisturbed, "dataset", name))


NO_ROOM = "the cluster has 0 CPUs on 1 node(s), and training asks for 1 x 1.5 CPUs"


@pytest.mark.parametrize(
    ("name", "work", "what", "lacking"),
    [
        ("prepare", "scan", "preparation", "none of the cluster's 1 node(s) has a CPU: add nodes"),
        ("train", "features", "the features", NO_ROOM),
        ("tune", "trial", "the sweep", NO_ROOM),
    ],
)
def test_what_has_lost_all_nodes_gives_up_in_time(
    name: str, work: str, what: str, lacking: str, nodes: Nodes, undisturbed: Run, tmp_path: Path
) -> None:
    run = up_to(undisturbed, tmp_path, "phantoms", *["dataset"] * (name != "prepare"))
    words = {
        "prepare": (),
        "train": ("--model.weights", str(write_weights(tmp_path)), "--train.frozen-epochs", "1"),
        "tune": ("--sweep.space", "model.dropout=grid(0.0, 0.1)"),
    }
    notes = tmp_path / "notes" / work
    with pausing_job(nodes, notes, name, *words_for(run), *words[name], patience=1) as running:
        lose_in(nodes, notes, running, 1)
        nodes.lose(nodes.names[0])
        said = running.finish(1, seconds=60)
    assert f"waits up to 1 s for nodes: {lacking}" in said
    (error,) = [line for line in running.lines if "  error: " in line]
    assert f"error: no room for {what} within 1 s: {lacking}" in error
    assert error.endswith("; the same command goes on from here")
    assert "Traceback" not in said


def write_weights(folder: Path) -> Path:
    """Write weights that the run's backbone can start from."""
    file = folder / "tiny.weights.h5"
    build_backbone(ModelConfig(backbone="tiny", weights="none", height=32, width=32)).save_weights(file)
    return file


def training(
    nodes: Nodes, run: Run, pause: Path, workers: Sequence[str], patience: float = 60
) -> AbstractContextManager[Job]:
    """Start a training that pauses after the epoch that a folder for its notes is named by."""
    pause.mkdir(parents=True)
    words = *words_for(run), "--train.num-workers", *workers
    return pausing_job(nodes, pause, "train", *words, patience=patience)


def epochs_of(said: str) -> list[str]:
    """Return the numbers of the epochs that were said, in order."""
    return re.findall(r"epoch (\d)/6 ", said)


def assert_same_history(run: Run, undisturbed: Run) -> None:
    history, expected = (pd.read_csv(found.path("train", "history.csv")) for found in (run, undisturbed))
    assert history["epoch"].tolist() == expected["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    names = ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert_allclose(history[names], expected[names], rtol=1e-4, atol=1e-6)


def test_an_elastic_group_goes_on_with_fewer(nodes: Nodes, undisturbed: Run, tmp_path: Path) -> None:
    run = up_to(undisturbed, tmp_path, "dataset")
    pause = tmp_path / "notes" / "epoch1"
    with training(nodes, run, pause, ["1", "2"]) as running:
        lose_in(nodes, pause, running, 1)
        said = running.finish()
    assert "starts with 2 of 2 workers" in said
    assert "goes on with 1 of 2 workers" in said
    assert epochs_of(said.partition("goes on with")[2]) == list("23456")
    assert_same_history(run, undisturbed)


def test_a_group_that_lost_its_room_waits_for_a_node_and_gives_up_in_time(
    nodes: Nodes, undisturbed: Run, tmp_path: Path
) -> None:
    run = up_to(undisturbed, tmp_path, "dataset")
    pause = tmp_path / "notes" / "epoch1"
    with training(nodes, run, pause, ["2"], patience=1) as running:
        lose_in(nodes, pause, running, 1)
        said = running.finish(1)
    lacking = "the cluster has 2 CPUs on 2 node(s), and training asks for 2 x 1.5 CPUs for its workers"
    (error,) = [line for line in running.lines if "  error: " in line]
    assert f"error: no room for the workers within 1 s: {lacking}" in error
    assert error.endswith("the same command goes on from the last epoch")
    assert "Traceback" not in said
    nodes.add(2)
    pause = tmp_path / "notes" / "epoch3"
    with training(nodes, run, pause, ["2"]) as running:
        lose_in(nodes, pause, running, 1)
        running.wait_for(f"waits up to 60 s for room for its workers: {lacking}")
        nodes.add(2)
        said = running.finish()
    before, _, after = said.partition("waits up to")
    assert (epochs_of(before), epochs_of(after)) == (list("23"), list("456"))
    assert_same_history(run, undisturbed)


def test_evaluation_begins_anew(nodes: Nodes, undisturbed: Run, tmp_path: Path) -> None:
    run = up_to(undisturbed, tmp_path, "dataset", "train", "bundle")
    notes = tmp_path / "notes" / "score"
    with pausing_job(nodes, notes, "evaluate", *words_for(run)) as running:
        lost = lose_in(nodes, notes, running)
        before = done_by(notes)
        said = running.finish()
    assert "scoring begins anew, a process or node was lost" in said
    assert "Traceback" not in said
    found, expected = (rows_of(each, "report", "predictions.parquet") for each in (run, undisturbed))
    done = done_by(notes)
    assert done.pop(lost) == before[lost]
    assert sum(map(len, done.values())) == len(expected) / 4, "all is done again"
    assert_frame_equal(found, expected)


def test_a_lost_trial_of_a_sweep_is_tried_again(nodes: Nodes, undisturbed: Run, tmp_path: Path) -> None:
    run = up_to(undisturbed, tmp_path, "phantoms", "dataset")
    notes = tmp_path / "notes" / "trial"
    space = "--sweep.scheduler", "none", "--sweep.space", "model.dropout=grid(0.0, 0.1)"
    with pausing_job(nodes, notes, "tune", *words_for(run), *space) as running:
        lost = lose_in(nodes, notes, running, 1)
        running.wait_for("2 trials: 2 finished")
    (trial,) = set(done_by(notes)[lost])
    (failed,) = [line for line in running.lines if "failed, is tried again" in line]
    assert f"  {trial} tiny 32x32" in failed
    # The first trial has the settings of the run.
    assert_same_history(trial_run(run, "000"), undisturbed)
    assert len(from_csv(trial_run(run, "001").read_bytes("train", "history.csv"))) == 6


def test_rows_are_read_again_though_tasks_that_wait_for_them_hold_all_cpus(tmp_path: Path) -> None:
    with (
        nodes_of(tmp_path / "home", 1, 1) as nodes,
        nodes.start(str(ROOT / "tests/support/waiting_for_rows.py"), str(tmp_path)) as running,
    ):
        running.wait_for("made ")
        (made,) = [line.split()[1] for line in running.lines if line.startswith("made ")]
        nodes.lose(made)
        time.sleep(1)  # the rows are wanted again by their owner, and have no CPU yet
        (tmp_path / "lost").touch()
        running.finish(seconds=60)
        assert "rows 300000" in running.lines


class Traffic:
    """Requests without a pause, and what came of each; some of them by the endpoint's own client."""

    def __init__(self, url: str) -> None:
        self.outcomes: list[tuple[float, str]] = []
        self.results: list[Answer | Failure] = []
        self._picture = cv2.imencode(".png", draw("glioma", 5, 0))[1].tobytes()
        self._url = url
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=ask) for ask in (self._ask, self._ask, self._ask_client)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def answers(self) -> list[float]:
        """Return when the answers came."""
        return [moment for moment, outcome in list(self.outcomes) if outcome.startswith("200")]

    def wait_for_answers(self, number: int, seconds: float = 90) -> None:
        """Wait until there are so many more answers."""
        start, end = len(self.answers()), time.monotonic() + seconds
        while len(self.answers()) < start + number:
            assert time.monotonic() < end, Counter(outcome for _, outcome in self.outcomes)
            time.sleep(0.05)

    def _ask(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._ended.is_set():
                try:
                    response = client.post(f"{self._url}/v1/predict", content=self._picture, headers=PNG)
                    outcome = str(response.status_code)
                    if outcome == "200":
                        outcome += str(response.json()["results"][0]["probabilities"])
                except httpx.TransportError as error:
                    outcome = type(error).__name__
                self.outcomes.append((time.monotonic(), outcome))
                if not outcome.startswith("200"):
                    time.sleep(0.05)

    def _ask_client(self) -> None:
        def pictures() -> Iterator[bytes]:
            while not self._ended.wait(0.1):
                yield self._picture

        with Client(self._url, in_flight=1) as client:
            self.results += client.predict(pictures())


def test_an_endpoint_that_lost_its_replicas_answers_again(undisturbed: Run, tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="br-", dir="/tmp") as folder,
        nodes_of(tmp_path / "home", 1, **proxy_settings(Path(folder))) as nodes,
    ):
        port = free_port()
        words = "--bundle", undisturbed.path("bundle"), "--port", str(port), "--cpus-per-replica", "0.5"
        with nodes.start(job("serve"), *words, "--min-replicas", "2", "--max-replicas", "2") as deployed:
            deployed.finish()
        nodes.add(1)
        with Traffic(f"http://127.0.0.1:{port}") as traffic:
            traffic.wait_for_answers(20)
            start = time.monotonic()
            nodes.lose(nodes.names[0])
            traffic.wait_for_answers(50)
    # The proxy holds what it cannot pass on; what a lost replica was answering, and what is held too long, is
    # refused in a way that says to try again, as the client does.
    outcomes = Counter(outcome for _, outcome in traffic.outcomes)
    right = [outcome for outcome in outcomes if outcome.startswith("200")]
    assert len(right) == 1, outcomes
    again = {"503", "RemoteProtocolError", "ReadError", "ConnectError"}
    assert set(outcomes) - set(right) <= again, outcomes
    moments = [start, *(moment for moment in traffic.answers() if moment > start)]
    silence = max(later - earlier for earlier, later in pairwise(moments))
    print(f"{silence:.1f} s without an answer; {outcomes}, {len(traffic.results)} by the client")
    assert silence > 0.5, "the loss was not felt"
    assert traffic.results
    assert {result.status for result in traffic.results} == {"ok"}
