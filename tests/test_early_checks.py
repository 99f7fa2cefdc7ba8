"""What is wrong with paths, ports and run names is said before Ray starts, and leaves nothing behind."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from brain_ray.checks import locations
from brain_ray.cluster import connection
from brain_ray.config import Config, DataConfig, ModelConfig
from brain_ray.errors import RunError
from brain_ray.pipeline import run_stages
from brain_ray.runs import Run
from brain_ray.serving import serve
from brain_ray.serving.config import ServingConfig
from brain_ray.stages import TRAINED


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ray be one that would be started here, and fail where it is."""
    monkeypatch.setattr(connection, "starts_here", lambda: True)
    monkeypatch.setattr(connection, "connect", lambda: pytest.fail("Ray is started"))
    monkeypatch.setattr(connection, "start_or_join", lambda *_: pytest.fail("Ray is started"))


def config(storage: Path, **more: object) -> Config:
    return Config.model_validate({"storage": str(storage), **more})


def test_a_wrong_folder_of_images(tmp_path: Path) -> None:
    wanted = config(tmp_path / "runs", data=DataConfig(source=str(tmp_path / "mri")))
    with pytest.raises(RunError, match=r"^data: .*/mri is not a folder: set --data\.source"):
        run_stages(wanted, TRAINED)
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_images_without_the_classes(tmp_path: Path) -> None:
    (tmp_path / "mri" / "Training").mkdir(parents=True)
    wanted = config(tmp_path / "runs", data=DataConfig(source=str(tmp_path / "mri")))
    with pytest.raises(RunError, match=r"^data: .*missing \['glioma'"):
        run_stages(wanted, ["prepare"])
    assert not (tmp_path / "runs").exists()


def test_a_wrong_file_of_weights(tmp_path: Path) -> None:
    wanted = config(tmp_path / "runs", model=ModelConfig(weights=str(tmp_path / "b0.h5")))
    with pytest.raises(RunError, match=r"^weights: there is no file .*/b0\.h5"):
        run_stages(wanted, TRAINED)
    assert not (tmp_path / "runs").exists()


def test_a_file_for_a_storage(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunError, match=r"^storage: .*/runs is a file: set --storage to a folder"):
        run_stages(config(tmp_path / "runs"), TRAINED)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_storage_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match=r"^storage: .* cannot be written to: set --storage elsewhere"):
        run_stages(config(tmp_path / "runs"), TRAINED)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("train", r"dataset is not complete: run jobs/prepare\.py for this run first"),
        ("export", r"train is not complete: run jobs/train\.py for this run first"),
        ("evaluate", r"bundle is not complete: run jobs/export\.py for this run first"),
    ],
)
def test_a_run_that_there_is_not(stage: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=said):
        run_stages(config(tmp_path / "runs", name="nosuchrun"), [stage])
    assert not (tmp_path / "runs").exists()


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = ServingConfig(bundle=str(tmp_path), port=taken.getsockname()[1])
        with pytest.raises(RunError, match=r"cannot listen on 127\.0\.0\.1:\d+: .*; choose another --port"):
            serve.launch(wanted)


def test_a_probe_leaves_no_folder_of_a_run_that_there_was_not(tmp_path: Path) -> None:
    run = Run(str(tmp_path), "new")
    assert locations.try_storage(run, "mark") == ""
    locations.end_probe(run)
    assert not (tmp_path / "new").exists()
    run.write_bytes(b"{}", "config.json")
    assert locations.try_storage(run, "mark") == ""
    locations.end_probe(run)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["config.json"]


def test_all_of_that_takes_no_ray_either(tmp_path: Path) -> None:
    """The same by a job, whose Ray would leave a token."""
    done = subprocess.run(
        [sys.executable, "-m", "brain_ray", "prepare", "b0", "--data.source", "nowhere"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{tmp_path}/nowhere is not a folder: set --data.source" in done.stderr
    assert not (tmp_path / ".ray").exists()
    assert not (tmp_path / "runs").exists()
