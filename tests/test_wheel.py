"""The built wheel, installed into an environment of its own: a run without a checkout, to its report."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from support.jobs import kill_at

ROOT = Path(__file__).parents[1]

SMALL = [
    "--data.phantoms.train-per-class=12",
    "--data.phantoms.test-per-class=5",
    "--data.phantoms.copies=4",
    "--data.max-rejected=0.1",
    "--model.height=32",
    "--model.width=32",
    "--train.epochs=3",
    "--train.batch-size=8",
]
"""Settings with which `smoke` takes seconds."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of a copy of the checkout and install it; other packages are this Python's own."""
    folder = tmp_path_factory.mktemp("wheel")
    source, home = folder / "source", folder / "environment"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "brain_ray", source / "brain_ray", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--no-cache-dir"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("brain_ray-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    # As plain paths: .pth files in these folders, which may say where an editable brain_ray is, are not read.
    shared = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "shared.pth").write_text("\n".join(shared) + "\n")
    target = ["--python", str(home / "bin" / "python")]
    subprocess.run([*pip, *target, "install", *offline, "--ignore-installed", str(wheel)], check=True)
    return home


def begin(environment: Path, folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a program of the environment in an empty folder, in a process group of its own."""
    unset = ("RAY_ADDRESS", "PYTHONPATH")
    variables = {k: v for k, v in os.environ.items() if k not in unset} | {"HOME": str(folder)}
    return subprocess.Popen(
        [str(environment / "bin" / words[0]), *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=variables,
        start_new_session=True,
    )


def call(environment: Path, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of the environment in an empty folder to its end."""
    with begin(environment, folder, *words) as process:
        try:
            out, errors = process.communicate(timeout=900)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(words, process.returncode, out, errors)


def test_the_installed_command_lists_the_jobs_of_the_wheel(environment: Path, tmp_path: Path) -> None:
    where = call(environment, tmp_path, "python", "-c", "import brain_ray; print(brain_ray.__file__)")
    assert where.stdout.startswith(str(environment)), "another brain_ray than the wheel's was imported"
    done = call(environment, tmp_path, "brain-ray", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: brain-ray JOB")
    same = call(environment, tmp_path, "python", "-m", "brain_ray", "--help")
    assert same.stdout == done.stdout.replace("brain-ray", "python -m brain_ray")


def test_submitting_without_a_checkout_says_what_it_needs(environment: Path, tmp_path: Path) -> None:
    done = call(
        environment, tmp_path, "brain-ray", "submit", "train", "b0", "--address", "http://127.0.0.1:9"
    )
    assert done.returncode == 1
    assert "which is no checkout: pip install -e . in one" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.cluster
def test_the_wheel_runs_to_its_report_though_it_is_killed_in_training(
    environment: Path, tmp_path: Path
) -> None:
    command = "brain-ray", "pipeline", "smoke", *SMALL
    kill_at(begin(environment, tmp_path, *command), "epoch 1/3")
    folder = tmp_path / "runs" / "smoke"
    marker = folder / "dataset/stage.json"
    prepared = marker.stat().st_mtime_ns

    done = call(environment, tmp_path, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prepare: complete and unchanged" in done.stdout
    assert "train: goes on where it was interrupted" in done.stdout, done.stdout
    assert "epoch 1/3" not in done.stdout, "the first epoch is not trained again"
    assert marker.stat().st_mtime_ns == prepared
    history = pd.read_csv(folder / "train/history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    manifest = pq.read_table(folder / "dataset/manifest.parquet").to_pandas()
    rows = pq.read_table(folder / "dataset/test").to_pandas()
    assert rows["image_id"].is_unique
    assert len(rows) == (manifest["split"] == "test").sum()
    assert json.loads((folder / "report/metrics.json").read_text())["official"]["images"] == len(rows)
    report = folder / "report" / "report.html"
    assert report.is_file()
    assert f"report: {report}" in done.stdout

    card = (folder / "bundle" / "MODEL_CARD.md").read_text()
    use = card.partition("```python\n")[2].partition("```")[0]
    assert use.startswith("from pathlib import Path\nfrom brain_ray import Predictor\n")
    (image,) = list((folder / "bundle/canaries").glob("*.png"))[:1]
    shutil.copy(image, tmp_path / "slice.jpg")
    again = call(environment, tmp_path, "python", "-c", use.replace('"bundle"', '"runs/smoke/bundle"'))
    assert again.returncode == 0, again.stderr
    assert "glioma" in again.stdout
