"""The cheap part comes first: what is wrong with places and room is said before anything is done."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.messages import messages_to

from brain_ray.checks import doctor
from brain_ray.checks.preflight import preflight
from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.pipeline import run_stages
from brain_ray.recipes import smoke
from brain_ray.runs import Run

pytestmark = pytest.mark.usefixtures("ray_cluster")


def changed(storage: Path, section: str, **values: Any) -> Config:
    config = smoke().model_copy(update={"storage": str(storage)})
    part = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: part})


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("data", {"source": "/nowhere"}, r"^data: /nowhere is not a folder: set --data\.source"),
        ("data", {"source": "s3x://bucket"}, r"^data: cannot open s3x://bucket"),
        (
            "model",
            {"weights": "/nowhere/w.weights.h5"},
            r"^weights: there is no file /nowhere/w\.weights\.h5: set --model\.weights to a file that",
        ),
        ("train", {"num_workers": 64}, r"^room: the cluster has 4 CPUs on 1 node.*lower train\.num_workers"),
        ("train", {"use_gpu": True}, r"^room: the cluster has 4 CPUs and 0 GPUs"),
        (
            "evaluate",
            {"cpus_per_actor": 4},
            r"^scoring: evaluation asks for 1 x 4 CPUs and one for reading, and there are 4 on the nodes",
        ),
        (
            "evaluate",
            {"gpus_per_actor": 1},
            r"^scoring: evaluation asks for 1 x 1 CPUs with 1 GPUs each and one for reading, and there are 4 "
            r"CPUs and 0 GPUs on the nodes: lower .*gpus_per_actor",
        ),
    ],
)
def test_what_a_run_cannot_do_without_is_missed_in_seconds(
    section: str, values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(RunError, match=said):
        run_stages(changed(tmp_path, section, **values))
    assert time.monotonic() - started < 10
    assert not (tmp_path / "smoke/dataset").exists(), "nothing was begun"
    assert not (tmp_path / "smoke/probe").exists(), "nothing is left behind"


def pictures(folder: Path, *names: str) -> str:
    """A source with three files named as images for each class in folders."""
    for name in names:
        for label in ("no", "yes"):
            (folder / name / label).mkdir(parents=True)
            for number in range(3):
                (folder / name / label / f"{number}.jpg").touch()
    return str(folder)


@pytest.mark.parametrize(
    ("folders", "values", "said"),
    [
        (
            ("Training", "test", "Testing"),
            {},
            r"^data: \S+ has several folders for the split test: Testing/, test/: say which by --data\.test",
        ),
        (
            ("Training",),
            {"test_fraction": 0.0},
            r"^data: there would be no test images to evaluate: \S+ has none, and data\.test_fraction is 0",
        ),
        (("Training",), {"export_images": "Training"}, r"^data\.export_images: \S+ is not empty"),
    ],
)
def test_what_preparation_would_refuse_is_missed_in_seconds(
    folders: tuple[str, ...], values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    source = pictures(tmp_path / "source", *folders)
    if "export_images" in values:
        values = {"export_images": f"{source}/{values['export_images']}"}
    with pytest.raises(RunError, match=said):
        run_stages(changed(tmp_path, "data", source=source, classes=("no", "yes"), **values))
    assert not (tmp_path / "smoke/dataset").exists(), "nothing was begun"


def test_a_storage_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=rf"^storage: {tmp_path}/file is a file: set --storage to a folder"):
        run_stages(changed(tmp_path / "file", "train", epochs=1))


def test_stages_are_asked_only_for_what_they_need(tmp_path: Path) -> None:
    config = changed(tmp_path, "train", use_gpu=True)
    run, lines = Run(str(tmp_path), "smoke"), list[str]()
    with messages_to(lines.append):
        preflight(run, config, ["prepare", "evaluate"])
    with messages_to(lines.append):
        preflight(run, config, [])
    assert lines == []
    with pytest.raises(RunError, match=r"^room: "), messages_to(lines.append):
        preflight(run, config, ["train"])


def test_the_doctor_says_what_a_recipe_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["smoke", "--storage", str(tmp_path / "runs"), "--train.num-workers", "64"]
    assert doctor.main("", [*words, "--json"]) == 1
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {name for name, entry in found.items() if entry["level"] == "error"} == {"room"}
    assert found["storage"]["text"] == f"{tmp_path}/runs, from 1 node"
    assert not (tmp_path / "runs/smoke").exists()
    assert doctor.main("", words[:3]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok ", "warning ")) for line in lines[:-2])
    assert lines[-1].endswith("0 error(s)")


def test_the_doctor_counts_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, images in (("Training", 3), ("Testing", 2)):
        for name in Config().data.classes:
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(images):
                (folder / f"{number}.jpg").touch()
    words = ["smoke", "--data.source", str(tmp_path / "images"), "--storage", str(tmp_path / "runs")]
    assert doctor.main("", words) == 0
    assert "files          12 for train, 8 for test, in 4 classes" in capsys.readouterr().out


def test_a_wrong_command_line_is_no_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main("", ["smokey"]) == 2
    assert "unknown recipe 'smokey'; did you mean smoke?" in capsys.readouterr().err
