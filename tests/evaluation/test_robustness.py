"""Test images with artefacts: which are taken, what the actor makes of them, and how the report shows it."""

import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from PIL import Image
from support.html_page import Page

from brain_ray.bundle.bundle import BundleError
from brain_ray.bundle.predictor import Predictor
from brain_ray.data.artefacts.table import NAMES, SEVERITIES, corrupt, draws_of
from brain_ray.data.decoding import decode
from brain_ray.data.phantoms import files as phantom
from brain_ray.evaluation.plots import to_png
from brain_ray.evaluation.robustness import CONDITIONS, CorruptedClassifier, choose_images
from brain_ray.evaluation.robustness_plot import robustness_curves
from brain_ray.evaluation.scoring_actors import Classifier
from brain_ray.evaluation.style import data_uri, environment
from brain_ray.scoring.robustness import Robustness, score_robustness

EARLIER = Path(__file__).parents[1] / "support/earlier/bundle.zip"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    with zipfile.ZipFile(EARLIER) as archive:
        archive.extractall(folder)
    return str(folder / "bundle")


def test_the_actor_answers_as_serving_would_answer_a_file_with_the_artefact(bundle: str) -> None:
    files = [phantom.encode(phantom.draw(name, 5, k), ".png") for k, name in enumerate(("glioma", "notumor"))]
    batch = pa.table({"row_id": [4, 9], "image_id": [14, 19], "bytes": files})
    found = CorruptedClassifier(bundle, 1, seed=3)(batch).to_pandas().set_index(["artefact", "severity"])
    assert found.columns.tolist() == ["row_id", "predicted", "decision"], "no pixels"
    assert len(found) == 2 * len(NAMES) * len(SEVERITIES)
    predictor = Predictor(bundle, 1)
    for name in ("rician_noise", "motion", "shift", "jpeg"):
        for k, number in enumerate((14, 19)):
            image = corrupt(decode(files[k]), name, 4, draws_of(3, name, number))
            served = phantom.encode(image, ".png")
            expected = predictor.predict(predictor.prepare(served)[0][np.newaxis])
            row = found.loc[[(name, 4)]].iloc[k]
            assert row["row_id"] == (4, 9)[k]
            assert row["predicted"] == expected.probabilities[0].argmax()
            assert row["decision"] == expected.decisions[0]


def test_whole_groups_are_drawn_as_far_as_they_fit() -> None:
    groups = np.repeat(np.arange(40), np.random.default_rng(1).integers(1, 7, 40))
    for seed in range(20):
        chosen = choose_images(groups, 30, seed)
        assert 25 <= len(chosen) <= 30
        assert np.array_equal(chosen, np.unique(chosen))
        assert not np.isin(np.delete(groups, chosen), groups[chosen]).any(), "none is cut"
    draws = {choose_images(groups, 30, seed).tobytes() for seed in range(20)}
    assert len(draws) == 20
    assert np.array_equal(choose_images(groups, 30, 5), choose_images(groups, 30, 5))
    assert np.array_equal(choose_images(groups, 1000, 5), np.arange(len(groups)))


def test_a_group_that_is_too_large_is_cut() -> None:
    assert len(choose_images(np.zeros(50), 20, 1)) == 20


def scores(answered: bool = True) -> Robustness:
    rng = np.random.default_rng(2)
    right = rng.random((30, len(CONDITIONS))) < 0.8
    kinds = np.full(right.shape, "answer" if answered else "not_mr")
    return score_robustness(right, kinds, CONDITIONS, np.ones(30), kinds[:, 0], np.arange(30) // 2, 1)


@pytest.mark.parametrize("answered", [True, False])
def test_the_report_shows_every_artefact(answered: bool, tmp_path: Path) -> None:
    found = scores(answered)
    (tmp_path / "plot.png").write_bytes(to_png(robustness_curves(found), 50))
    assert Image.open(tmp_path / "plot.png").size[0] == 480
    templates = environment(
        "evaluation",
        count=lambda value: f"{value:,}",
        percent=lambda value: f"{value:.2%}".replace("%", " %"),
        png=lambda data: data_uri("png", data),
    )
    told = {"robustness": found, "leak_free": None}
    page = Page(
        templates.get_template("robustness.html.jinja").render(data=told, figures={"robustness.png": b""})
    )
    assert page.open == []
    for name in NAMES:
        values = [f"{one.accuracy.value:.2%}".replace("%", " %") for one in found.artefacts[name].severities]
        assert f"{name} {' '.join(values)}" in page.text
    assert "30 test images of 15 groups" in page.text


def test_a_copy_with_a_gpu_that_it_cannot_use_does_not_start(bundle: str) -> None:
    told = r"evaluate\.gpus_per_actor is 0\.5, .* computes with CPUExecutionProvider on "
    with pytest.raises(BundleError, match=told):
        Classifier(bundle, 1, gpus=0.5)
    with pytest.raises(BundleError, match=told):
        CorruptedClassifier(bundle, 1, 3, gpus=0.5)


def test_a_copy_without_a_gpu_takes_none(bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: an ONNX Runtime that says it has one, and whose libraries nobody may load."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda **_: pytest.fail("a GPU was opened"))
    assert Classifier(bundle, 1) is not None
