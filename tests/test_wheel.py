"""The built wheel, installed into an environment of its own; tests/test_storage.py runs its pipeline."""

from pathlib import Path

import pytest
from support.wheel import call, install


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment's folder."""
    return install(tmp_path_factory.mktemp("wheel"))


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


def test_the_wheel_holds_the_registry_of_known_sets(environment: Path, tmp_path: Path) -> None:
    look = (
        "from brain_ray.data.registry.store import shipped; print(len(shipped().entries), *shipped().about)"
    )
    assert call(environment, tmp_path, "python", "-c", look).stdout == "3064 figshare-1512427\n"
