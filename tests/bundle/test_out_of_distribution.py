"""Pictures that are nothing like the training images are told from those that are."""

import zipfile
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
from brain_ray.bundle.session import open_session
from brain_ray.bundle.thresholds import run_all
from brain_ray.config import Config, ModelConfig
from brain_ray.data import decoding
from brain_ray.data.phantoms import outsiders
from brain_ray.data.phantoms.files import draw
from brain_ray.models.network import build_network

SHARED = Path(__file__).parents[3] / "shared"
EARLIER = Path(__file__).parents[1] / "support/earlier/bundle.zip"
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


def test_a_shift_of_the_smallest_statistics_is_refused_like_one_of_the_largest() -> None:
    rng = np.random.default_rng(0)
    count = 128
    scales = np.exp(rng.uniform(np.log(0.02), np.log(5), count))
    mixing = rng.normal(size=(count, count)) * 0.3 / np.sqrt(count) + np.eye(count)

    def draw(images: int) -> NDArray[np.float32]:
        return ((rng.normal(size=(images, count)) @ mixing.T) * scales).astype(np.float32)

    training, valid, tests = draw(2000), draw(978), draw(1000)
    fitted = OutOfDistributionDetector.fit(training)
    furthest = threshold(fitted.distance(valid), 0.99)
    for shifted in (np.argsort(scales)[:32], np.argsort(-scales)[:32]):
        moved = tests.copy()
        moved[:, shifted] += 3 * training[:, shifted].std(axis=0)
        assert (fitted.distance(moved) > furthest).mean() >= 0.95
    assert (fitted.distance(tests) > furthest).mean() <= 0.03


def test_the_distance_does_not_depend_on_the_units_of_the_statistics() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(size=(300, 12)).astype(np.float32)
    units = np.exp(rng.uniform(-6, 6, 12)).astype(np.float32)
    plain = OutOfDistributionDetector.fit(points).distance(points)
    other = OutOfDistributionDetector.fit(points * units).distance(points * units)
    np.testing.assert_allclose(other, plain, rtol=1e-3)


def test_statistics_that_are_constant_but_for_rounding_do_not_decide() -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(400, 8)).astype(np.float32)
    points[:, 2] = 0  # a map that never fires
    points[:, 5] = 7 + rng.choice((0, 5e-7, -5e-7), 400)
    fitted = OutOfDistributionDetector.fit(points[:200])
    nudged = points[200:] + np.float32(1e-6)
    np.testing.assert_allclose(fitted.distance(nudged), fitted.distance(points[200:]), rtol=1e-3)
    for constant in (2, 5):
        fired = points[200:].copy()
        fired[:, constant] += 5
        assert fitted.distance(fired).min() > fitted.distance(points).max()


def test_a_bundle_of_an_earlier_version_measures_the_same_distances(tmp_path: Path) -> None:
    """Its detector was not standardised: it is used as it is stored."""
    with zipfile.ZipFile(EARLIER) as archive:
        archive.extractall(tmp_path)
    with np.load(tmp_path / "bundle/unlikeness.npz") as arrays:
        mean, whitening = arrays["mean"], arrays["whitening"]
    predictor = Predictor(tmp_path / "bundle", threads=1, gpu=False)
    inputs = np.stack([predictor.prepare(data)[0] for data in predictor.canaries.values()])
    session = open_session((tmp_path / "bundle/model.onnx").read_bytes(), gpu=False)
    statistics = run_all(session, inputs, "statistics")
    distances = np.sqrt(np.square((statistics - mean) @ whitening).sum(axis=1))
    expected = distances / np.float32(predictor.info["decision"]["unlikeness_threshold"])
    np.testing.assert_array_equal(predictor.predict(inputs).unlikeness, expected)
    predictor.check_canaries()


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


def test_a_group_of_many_copies_does_not_decide_the_threshold() -> None:
    distances = np.concatenate([np.arange(1, 101), np.full(900, 500)]).astype(np.float32)
    groups = np.concatenate([np.arange(100), np.full(900, 100)])  # the last is one slice, 900 times
    assert threshold(distances, 0.9) == 500
    assert threshold(distances, 0.9, groups) == 91
    assert threshold(distances, 0.99, groups) == 100
    assert threshold(distances, 1.0, groups) == 500
    names = np.char.add("patient ", groups.astype(str))
    assert threshold(distances, 0.9, names) == 91
    assert threshold(distances, 0.9, np.arange(1000)) == threshold(distances, 0.9)


def refused(predictor: Predictor, inputs: NDArray[np.uint8]) -> float:
    return predictor.decide(predictor.predict(inputs)).count("not_mr") / len(inputs)


def test_phantoms_pass_and_other_pictures_do_not(phantom_bundle: Path) -> None:
    predictor = Predictor(phantom_bundle, threads=1)
    assert refused(predictor, phantom_inputs(64, 64, range(500, 600))) <= 0.1
    for kind, pictures in no_heads().items():
        assert refused(predictor, inputs_of(pictures, 64, 64)) >= 0.9, kind


def test_changed_heads_are_refused_but_not_turned_ones(phantom_bundle: Path) -> None:
    """Statistics over whole maps hardly change if a head is turned: docs/RESULTS.md says so."""
    predictor = Predictor(phantom_bundle, threads=1)
    rng = np.random.default_rng(6)
    drawn = [draw(("glioma", "notumor")[i % 2], 11, 700 + i) for i in range(40)]
    heads = [image if image.ndim == 2 else np.ascontiguousarray(image[..., 0]) for image in drawn]
    shares = {
        name: refused(predictor, inputs_of([change(head, rng) for head in heads], 64, 64))
        for name, change in outsiders.CHANGES.items()
    }
    assert min(shares[name] for name in ("CT-like", "inverted", "cropped to a part")) >= 0.9, shares
    assert max(shares[name] for name in ("quarter turn", "upside down")) <= 0.3, shares


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
@pytest.mark.thorough
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
