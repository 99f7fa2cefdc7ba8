"""Benchmarks of preparation know each step that it tells."""

import runpy
from pathlib import Path

from brain_ray.config import Config, DataConfig, PhantomConfig
from brain_ray.data.phantoms.files import write_tree
from brain_ray.data.prepare import prepare
from brain_ray.runs import Run

STEPS = Path(__file__).parents[1] / "benchmarks" / "steps.py"


def test_each_step_that_preparation_tells_has_a_column(tmp_path: Path, ray_cluster: None) -> None:
    source = tmp_path / "tree"
    write_tree(source, PhantomConfig(train_per_class=6, test_per_class=2), DataConfig().classes, seed=1)
    steps = runpy.run_path(str(STEPS))
    with steps["timed"]() as seconds:
        prepare(Run(str(tmp_path / "runs"), "run"), Config(data=DataConfig(source=str(source))))
    assert set(seconds) == set(steps["STEPS"].values())
    assert all(value > 0 for value in seconds.values())
