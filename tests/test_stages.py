"""What the stages of a run depend on."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from brain_ray.config import Config, DataConfig, EvaluateConfig, PhantomConfig, TrainConfig
from brain_ray.data.dataset import read_table
from brain_ray.data.phantoms.files import write_tree
from brain_ray.fingerprints import differences, flatten
from brain_ray.pipeline import run_stages
from brain_ray.runs import AUDIT, DATASET, DATASET_MANIFEST, MARKER, Run
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


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of disks that this process lists, in their order."""
    folders, scan = list[str](), os.scandir

    def note_and_scan(folder: Any = ".") -> Any:
        folders.append(str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", note_and_scan)
    return folders


@pytest.mark.parametrize("kind", ["tree", "manifest"])
def test_a_source_is_listed_once_in_a_start_whatever_becomes_of_its_data_set(
    kind: str, scanned: list[str], tmp_path: Path, ray_cluster: None
) -> None:
    source, data = tmp_path / "source", DataConfig()
    write_tree(source, PhantomConfig(train_per_class=6, test_per_class=4), data.classes, seed=1)
    folders = [f"{split}/{name}" for split in ("Training", "Testing") for name in data.classes]
    listed = source
    if kind == "manifest":
        listed = source / "images.csv"
        rows = [f"{folder}/*,{folder.partition('/')[2]},{folder.partition('/')[0]}" for folder in folders]
        listed.write_text("\n".join(["path,label,split", *rows, ""]))
    settings = data.model_copy(update={"source": str(listed), "test_fraction": 0.0})
    config = Config(data=settings, storage=str(tmp_path), name="run")
    run = Run(str(tmp_path), "run")

    def start() -> Counter[str]:
        """Prepare, with all checks before, and return how often each folder was listed."""
        scanned.clear()
        run_stages(config, ["prepare"])
        assert run.finished(DATASET) is not None
        return Counter(scanned)

    once = {str(source / folder): 1 for folder in folders}
    first = min(source.rglob("*.jpg"))
    assert once.items() <= start().items()
    assert once.items() <= start().items(), "complete and unchanged"
    first.touch()
    assert once.items() <= start().items(), "read, and the same"
    first.unlink()
    assert once.items() <= start().items(), "prepared anew"
    assert str(first.relative_to(source)) not in read_table(run, *DATASET_MANIFEST)["path"].tolist()

    second = min(source.rglob("*.jpg"))
    Path(run.path(DATASET, MARKER)).unlink()  # as if it had been killed
    second.unlink()
    assert once.items() <= start().items(), "prepared from what is there now"
    assert str(second.relative_to(source)) not in read_table(run, *DATASET_MANIFEST)["path"].tolist()


def test_without_a_test_split_it_says_what_was_asked_of_one(tmp_path: Path) -> None:
    run = Run(str(tmp_path), "smoke")
    (tmp_path / "smoke" / "dataset").mkdir(parents=True)
    config = Config.model_validate({"folds": 5})
    assert STAGES["evaluate"].work(run, config).endswith("those of its cross-validation")
    asked = config.model_copy(update={"evaluate": EvaluateConfig(outlines="o.json", robustness=True)})
    text = STAGES["evaluate"].work(run, asked)
    assert text.endswith("; evaluate.outlines and evaluate.robustness would need one, and nothing came of it")
