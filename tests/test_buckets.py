"""What reads and writes a run's folder, in a bucket as on a disk; and what a storage says that refuses."""

import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs
from support.s3_server import KEYS, Server, free_port, s3_server

from brain_ray.bundle.bundle import BundleError, load_bundle
from brain_ray.config import DataConfig, PhantomConfig
from brain_ray.data.phantoms import files
from brain_ray.data.sources.find import list_source
from brain_ray.errors import RunError
from brain_ray.models.weights import fetch
from brain_ray.runs import Run
from brain_ray.storage import filesystem, subfolders

SOON_S = 10.0
"""In which a fault of a storage is known."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server("images", "runs") as running:
        yield running


@pytest.fixture(params=["environment", "query"])
def place(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URI pattern that reaches the server: by AWS_ENDPOINT_URL, or by itself."""
    if request.param == "environment":
        return "s3://{}"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    return f"s3://{{}}?{server.query}"


def test_a_run_in_a_bucket_is_a_run(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run = Run(place.format("runs/deep"), request.node.callspec.id)
    assert not run.exists()
    assert run.list_files("train") == []
    run.write_bytes(b"one", "a", "b.txt")
    run.write_bytes(b"two", "a", "b.txt")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/c.txt").write_bytes(b"three")
    run.upload(tmp_path, "a")

    there = pickle.loads(pickle.dumps(run))  # as workers get it
    assert there.read_bytes("a", "b.txt") == b"two"
    assert there.read_bytes("a", "inner", "c.txt") == b"three"
    assert there.list_folders("a") == ["inner"]
    assert there.list_files("a", suffix=".txt") == [run.path("a", "b.txt")]
    with pytest.raises(FileNotFoundError):
        run.read_bytes("a", "none.txt")

    with pytest.raises(RunError, match=r"a(\?.*)? is not complete: run jobs/train\.py"):
        run.require("a", "train")
    run.finish("a", {"seed": 1}, 2.0)
    assert there.require("a", "train") == {"seed": 1}
    run.clear("a")
    assert there.finished("a") is None
    assert not there.exists("a", "inner", "c.txt")
    run.clear("never there")


def test_an_object_that_is_not_closed_is_not_there(server: Server) -> None:
    run = Run("s3://runs", "cut")
    run.write_bytes(b"whole", "bundle", "bundle.json")
    stream = run.fs.open_output_stream(run.path("bundle", "model.onnx"))
    stream.write(b"half")
    assert not run.exists("bundle", "model.onnx")
    assert run.finished("bundle") is None
    stream.close()


def test_nothing_is_written_above_a_run(server: Server) -> None:
    """Whoever may write `team/run/` only, may not write the object that stands for `team/`."""
    run = Run("s3://runs/team", "only")
    run.write_json({}, "config.json")
    run.clear("dataset")
    run.fs.create_dir(run.path("dataset", "train"), recursive=True)
    assert "team/" not in server.objects("runs")
    assert "team/only/dataset/train/" in server.objects("runs"), "which stands for an empty folder"


def test_images_are_found_in_a_bucket_as_on_a_disk(place: str, tmp_path: Path) -> None:
    phantoms = PhantomConfig(train_per_class=3, test_per_class=2, copies=0, conflicts=0, faults=0)
    files.write_tree(tmp_path, phantoms, DataConfig().classes, 1)
    Run(place.format("images"), "tree").upload(tmp_path)
    ours = list_source(place.format("images/tree"), DataConfig()).files.drop(columns="mtime_ns")
    assert ours.equals(list_source(str(tmp_path), DataConfig()).files.drop(columns="mtime_ns"))
    deeper = list_source(place.format("images/tree/Training"), DataConfig()).files
    assert len(deeper) == 12
    with pytest.raises(RunError, match=r"s3://images/none\S* is not a folder: set --data\.source"):
        list_source(place.format("images/none"), DataConfig())


def test_weights_are_brought_from_a_bucket(place: str) -> None:
    run = Run(place.format("runs"), "weights")
    run.write_bytes(b"weights", "b0.weights.h5")
    with fetch(run.uri("b0.weights.h5")) as file:
        assert file.name == "b0.weights.h5"
        assert file.read_bytes() == b"weights"
    assert not file.exists()
    with pytest.raises(RunError, match="cannot read the weights file s3://runs/weights/none"):
        fetch(run.uri("none.weights.h5")).__enter__()


# --- faults


def refused(location: str) -> list[str]:
    """What is said, each time within the time, by all that may come first to a storage."""
    run, said = Run(location, "first"), []
    for work in (
        lambda: run.write_json({}, "config.json"),
        lambda: run.clear("dataset"),
        lambda: run.finished("dataset"),
        lambda: list_source(location, DataConfig()),
        lambda: load_bundle(location),
        lambda: fetch(location).__enter__(),
    ):
        start = time.monotonic()
        try:
            work()
        except RunError as error:
            said.append(str(error))
        assert time.monotonic() - start < SOON_S
    assert all("\n" not in text and "s3://" in text for text in said)
    return said


def test_a_bucket_that_is_not_there_is_named_and_not_made(server: Server) -> None:
    before = server.buckets()
    said = refused("s3://nowhere/runs")
    assert said[0].startswith("cannot write s3://nowhere/runs/first/config.json: AWS Error NO_SUCH_BUCKET")
    assert said[0].endswith("; make the bucket first, or correct its name")
    assert len(said) == 5, "but for `finished`: it is not"
    with pytest.raises(OSError, match="Bucket 'nowhere' not found"):
        filesystem("s3://nowhere/runs")[0].create_dir("nowhere/runs", recursive=True)
    assert server.buckets() == before


def test_wrong_keys_are_told(server: Server) -> None:
    with server.refusing_keys():
        said = refused("s3://runs/deep")
    assert len(said) == 6
    assert said[0].startswith(
        "cannot write s3://runs/deep/first/config.json: AWS Error INVALID_ACCESS_KEY_ID"
    )
    for text in said:
        assert "see that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile" in text


def test_a_server_that_is_not_there_is_told_soon(server: Server) -> None:
    said = refused(f"s3://runs/deep?endpoint_override=127.0.0.1:{free_port()}&scheme=http")
    assert len(said) == 6
    for text in said:
        assert "AWS Error NETWORK_CONNECTION" in text
        assert "see that the server runs, and where AWS_ENDPOINT_URL or the URI's endpoint_override" in text


def test_a_query_that_means_nothing_is_told() -> None:
    with pytest.raises(RunError, match=r"after its \? or #.*\?NAME=SECRET.*known to be none: .*region"):
        Run("s3://runs/deep?nonsense=1", "first").exists()


def test_a_place_without_a_bundle_is_told(place: str) -> None:
    with pytest.raises(BundleError, match="no bundle at s3://runs/none"):
        load_bundle(place.format("runs/none"))


# --- other storages


def test_a_file_uri_is_a_folder(tmp_path: Path) -> None:
    run = Run(f"file://{tmp_path}/my%20runs", "first")
    run.write_json({"a": 1}, "x", "y.json")
    assert (tmp_path / "my runs/first/x/y.json").exists()
    assert Run(str(tmp_path / "my runs"), "first").read_json("x", "y.json") == {"a": 1}
    run.clear("x")
    assert run.list_files("x") == []


@pytest.mark.parametrize("storage", ["gs://bucket/deep", "gs://anonymous@bucket/deep"])
def test_google_cloud_storage_is_opened_as_such(storage: str) -> None:
    """Without a word to it: no server stands in for it here."""
    run = pickle.loads(pickle.dumps(Run(storage, "first")))
    assert run.fs.type_name == "gcs"
    assert run.path("bundle", "bundle.json") == "bucket/deep/first/bundle/bundle.json"
    assert run.uri("bundle") == f"{storage}/first/bundle"


def test_folders_are_found_where_only_what_is_in_them_is_listed(tmp_path: Path) -> None:
    """As in Google Cloud Storage, of what was uploaded by other tools."""

    class Listing:
        type_name = "gcs"

        def get_file_info(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
            assert selector.recursive
            infos = fs.LocalFileSystem().get_file_info(selector)
            return [info for info in infos if info.type == fs.FileType.File]

    for name in ("glioma/inner/a.jpg", "notumor/b.jpg", "c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert subfolders(Listing(), str(tmp_path)) == ["glioma", "notumor"]
    assert subfolders(fs.LocalFileSystem(), str(tmp_path)) == ["glioma", "notumor"]
    assert subfolders(fs.LocalFileSystem(), str(tmp_path / "none")) == []


def test_keys_are_not_in_what_workers_get(server: Server) -> None:
    run = Run("s3://runs/deep", "first")
    run.exists()
    assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in pickle.dumps(run)
