"""The job that classifies files: what it leaves behind."""

import subprocess
import sys
from pathlib import Path

from running import picture
from starting import ROOT, environment_of


def predict(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run jobs/predict.py as somebody at home in a folder, whose temporary folder is beside it."""
    temporary = home.parent / "tmp"
    for folder in (home, temporary):
        folder.mkdir(exist_ok=True)
    environment = environment_of(home, TMPDIR=str(temporary))
    environment.pop("ORT_DISABLE_TELEMETRY", None)  # this test's own process may have set it
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "predict.py"), *words],
        env=environment,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_prediction_leaves_no_file_behind(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    done = predict(tmp_path / "home", "--bundle", str(bundle), "a.png")
    assert (done.returncode, done.stderr) == (0, "")
    left = [path for folder in ("home", "tmp") for path in (tmp_path / folder).rglob("*")]
    assert not left, "of ONNX Runtime's telemetry, for one: a device id, a queue and a session"
