"""A bundle in the layout of the Hugging Face hub, read by the hub's own library."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from brain_ray import jobs
from brain_ray.bundle.bundle import add_scores, load_bundle
from brain_ray.bundle.hub import hub_card
from brain_ray.bundle.predictor import Predictor


def write(bundle: Path, folder: Path) -> int:
    return jobs.run("register", "register.py", ["--bundle", str(bundle), "--hub-folder", str(folder)])


@pytest.fixture
def scored(bundle: Path, tmp_path: Path) -> Path:
    """A copy of a bundle with scores of two sets of test images."""
    copy = tmp_path / "scored"
    shutil.copytree(bundle, copy)
    scores = {"images": 200, "groups": 50, "accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.94}
    add_scores(str(copy), {"official": scores, "leak_free": scores | {"images": 150, "accuracy": 0.8}})
    return copy


def test_the_folder_is_a_bundle_whose_card_the_hub_understands(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "for hub"
    assert write(scored, folder) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"written: {folder}, ")
    assert told.endswith(f"  hf upload USER/NAME '{folder}'\n")
    load_bundle(folder).verify()
    predictor = Predictor(str(folder))
    predictor.check_canaries()
    card = ModelCard.load(folder / "README.md")
    info = load_bundle(scored).info
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.library_name == "onnx"
    results = card.data.eval_results
    assert results is not None
    accuracies = {one.dataset_name: one for one in results if one.metric_type == "accuracy"}
    assert [one.metric_value for one in accuracies.values()] == [info.scores.validation.accuracy, 0.9, 0.8]
    assert [one.dataset_split for one in accuracies.values()] == ["validation", "test", "test"]
    first, official, leak_free = accuracies
    assert "from which the model was chosen" in first
    assert official.endswith("200 images of 50 groups, patients where they are known")
    assert "no copy found in training or validation" in leak_free
    assert accuracies[official].metric_name == "Accuracy (95 % interval 0.8500 to 0.9400)"
    assert "**Not for clinical use.**" in card.text
    assert "brain-ray serve --bundle" in card.text
    assert "*.onnx filter=lfs" in (folder / ".gitattributes").read_text()


@pytest.mark.parametrize(
    ("licence", "found"),
    [
        (None, (None, None, None)),
        ("CC-BY-4.0", ("cc-by-4.0", None, None)),
        ("https://example.org/terms", ("other", "see-link", "https://example.org/terms")),
        ("Ours, by letter", ("other", "Ours, by letter", None)),
    ],
)
def test_the_licence_is_one_that_the_hub_knows_or_other(
    bundle: Path, licence: str | None, found: tuple[Any, ...]
) -> None:
    info = load_bundle(bundle).info
    info.config["export"]["licence"] = licence
    data = ModelCard(hub_card(info)).data
    assert (data.license, data.license_name, data.license_link) == found


def test_a_folder_with_files_is_left_alone(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "mine").touch()
    assert write(bundle, folder) == 1
    assert "is there and not empty: expected a new folder" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_changed_bundle_is_not_written_for_the_hub(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "changed"
    shutil.copytree(bundle, copy)
    info = json.loads((copy / "bundle.json").read_text())
    info["files"]["model.onnx"] = "0" * 64
    (copy / "bundle.json").write_text(json.dumps(info))
    assert write(copy, tmp_path / "hub") == 1
    assert "was changed or is incomplete" in capsys.readouterr().err


def test_words_that_do_not_go_together_are_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--hub-folder", "x", "--name", "y"], ["--hub-folder", "x", "--alias", "y"], []):
        with pytest.raises(SystemExit) as ended:
            jobs.run("register", "register.py", ["--bundle", str(bundle), *words])
        assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
