"""What importing brain_ray costs, and how small its jobs are; who may import whom is in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "brain_ray"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def test_importing_every_module_loads_no_tensorflow_and_starts_no_ray() -> None:
    names = [f"brain_ray.{name_of(path)}" for path in MODULES if name_of(path)]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        "import ray; assert not ray.is_initialized()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_small_actors_of_a_training_start_without_pandas() -> None:
    code = (
        "import sys, brain_ray.loading.store, brain_ray.training.run_actor\n"
        "assert 'pandas' not in sys.modules and 'rich' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted((PACKAGE.parent / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_jobs_parse_call_and_print(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 40
