"""The run folder: atomic writes, stage markers, and clear errors."""

import math
import re
from pathlib import Path

import pytest
from pyarrow import fs

import brain_ray
from brain_ray.errors import RunError, printable
from brain_ray.fingerprints import differences
from brain_ray.runs import MARKER, Run
from brain_ray.storage import filesystem, refuse_keys, refuse_keys_in


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
            raise OSError(f"killed before {path} was emptied: ACCESS_DENIED")

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


@pytest.mark.parametrize(
    "text",
    [
        "gs://anonymous@bucket/runs",
        "s3://bucket/a:b@c",
        "s3://bucket/runs?region=eu&scheme=http&endpoint_override=localhost:9000",
        "http://host:5000/x",
        "http://[::1]:5000",
        "https://host/#/experiments/0",
        "file:///home/a:b@c/x",
        "sqlite:////home/a:b@c.db",
        "postgresql://me@host/runs",
        "abfs://container@account.dfs.core.windows.net/runs",
        "hdfs://me@host:9000/runs/a@b",
        "/data/a@b:c",
        "C:/me@home/x",
        "imagenet",
    ],
)
def test_what_only_looks_like_keys_is_not_refused(text: str) -> None:
    refuse_keys(text)


SECRET = "hidden"
ODD = ("", "/", "/x/", "@", "+/==", "?", "#", ":", "%2F", "%40", ";a=b", " ", "\n")
SHAPES = [SECRET + odd for odd in ODD] + [odd + SECRET for odd in (*"/@?#:%", "12/", "12:")]
"""Secrets that hold what has a meaning in URIs, before and behind a part that no text may show."""


@pytest.mark.parametrize("secret", SHAPES)
def test_a_key_of_any_shape_is_refused_and_not_told(secret: str) -> None:
    places = [
        f"s3://AKIA:{secret}@bucket/runs",
        f"S3://AKIA:{secret}@bucket",
        f"s3:/AKIA:{secret}@bucket",
        f"s3://:{secret}@bucket/runs?region=eu",
        f"gs://me:{secret}@bucket",
        f"abfs://account:{secret}@container.dfs.core.windows.net/runs",
        f"https://me:{secret}@server:5000/x",
        f"https://{secret}@server",
        f"postgresql+psycopg2://me:{secret}@server/db",
        f"s3://bucket/runs?access_key=AKIA&secret_key={secret}",
        f"s3://bucket/runs?region=eu&endpoint_override=AKIA:{secret}%40minio:9000",
        f"https://account.blob.core.windows.net/c?sv=2022&sig={secret}",
        f"https://server/x?token={secret}",
        f"https://server/x?%74oken={secret}",
        f"https://server/x#access_token={secret}",
        f"https://server/x?{secret}",
        f"--storage=s3://AKIA:{secret}@bucket",
        f"['s3://AKIA:{secret}@bucket']",
    ]
    for place in places:
        with pytest.raises(RunError) as refused:
            refuse_keys(place)
        assert SECRET not in str(refused.value), place
        with pytest.raises(RunError) as opened:
            filesystem(place)
        assert SECRET not in str(opened.value), place


def test_a_command_line_is_looked_at_word_by_word() -> None:
    refuse_keys_in(["pipeline", "b0", "--url", "https://me:hidden@host", "a.png"], but="--url")
    refuse_keys_in(["--url=https://me:hidden@host", "a.png"], but="--url")
    for words, where in [
        (["s3://me:hidden@host"], "a word of the command line is a URI with keys"),
        (["b0", "--model.weights", "s3://me:hidden@host"], "model.weights is a URI with keys"),
        (["--data.export-images=s3://me:hidden@host"], "data.export_images is a URI with keys"),
        (["--s3://me:hidden@host"], "a word of the command line is a URI with keys"),
        (["--url", "https://host", "s3://me:hidden@host"], "url is a URI with keys"),
    ]:
        with pytest.raises(RunError, match=re.escape(where)) as refused:
            refuse_keys_in(words, but="--url")
        assert "hidden" not in str(refused.value)


def test_a_text_from_elsewhere_cannot_steer_a_terminal() -> None:
    said = printable("\x1b[2J\x9b2Jred\r\nerror: \u202efake\ttext\udcff", keep="\n")
    assert said == "�[2J�2Jred�\nerror: �fake�text�".replace("�", "\N{REPLACEMENT CHARACTER}")
    assert printable("Größe – 5 µm: 脳") == "Größe – 5 µm: 脳"


def test_uris_keep_their_query() -> None:
    run = Run("s3://bucket/runs?region=eu", "first")
    assert run.uri("bundle") == "s3://bucket/runs/first/bundle?region=eu"


def test_names_of_a_runs_files_stand_in_one_module() -> None:
    package = Path(brain_ray.__file__).parent
    name = re.compile(r'"(audit|bundle|result|history|config|metrics|operator|rungs|costs)\.(json|csv)"')
    apart = {  # files of a process that is started for one job, and bundle.json in a bundle
        package / "bundle" / "build.py",
        package / "bundle" / "bundle.py",
        package / "bundle" / "convert.py",
        package / "bundle" / "mirrored_answers.py",
        package / "comparison" / "cost.py",
    }
    found = {file for file in package.rglob("*.py") if name.search(file.read_text())}
    assert found <= {package / "runs.py", *apart}
