"""The run folder: atomic writes, stage markers, and clear errors."""

import math
from pathlib import Path

import pytest
from pyarrow import fs

from brain_ray.runs import MARKER, Run, RunError, differences, filesystem, refuse_keys


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path), "first")


def test_a_write_replaces_the_file_whole(run: Run, tmp_path: Path) -> None:
    run.write_bytes(b"one", "a", "b.txt")
    run.write_bytes(b"two", "a", "b.txt")
    assert run.read_bytes("a", "b.txt") == b"two"
    assert [path.name for path in (tmp_path / "first" / "a").iterdir()] == ["b.txt"]


def test_a_stage_counts_only_once_its_marker_is_written(run: Run) -> None:
    run.write_bytes(b"half", "bundle", "model.onnx")
    assert run.finished("bundle") is None
    with pytest.raises(RunError, match=r"bundle is not complete: run jobs/export\.py"):
        run.require("bundle", "export")
    run.finish("bundle", {"seed": 1}, 2.0)
    assert run.finished("bundle") == {"seed": 1}


def test_clearing_takes_the_marker_first(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(fs.SubTreeFileSystem):  # type: ignore[misc]
        def delete_dir_contents(self, path: str, **_: object) -> None:
            raise OSError(f"killed before {path} was emptied")

    run.write_bytes(b"x", "dataset", "part.parquet")
    run.finish("dataset", {}, 1.0)
    opened = (Killed("/", fs.LocalFileSystem()), str(tmp_path / "first"))
    monkeypatch.setitem(run.__dict__, "_opened", opened)
    with pytest.raises(RunError, match=r"cannot empty .*dataset: killed"):
        run.clear("dataset")
    assert run.exists("dataset", "part.parquet")
    assert run.finished("dataset") is None
    assert not run.exists("dataset", MARKER)


def test_json_is_strict(run: Run) -> None:
    with pytest.raises(ValueError, match="JSON"):
        run.write_json({"loss": math.nan}, "x.json")


def test_differences_are_named_by_their_setting() -> None:
    before = {"train": {"epochs": 10, "rate": 0.1}, "seed": 1}
    now = {"train": {"epochs": 12, "rate": 0.1}, "seed": 1}
    assert differences(before, now) == ["train.epochs: 10 -> 12"]


def test_storage_that_cannot_be_written_names_path_and_cause(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*file/first/a\.txt"):
        Run(str(tmp_path / "file"), "first").write_bytes(b"x", "a.txt")


def test_an_unknown_scheme_is_an_error() -> None:
    with pytest.raises(RunError, match=r"cannot open ftp://x/y.*s3://"):
        filesystem("ftp://x/y")


def test_keys_in_a_uri_are_refused_and_not_told() -> None:
    with pytest.raises(
        RunError, match=r"give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ) as refused:
        filesystem("s3://key:hidden@bucket/runs")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("uri", ["gs://anonymous@bucket/runs", "s3://bucket/a:b@c", "http://host:5000/x"])
def test_what_only_looks_like_keys_is_not_refused(uri: str) -> None:
    refuse_keys(uri)


def test_uris_keep_their_query() -> None:
    run = Run("s3://bucket/runs?region=eu", "first")
    assert run.uri("bundle") == "s3://bucket/runs/first/bundle?region=eu"
