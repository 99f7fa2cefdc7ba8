"""What the stages of a run depend on."""

from pathlib import Path
from typing import Any

import pytest

from brain_ray.config import Config, TrainConfig
from brain_ray.fingerprints import differences, flatten
from brain_ray.runs import AUDIT, DATASET, Run
from brain_ray.stages import STAGES


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(str(tmp_path), "run")
    run.write_json({"id": "some rows"}, *AUDIT)
    run.finish(DATASET, {}, 1.0)
    return run


def changes(run: Run, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Name what training depends on in two groups of its settings, where it differs."""
    depends = (STAGES["train"].inputs(run, Config(train=TrainConfig(**each))) for each in (before, now))
    return differences(*map(flatten, depends))


def test_workers_are_no_reason_to_train_again_unless_they_decide_what_a_step_is(run: Run) -> None:
    assert changes(run, {}, {"num_workers": 4}) == []
    scaled = {"scale_batch": True}
    assert changes(run, scaled, scaled | {"num_workers": 4}) == ["train.num_workers: 1 -> 4"]
    assert changes(run, scaled | {"num_workers": (1, 4)}, scaled | {"num_workers": (2, 4)}) == []
