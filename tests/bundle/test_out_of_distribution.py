"""Pictures that are nothing like the training images are told from those that are."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support.models import FACTS, inputs_of, no_heads, phantom_inputs

from brain_ray.bundle.build import export_bundle
from brain_ray.bundle.convert import make_models
from brain_ray.bundle.out_of_distribution import OutOfDistributionDetector, threshold
from brain_ray.bundle.predictor import Predictor
from brain_ray.config import Config, ModelConfig
from brain_ray.data import decoding
from brain_ray.models.network import build_network

SHARED = Path(__file__).parents[3] / "shared"
REAL = SHARED / "data/brain-mri"
WEIGHTS = SHARED / "weights/efficientnetb0_notop.weights.h5"


def test_the_distance_is_mahalanobis_and_survives_its_file() -> None:
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(5, 5))
    points = (rng.normal(size=(4000, 5)) @ mixing + 3).astype(np.float32)
    fitted = OutOfDistributionDetector.fit(points)
    away = points[:20] - points.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(np.cov(points.T)), away))
    np.testing.assert_allclose(fitted.distance(points[:20]), expected, rtol=0.02)  # it is shrunk a little
    again = OutOfDistributionDetector.from_bytes(fitted.to_bytes())
    np.testing.assert_array_equal(again.distance(points), fitted.distance(points))
    assert fitted.to_bytes() == fitted.to_bytes()


def test_fewer_images_than_statistics_and_constant_ones_can_be_fitted() -> None:
    points = np.random.default_rng(1).normal(size=(6, 20)).astype(np.float32)
    points[:, 3] = 7
    fitted = OutOfDistributionDetector.fit(points)
    far = points + np.eye(20, dtype=np.float32)[3] * 5
    assert np.isfinite(fitted.distance(points)).all()
    assert (fitted.distance(far) > fitted.distance(points)).all()


def test_the_threshold_keeps_the_share_asked_for() -> None:
    distances = np.arange(1, 201, dtype=np.float32)
    assert threshold(distances, 0.99) == 198
    assert threshold(distances[:50], 0.99) == 50  # of few, all
    assert threshold(distances, 1.0) == 200
    assert threshold(np.zeros(4, np.float32), 0.99) > 0


def refused(predictor: Predictor, inputs: NDArray[np.uint8]) -> float:
    return predictor.decide(predictor.predict(inputs)).count("not_mr") / len(inputs)


def test_phantoms_pass_and_other_pictures_do_not(phantom_bundle: Path) -> None:
    predictor = Predictor(phantom_bundle, threads=1)
    assert refused(predictor, phantom_inputs(64, 64, range(500, 600))) <= 0.1
    for kind, pictures in no_heads().items():
        assert refused(predictor, inputs_of(pictures, 64, 64)) >= 0.9, kind


def photographs(count: int) -> list[NDArray[np.uint8]]:
    """Parts of scikit-learn's two photographs."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(4)
    whole = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in load_sample_images().images]
    found = []
    for k in range(count):
        image = whole[k % 2]
        side = int(rng.integers(100, min(image.shape)))
        top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape)
        found.append(image[top : top + side, left : left + side])
    return found


@pytest.mark.slow
def test_real_slices_pass_and_photographs_do_not(tmp_path: Path) -> None:
    if not (REAL.is_dir() and WEIGHTS.is_file()):
        pytest.skip("no real images at ../shared/data/brain-mri, or no weights in ../shared/weights")
    side = 96

    def read(folder: str, step: int) -> NDArray[np.uint8]:
        paths = sorted((REAL / folder).rglob("*.jpg"))[::step]
        return inputs_of([decoding.decode(path.read_bytes()) for path in paths], side, side)

    settings = ModelConfig(weights=str(WEIGHTS), height=side, width=side)  # ImageNet's, as they are
    weights = [np.asarray(weight) for weight in build_network(settings, 4, seed=1).weights]
    learned, tests = read("Training", 8), read("Testing", 2)
    valid, training = learned[::3], np.delete(learned, np.s_[::3], axis=0)
    labels = np.arange(len(valid)) % 4  # the head knows nothing: they do not matter
    config = Config(name="real", model=settings)
    export_bundle(tmp_path / "bundle", config, weights, valid, labels, training, FACTS, make_models)
    predictor = Predictor(tmp_path / "bundle")
    assert refused(predictor, tests) <= 0.03
    assert refused(predictor, inputs_of(photographs(60), side, side)) >= 0.95
    for kind, pictures in no_heads().items():
        assert refused(predictor, inputs_of(pictures, side, side)) >= 0.95, kind
