"""A node is lost while a stage works on it: the stage ends with the same result, or says what is missing.

Jobs run as a user starts them, on a cluster of several nodes.
"""

import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from shutil import copytree
from typing import Self

import cv2
import httpx
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal
from support.jobs import ROOT, free_port
from support.ray_cluster import Job, Nodes, nodes_of

from brain_ray.bundle.predictor import Predictor
from brain_ray.cluster.connection import LOCAL_ENV
from brain_ray.data.phantoms.files import draw
from brain_ray.data.rows import SPLITS
from brain_ray.runs import Run
from brain_ray.serving.client import Client
from brain_ray.serving.haproxy import proxy_settings
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.tracking.history import from_csv
from brain_ray.tuning.trial_store import trial_run

PNG = {"content-type": "image/png"}

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

SETTINGS = {
    "data.phantoms.train-per-class": 50,
    "data.phantoms.test-per-class": 16,
    "data.phantoms.copies": 12,
    "data.phantoms.faults": 6,
    "data.max-rejected": 0.1,
    "model.height": 32,
    "model.width": 32,
    # What is computed does not depend on the number of workers.
    "model.batch-norm": "fixed",
    "model.dropout": 0.0,
    "train.epochs": 2,
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
    with (
        tempfile.TemporaryDirectory(prefix="br-", dir="/tmp") as folder,
        nodes_of(tmp_path_factory.mktemp("home"), 2, 2, **proxy_settings(Path(folder)), **LOCAL_ENV) as nodes,
    ):
        yield nodes


@pytest.fixture
def nodes(lasting: Nodes) -> Nodes:
    """A cluster of two nodes, beside the head that has no CPUs."""
    while len(lasting.names) < 2:
        lasting.add(2)
    return lasting


PREPARE_AND_TRAIN = """
import sys
from dataclasses import replace
from support.numpy_learner import Numpy
from support.undisturbed import undisturbed
from brain_ray.cli import run_job
from brain_ray.cluster import connection
from brain_ray.pipeline import run_stages
from brain_ray.runs import HISTORY, Run
from brain_ray.tracking.history import to_csv
from brain_ray.training.framework import framework_of

def work(config):
    run_stages(config, ["prepare"])
    run = Run(config.storage, config.name)
    for name, framework in (("tensorflow", framework_of(config.model)), ("numpy", Numpy())):
        framework.set_up(config.train, 1)
        history = undisturbed(run, config, framework).history
        replace(run, name=name).write_bytes(to_csv(history), *HISTORY)

connection.WORKER_ENV.clear()  # the nodes have it
sys.exit(run_job("", "", work, argv=sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def undisturbed(lasting: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A prepared run from which nothing was taken; beside it `tensorflow` and `numpy`, trained on its rows.

    These have a history alone, of one process that trains to the end.
    """
    storage = tmp_path_factory.mktemp("undisturbed")
    words = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    with lasting.start("-c", PREPARE_AND_TRAIN, "smoke", "--storage", str(storage), *words) as done:
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


def pausing_job(
    nodes: Nodes, notes: Path, name: str, *words: str, patience: float = 60, framework: str = "numpy"
) -> Job:
    """Start a job whose work on the nodes pauses until `lose_in` lets it go on."""
    program = str(ROOT / "tests/support/pausing_job.py"), str(notes.parent), str(patience), framework
    return nodes.start(*program, job(name), *words)


def done_by(notes: Path) -> dict[str, list[str]]:
    """Return the pieces of work that each node has done, those done twice too."""
    found: dict[str, list[str]] = {}
    for note in notes.iterdir() if notes.exists() else ():
        if note.name != "lost":
            piece, node, _ = note.name.split(".")
            found.setdefault(node, []).append(piece)
    return found


def lose_in(
    nodes: Nodes, notes: Path, running: Job, pieces: int = 3, node: str = "", *, replace: bool = False
) -> str:
    """Lose the first node, or a certain one, that has done so many pieces of some work; return its id.

    More pieces are not done, on it and elsewhere, and go on only then; with `replace`, only when there is
    another node as well.
    """

    def found() -> list[str]:
        return [each for each, done in done_by(notes).items() if len(done) >= pieces and node in each]

    running.wait_until(lambda: bool(found()), f"work in {notes.name}")
    (lost, *_) = found()
    nodes.lose(lost)
    if replace:
        nodes.add(2)
    (notes / "lost").touch()
    return lost


def rows_of(run: Run, *folder: str) -> pd.DataFrame:
    table: pd.DataFrame = pq.read_table(run.path(*folder)).to_pandas()
    return table.sort_values("row_id", ignore_index=True) if "row_id" in table else table


@dataclass
class Losses:
    """What became of a pipeline that lost a node in each stage which works on nodes."""

    run: Run
    said: str
    scanned: dict[str, list[str]]
    """Blocks that each node had scanned when a second node was lost, in writing."""
    scanned_in_the_end: dict[str, list[str]]
    written: dict[str, list[str]]
    lost_in_scan: str
    lost_in_write: str
    scored: dict[str, list[str]]
    """Batches that each node had scored when one of them was lost."""
    scored_in_the_end: dict[str, list[str]]
    lost_in_score: str


LACKING = "the cluster has 2 CPUs on 2 node(s), and training asks for 2 x 1.5 CPUs for its workers"


@pytest.fixture(scope="module")
def losses(lasting: Nodes, undisturbed: Run, tmp_path_factory: pytest.TempPathFactory) -> Losses:
    """Take nodes from a pipeline: while it scans, while it writes, after an epoch, and while it scores."""
    notes, nodes = tmp_path_factory.mktemp("losses"), lasting
    run = up_to(undisturbed, notes, "phantoms")
    scans, writes, epoch, scores = (notes / name for name in ("scan", "write", "epoch1", "score"))
    epoch.mkdir()
    words = *words_for(run), "--train.num-workers", "2"
    with pausing_job(nodes, scans, "pipeline", *words, framework="tensorflow") as running:
        lost_in_scan = lose_in(nodes, scans, running, replace=True)
        assert run.finished("dataset") is None
        running.wait_until(lambda: len(done_by(writes)) > 1, "work in write")
        scanned = done_by(scans)
        # Whose memory holds the most blocks, which the writing wants again.
        lost_in_write = max(nodes.names, key=lambda name: len(scanned.get(name, [])))
        assert run.finished("dataset") is None
        # Training is refused where the room is not there when it begins.
        lose_in(nodes, writes, running, 1, lost_in_write, replace=True)
        lose_in(nodes, epoch, running, 1)
        running.wait_for(f"waits up to 60 s for room for its workers: {LACKING}")
        nodes.add(2)
        lost_in_score = lose_in(nodes, scores, running)
        scored = done_by(scores)
        said = running.finish()
    return Losses(
        run=run,
        said=said,
        scanned=scanned,
        scanned_in_the_end=done_by(scans),
        written=done_by(writes),
        lost_in_scan=lost_in_scan,
        lost_in_write=lost_in_write,
        scored=scored,
        scored_in_the_end=done_by(scores),
        lost_in_score=lost_in_score,
    )


def test_preparation_does_again_what_was_lost(losses: Losses, undisturbed: Run) -> None:
    run, scanned, again = losses.run, losses.scanned, losses.scanned_in_the_end
    first, holder = losses.lost_in_scan, losses.lost_in_write
    assert again[first] == scanned[first]
    assert again[holder] == scanned[holder]
    assert sum(map(len, again.values())) > sum(map(len, scanned.values()))
    pieces = {piece for node, done in again.items() if node != first for piece in done}
    assert set(scanned[first]) < pieces
    assert {piece for done in losses.written.values() for piece in done} == pieces
    assert run.read_json("dataset", "audit.json") == undisturbed.read_json("dataset", "audit.json")
    assert run.finished("dataset") == undisturbed.finished("dataset")
    for name in ("manifest.parquet", "rejected.parquet", "pairs.parquet", *SPLITS):
        assert_frame_equal(rows_of(run, "dataset", name), rows_of(undisturbed, "dataset", name))


def test_a_group_that_lost_its_room_waits_for_a_node(losses: Losses, undisturbed: Run) -> None:
    before, _, after = losses.said.partition("waits up to")
    assert (epochs_of(before), epochs_of(after)) == (["1"], ["2"])
    assert_same_history(losses.run, undisturbed, "tensorflow")


def test_evaluation_begins_anew(losses: Losses) -> None:
    assert "scoring begins anew, a process or node was lost" in losses.said
    assert "Traceback" not in losses.said
    found = rows_of(losses.run, "report", "predictions.parquet")
    done = dict(losses.scored_in_the_end)
    assert done.pop(losses.lost_in_score) == losses.scored[losses.lost_in_score]
    # All of it; what another node had done until the loss was noticed, twice.
    again = Counter(piece for pieces in done.values() for piece in pieces)
    assert len(again) == -(-len(found) // 4)
    assert set(again.values()) <= {1, 2}
    rows, predictor = rows_of(losses.run, "dataset", "test"), Predictor(losses.run.uri("bundle"))
    assert found["row_id"].tolist() == rows["row_id"].tolist()
    scored = predictor.predict(np.stack([predictor.prepare(data)[0] for data in rows["bytes"]]))
    names = [f"probability_{name}" for name in predictor.classes]
    assert_allclose(found[names].to_numpy(np.float32), scored.probabilities, rtol=0, atol=1e-5)


def epochs_of(said: str, epochs: int = 2) -> list[str]:
    """Return the numbers of the epochs that were said, in order."""
    return re.findall(rf"epoch (\d)/{epochs} ", said)


def assert_same_history(run: Run, undisturbed: Run, framework: str = "numpy") -> None:
    runs = run, Run(undisturbed.storage, framework)
    history, expected = (pd.read_csv(found.path("train", "history.csv")) for found in runs)
    assert history["epoch"].tolist() == expected["epoch"].tolist() == [1, 2]
    names = ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert_allclose(history[names], expected[names], rtol=1e-4, atol=1e-6)


def test_an_elastic_group_goes_on_with_fewer(nodes: Nodes, undisturbed: Run, tmp_path: Path) -> None:
    run = up_to(undisturbed, tmp_path, "dataset")
    pause = tmp_path / "notes" / "epoch1"
    pause.mkdir(parents=True)
    with pausing_job(nodes, pause, "train", *words_for(run), "--train.num-workers", "1", "2") as running:
        lose_in(nodes, pause, running, 1)
        said = running.finish()
    assert "starts with 2 of 2 workers" in said
    assert "goes on with 1 of 2 workers" in said
    assert epochs_of(said.partition("goes on with")[2]) == ["2"]
    assert_same_history(run, undisturbed)


def test_an_elastic_group_grows_where_an_epoch_ends(lasting: Nodes, undisturbed: Run, tmp_path: Path) -> None:
    """What the smaller group has trained is not trained again, but for the few steps until it is told."""
    nodes = lasting
    while len(nodes.names) > 1:
        nodes.lose(nodes.names[0])
    run = up_to(undisturbed, tmp_path, "dataset")
    settings = {"num-workers": "1 2", "epochs": 5, "batch-size": 4}
    words = [word for name, value in settings.items() for word in (f"--train.{name}", *str(value).split())]
    notes = tmp_path / "notes"
    with pausing_job(nodes, notes / "none", "train", *words_for(run), *words, framework="slow") as running:
        running.wait_until(lambda: "0 5" in steps_in(notes), "steps")
        nodes.add(2)
        said = running.finish()
    assert "starts with 1 of 2 workers" in said
    before, grown, after = said.partition("goes on with 2 of 2 workers")
    assert grown
    assert epochs_of(before, 5) + epochs_of(after, 5) == ["1", "2", "3", "4", "5"]
    taken: dict[int, Counter[int]] = {epoch: Counter() for epoch in range(5)}
    for line in steps_in(notes):
        epoch, step = map(int, line.split())
        taken[epoch][step] += 1
    first = len(epochs_of(before, 5))
    assert all(set(taken[epoch].values()) == {1} for epoch in range(first))
    assert all(set(taken[epoch].values()) == {2} for epoch in range(first + 1, 5))
    assert set(taken[first].values()) <= {2, 3}
    again = [step for step, times in taken[first].items() if times == 3]
    assert max(again, default=0) < 20, "a new group starts in the first seconds of an epoch"


def test_a_training_is_kept_before_a_machine_that_is_taken_back_goes(
    nodes: Nodes, undisturbed: Run, tmp_path: Path
) -> None:
    """It goes on from within the epoch, and none of `train.max_failures`, here none, is used up by it."""
    run = up_to(undisturbed, tmp_path, "dataset")
    settings = {"num-workers": "1 2", "epochs": 1, "batch-size": 1, "max-failures": 0}
    words = [word for name, value in settings.items() for word in (f"--train.{name}", *str(value).split())]
    notes = tmp_path / "notes"
    with pausing_job(nodes, notes / "none", "train", *words_for(run), *words, framework="slow") as running:
        running.wait_until(lambda: "0 25" in steps_in(notes), "steps")
        going = nodes.names[0]
        nodes.drain(going, 12)
        time.sleep(14)
        nodes.lose(going)
        running.wait_for("goes on with 1 of 2 workers", 60)
        said = running.finish()
    assert "starts with 2 of 2 workers" in said
    assert re.search(r"the machine of worker [01] is about to go: the state is kept within the epoch", said)
    assert re.findall(r"epoch (\d)/1 ", said) == ["1"]
    taken = Counter(int(line.split()[1]) for line in steps_in(notes))
    resumed = min(step for step, times in taken.items() if times == 3)
    assert resumed > 25
    assert resumed % 20 == 0, "where the workers agree"
    assert {taken[step] for step in range(resumed)} == {2}
    assert taken[max(taken)] == 1


def test_a_trial_is_kept_before_a_machine_that_is_taken_back_goes(
    nodes: Nodes, undisturbed: Run, tmp_path: Path
) -> None:
    """It trains in a process of its own, without Ray Train, which would tell it. No limit counts that."""
    run = up_to(undisturbed, tmp_path, "phantoms", "dataset")
    limits = {"train.max-failures": 0, "sweep.max-failures": 0}
    settings = {"train.epochs": 1, "train.batch-size": 1, "sweep.scheduler": "none", **limits}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    space = "--sweep.space", "model.dropout=grid(0.0)"
    notes = tmp_path / "notes"
    with pausing_job(
        nodes, notes / "trial", "tune", *words_for(run), *words, *space, framework="slow"
    ) as running:
        running.wait_until(lambda: "0 25" in steps_in(notes), "steps")
        going = (notes / "node").read_text()
        nodes.drain(going, 12)
        time.sleep(14)
        nodes.lose(going)
        running.wait_for("1 trials: 1 finished", 60)
    taken = Counter(int(line.split()[1]) for line in steps_in(notes))
    resumed = min(step for step, times in taken.items() if times == 2)
    assert resumed > 25
    assert resumed % 20 == 0, "where a trial looks"
    assert {taken[step] for step in range(resumed)} == {1}


def steps_in(notes: Path) -> list[str]:
    """Return the steps that `pausing_job` has noted, each as the epoch's number and its own."""
    return (notes / "steps").read_text().splitlines() if (notes / "steps").exists() else []


@pytest.mark.thorough
def test_a_sweep_that_has_lost_all_nodes_gives_up_in_time_and_a_lost_trial_is_tried_again(
    nodes: Nodes, undisturbed: Run, tmp_path: Path
) -> None:
    run = up_to(undisturbed, tmp_path, "phantoms", "dataset")
    space = "--sweep.scheduler", "none", "--sweep.space", "model.dropout=grid(0.0, 0.1)"
    words = *words_for(run), *space
    notes = tmp_path / "first" / "trial"
    with pausing_job(nodes, notes, "tune", *words, patience=1) as running:
        lose_in(nodes, notes, running, 1)
        nodes.lose(nodes.names[0])
        said = running.finish(1)
    lacking = "the cluster has 0 CPUs on 1 node(s), and training asks for 1 x 1.5 CPUs"
    assert f"waits up to 1 s for nodes: {lacking}" in said
    (error,) = [line for line in running.lines if "  error: " in line]
    assert f"error: no room for the sweep within 1 s: {lacking}" in error
    assert error.endswith("; the same command goes on from here")
    assert "Traceback" not in said

    nodes.add(2)
    nodes.add(2)
    notes = tmp_path / "then" / "trial"
    with pausing_job(nodes, notes, "tune", *words) as running:
        lost = lose_in(nodes, notes, running, 1)
        running.wait_for("2 trials: 2 finished")
    (trial,) = set(done_by(notes)[lost])
    (failed,) = [line for line in running.lines if "failed, is tried again" in line]
    assert f"  {trial} tiny 32x32" in failed
    # The first trial has the settings of the run.
    assert_same_history(trial_run(run, "000"), undisturbed)
    assert len(from_csv(trial_run(run, "001").read_bytes("train", "history.csv"))) == 2


def test_rows_are_read_again_though_tasks_that_wait_for_them_hold_all_cpus(
    nodes: Nodes, tmp_path: Path
) -> None:
    with nodes.start(str(ROOT / "tests/support/waiting_for_rows.py"), str(tmp_path)) as running:
        running.wait_for("made ")
        (made,) = [line.split()[1] for line in running.lines if line.startswith("made ")]
        nodes.lose(made)
        time.sleep(1)  # the rows are wanted again by their owner, and have no CPU yet
        (tmp_path / "lost").touch()
        running.finish()
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


@pytest.mark.thorough
def test_an_endpoint_that_lost_its_replicas_answers_again(lasting: Nodes, losses: Losses) -> None:
    nodes = lasting
    while len(nodes.names) > 1:  # so that both replicas are on the same node
        nodes.lose(nodes.names[0])
    if not nodes.names:
        nodes.add(2)
    port = free_port()
    words = "--bundle", losses.run.path("bundle"), "--port", str(port), "--cpus-per-replica", "0.5"
    with nodes.start(job("serve"), *words, "--min-replicas", "2", "--max-replicas", "2") as deployed:
        deployed.finish()
    nodes.add(2)
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
