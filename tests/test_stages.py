"""What the stages of a run depend on."""

from pathlib import Path
from typing import Any

import pytest

from brain_ray.config import Config, DataConfig, PhantomConfig, TrainConfig
from brain_ray.data import identity
from brain_ray.data.dataset import read_table
from brain_ray.data.phantoms.files import write_tree
from brain_ray.fingerprints import differences, flatten
from brain_ray.pipeline import run_stage
from brain_ray.runs import AUDIT, DATASET, DATASET_MANIFEST, Run
from brain_ray.stages import STAGES, prepare_stage


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


def test_a_source_is_listed_once_whatever_becomes_of_its_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    source, listed, original = tmp_path / "source", list[str](), identity.list_source

    def list_and_count(*args: Any, **settings: Any) -> Any:
        listed.append("")
        return original(*args, **settings)

    monkeypatch.setattr(identity, "list_source", list_and_count)
    write_tree(source, PhantomConfig(train_per_class=6, test_per_class=2), DataConfig().classes, seed=1)
    run, config = Run(str(tmp_path), "run"), Config(data=DataConfig(source=str(source)))

    def prepare() -> int:
        listed.clear()
        run_stage(prepare_stage(), run, config, lambda: None)
        assert run.finished(DATASET) is not None
        return len(listed)

    first = min(source.rglob("*.jpg"))
    assert prepare() == 1
    assert prepare() == 1, "complete and unchanged"
    first.touch()
    assert prepare() == 1, "read, and the same"
    first.unlink()
    assert prepare() == 1, "prepared anew"
    assert str(first.relative_to(source)) not in read_table(run, *DATASET_MANIFEST)["path"].tolist()
