"""What a job takes to the cluster: all that it needs, and little else, whatever lies about beside it."""

import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

from brain_ray.checks.upload_size import MB, check_upload, upload_files

ROOT = Path(__file__).parents[2]
NEEDED = ("constraints.txt", "pyproject.toml", "README.md", "jobs/pipeline.py", "brain_ray/pipeline.py")


def pack(folder: Path, target: Path) -> tuple[set[str], int]:
    """Have Ray make the package that `--working-dir folder` uploads; return its files and its bytes."""
    create_package(str(folder), target, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    with ZipFile(target) as package:
        return {name for name in package.namelist() if not name.endswith("/")}, target.stat().st_size


@pytest.fixture
def cluttered(tmp_path: Path) -> Path:
    """A copy of the checkout with what comes to lie in one: data, runs, models, notes."""
    copy = tmp_path / "checkout"
    tracked = ("jobs", "brain_ray", "docs", "tests/checks", ".rayignore", ".gitignore", *NEEDED[:3])
    for name in tracked:
        source, target = ROOT / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    for name in (
        "runs/first/bundle/model.onnx",
        "data/Training/glioma/1.jpg",
        "images/1.png",
        ".venv/lib/x.so",
        "notes.ipynb",
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(bytes(4 * MB))
    return copy


def test_the_package_holds_what_a_job_needs_and_is_small(tmp_path: Path) -> None:
    files, size = pack(ROOT, tmp_path / "package.zip")
    assert size < 4 * MB
    tracked = subprocess.run(
        ["git", "ls-files", "jobs", "brain_ray"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name for name in tracked if (ROOT / name).exists()} <= files
    assert files.issuperset(NEEDED)


def test_nothing_else_goes_along(cluttered: Path, tmp_path: Path) -> None:
    files, size = pack(cluttered, tmp_path / "package.zip")
    assert size < 4 * MB
    assert files.issuperset(NEEDED)
    assert {name.partition("/")[0] for name in files} == {"brain_ray", "jobs", *NEEDED[:3]}
    assert not any("__pycache__" in name for name in files)


def test_the_size_is_that_of_the_package(cluttered: Path, tmp_path: Path) -> None:
    files, size = pack(cluttered, tmp_path / "package.zip")
    assert {str(path) for path in upload_files(cluttered)} == files
    assert sum(upload_files(cluttered).values()) == pytest.approx(
        size, rel=0.05
    )  # headers are the rest: nothing is compressed


def test_a_small_upload_is_fine() -> None:
    found = check_upload(ROOT)
    assert (found.name, found.level) == ("upload", "ok")


def test_a_large_one_is_a_warning_that_names_the_largest_files(cluttered: Path) -> None:
    for index in range(4):
        (cluttered / "brain_ray" / f"weights-{index}.bin").write_bytes(bytes((index + 1) * MB))
    found = check_upload(cluttered)
    assert found.level == "warning"
    assert (
        "the largest: brain_ray/weights-3.bin (4.0 MB), brain_ray/weights-2.bin (3.0 MB), brain_ray/weights-1"
        in found.text
    )
    assert ".rayignore" in found.cure


def test_one_over_the_limit_is_an_error(cluttered: Path) -> None:
    (cluttered / "brain_ray" / "weights.bin").write_bytes(bytes(6 * MB))
    found = check_upload(cluttered, limit=6 * MB)
    assert found.level == "error"
    assert "Ray takes less than 6 MB" in found.text
