"""Data, runs, bundles and weights in a bucket, as a user has them: the scores are those of a disk.

The buckets refuse every fiftieth call. The run on a disk is one of the built wheel, without a checkout.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from pyarrow import fs
from support.endpoint import PNG, picture, stop
from support.endpoint import start as serve
from support.jobs import ROOT, finish, kill_at, start
from support.s3_server import Call, Server, s3_server
from support.small_road import LEFT, small
from support.small_road import words as road_words
from support.wheel import begin, call, install

from brain_ray.bundle.predictor import Predictor
from brain_ray.config import ModelConfig
from brain_ray.data.dataset import read_table
from brain_ray.data.phantoms import files
from brain_ray.models.backbones import build_backbone
from brain_ray.runs import PREDICTIONS, Run
from brain_ray.serving.offline import predict_offline
from brain_ray.storage_for_ray import patient

pytestmark = pytest.mark.cluster

EPOCHS = 4
"""Enough to be killed among them."""

words = partial(road_words, train__epochs=EPOCHS)

IN_A_BUCKET = words("pipeline", data__source="s3://images/tree")

REFUSED_ONCE = "POST .*smoke/(report/predictions|train/checkpoint_manager)"
"""Pattern of calls that are refused besides, the first by each name."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server("images", "runs", refuse_every=50, refuse_first=REFUSED_ONCE) as running:
        yield running


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Path:
    """Images in a folder, and the same in s3://images/tree."""
    folder, config = tmp_path_factory.mktemp("tree"), small(Path("unused"))
    files.write_tree(folder, config.data.phantoms, config.data.classes, config.seed)
    Run("s3://images", "tree").upload(folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment with the built wheel."""
    return install(tmp_path_factory.mktemp("wheel"))


@contextmanager
def beside(job: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Lend a job that runs beside other ones, and tests; end it if it has not ended by itself."""
    try:
        yield job
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()


@pytest.fixture(scope="module")
def disk(
    tree: Path, environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """A folder, and the wheel's job that runs in it, without a stop, beside the one in a bucket."""
    folder = tmp_path_factory.mktemp("disk")
    command = "brain-ray", "pipeline", *words(data__source=tree)[1:]
    with beside(begin(environment, folder, *command)) as job:
        yield folder, job


@pytest.fixture(scope="module")
def begun(disk: object, server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Call]]:
    """A run in a bucket, killed in training, and what the bucket was asked for until then."""
    folder, run = tmp_path_factory.mktemp("jobs"), Run("s3://runs/deep", "smoke")
    before = len(server.calls())
    kill_at(start(folder, *IN_A_BUCKET, storage=run.storage), f"epoch 1/{EPOCHS}")
    calls = server.calls()[before:]
    assert run.finished("dataset") is not None
    assert run.finished("train") is None
    return run, calls


@pytest.fixture(scope="module")
def run(begun: tuple[Run, list[Call]], server: Server, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run, gone on with."""
    folder, run = tmp_path_factory.mktemp("jobs"), begun[0]
    server.refuse_first_again()
    said = finish(start(folder, *IN_A_BUCKET, storage=run.storage))
    assert "prepare: complete and unchanged" in said
    assert "train: goes on where it was interrupted" in said, said
    assert f"epoch 1/{EPOCHS}" not in said, "the first epoch is not trained again"
    assert re.search(r"report: s3://runs/deep/smoke/report/report\.html$", said, re.MULTILINE)
    return run


@pytest.fixture(scope="module")
def again(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    """The job that has made the run in the bucket, once more."""
    with beside(start(tmp_path_factory.mktemp("again"), *IN_A_BUCKET, storage=run.storage)) as job:
        yield job


@pytest.fixture(scope="module")
def on_disk(run: Run, disk: tuple[Path, "subprocess.Popen[str]"]) -> Run:
    """The same run on a disk, in `runs` of the folder where its job was started."""
    folder, job = disk
    said, errors = job.communicate(timeout=300)
    assert job.returncode == 0, said + errors
    run = Run(str(folder / "runs"), "smoke")
    assert f"report: {run.path('report', 'report.html')}" in said
    return run


@pytest.fixture(scope="module")
def sweep(
    tree: Path, run: Run, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Run, str, "subprocess.Popen[str]"]]:
    """A sweep's run, the URI of its weights, and its job; images, weights and the run are in buckets.

    Only the keys are in the job's environment. It begins when the other run is there.
    """
    folder, place = tmp_path_factory.mktemp("sweep"), f"s3://{{}}?{server.query}"
    weights = Run(place.format("images"), "weights")
    file = folder / "tiny.weights.h5"
    build_backbone(ModelConfig(backbone="tiny", weights="none", height=32, width=32)).save_weights(file)
    weights.write_bytes(file.read_bytes(), file.name)
    swept = Run(place.format("runs"), "swept")
    command = words(
        "tune",
        name=swept.name,
        data__source=place.format("images/tree"),
        model__weights=weights.uri(file.name),
        train__epochs=2,
        sweep__space="train.learning_rate=grid(0.003, 0.001)",
        sweep__scheduler="none",
        sweep__max_concurrent=1,
        sweep__bootstrap=200,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL")
        job = start(folder, *command, storage=swept.storage)
    with beside(job):
        yield swept, weights.uri(file.name), job


def test_a_bucket_is_asked_once_for_what_it_has(begun: tuple[Run, list[Call]]) -> None:
    """But for what it refuses: each folder of the source is listed once, and each file of the data set opened
    once, for its rows, and not for its footer before."""
    _, calls = begun
    assert sum(call.refused for call in calls) >= len(calls) // 50
    asked = [call.name for call in calls if not call.refused]
    listed = Counter(name for name in asked if name.startswith("LIST /images/"))
    assert len(listed) == 3 + 2 * 4, "the source, its two splits, and four classes in each"
    assert set(listed.values()) == {1}
    images = Counter(name for name in asked if name.startswith("GET /images/"))
    assert max(images.values()) == 2, "to be looked at, and to be written"
    written = {name.split()[1] for name in asked if re.match("PUT .*/dataset/(train|valid)/part", name)}
    assert len(written) > 2
    prepared = calls.index(("POST /runs/deep/smoke/dataset/stage.json", False))
    for part in written:
        of_part = [call for call in calls[prepared:] if call.name.endswith(part)]
        opened = sum(call.name.startswith("HEAD") for call in of_part)
        assert 1 <= opened <= 1 + sum(call.refused for call in of_part), part


def test_a_run_in_a_bucket_leaves_what_one_on_a_disk_does(run: Run, on_disk: Run, server: Server) -> None:
    for name in LEFT:
        assert run.exists(*name.split("/")), name
    ours, theirs = (read_table(each, *PREDICTIONS) for each in (run, on_disk))
    assert_frame_equal(ours, theirs, rtol=0, atol=1e-5)
    assert run.read_json("dataset", "audit.json") == on_disk.read_json("dataset", "audit.json")
    assert not [key for key in server.objects("runs") if key.endswith(".partial")]


def test_an_installed_wheel_leaves_a_whole_run_whose_card_has_an_example_that_works(
    on_disk: Run, environment: Path
) -> None:
    history = pd.read_csv(on_disk.path("train", "history.csv"))
    assert history["epoch"].tolist() == list(range(1, EPOCHS + 1))
    manifest = pq.read_table(on_disk.path("dataset", "manifest.parquet")).to_pandas()
    rows = pq.read_table(on_disk.path("dataset", "test")).to_pandas()
    assert rows["image_id"].is_unique
    assert len(rows) == (manifest["split"] == "test").sum()
    assert on_disk.read_json("report", "metrics.json")["official"]["images"] == len(rows)

    card = on_disk.read_bytes("bundle", "MODEL_CARD.md").decode()
    use = card.partition("```python\n")[2].partition("```")[0]
    assert use.startswith("from pathlib import Path\nfrom brain_ray import Predictor\n")
    folder = Path(on_disk.storage).parent
    (image,) = list(Path(on_disk.path("bundle", "canaries")).glob("*.png"))[:1]
    shutil.copy(image, folder / "slice.jpg")
    done = call(environment, folder, "python", "-c", use.replace('"bundle"', '"runs/smoke/bundle"'))
    assert done.returncode == 0, done.stderr
    assert "glioma" in done.stdout


@pytest.mark.usefixtures("again")  # which runs meanwhile
def test_a_bundle_in_a_bucket_answers_like_a_copy_of_it(
    run: Run, tree: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    fs.copy_files(run.path("bundle"), str(copy), patient(run.fs), fs.LocalFileSystem())
    folder = tree / "Testing/glioma"
    expected = predict_offline(Predictor(copy), sorted(folder.iterdir()))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    command = [sys.executable, str(ROOT / "jobs/predict.py"), "--json", str(folder)]
    place = ["--bundle", f"{run.uri('bundle')}?{server.query}"]
    done = subprocess.run([*command, *place], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for line, answer in zip(done.stdout.splitlines(), expected, strict=True):
        found = json.loads(line)
        assert found["label"] == answer.label
        assert found["probabilities"] == pytest.approx(answer.probabilities, abs=1e-6)


@pytest.mark.thorough
def test_a_bundle_in_a_bucket_is_served(run: Run, tmp_path: Path) -> None:
    endpoint = serve(run.uri("bundle"), tmp_path)
    try:
        answer = httpx.post(f"{endpoint.url}/v1/predict", content=picture(), headers=PNG, timeout=30)
        (result,) = answer.json()["results"]
        assert result["model"]["id"] == Predictor(run.uri("bundle")).id
    finally:
        stop(endpoint)


def test_what_is_complete_in_a_bucket_is_not_done_again(again: "subprocess.Popen[str]") -> None:
    said = finish(again)
    for stage in ("prepare", "train", "export", "evaluate"):
        assert f"{stage}: complete and unchanged" in said


@pytest.mark.thorough
def test_a_sweep_in_a_bucket_that_its_uri_alone_tells(
    sweep: tuple[Run, str, "subprocess.Popen[str]"],
) -> None:
    run, weights, job = sweep
    said = finish(job)
    assert "2 trials: 2 finished" in said
    assert run.exists("report", "sweep.html")
    assert not run.exists("sweep", "tune")
    info = Predictor(run.uri("bundle")).info
    assert info["sweep"]["winner"] in ("000", "001")
    assert info["config"]["model"]["weights"] == weights


def test_a_bucket_that_is_not_there_ends_a_job_in_a_line(tmp_path: Path, server: Server) -> None:
    job = start(tmp_path, *words("pipeline"), storage="s3://nowhere/runs")
    said, _ = job.communicate(timeout=120)
    assert job.returncode == 1
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "error: " in line]
    assert "cannot write s3://nowhere/runs/smoke/" in line
    assert "make the bucket first, or correct its name" in line
    assert "nowhere" not in server.buckets()
