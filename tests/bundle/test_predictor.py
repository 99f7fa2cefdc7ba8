"""The predictor: from an image's bytes to probabilities, without TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.models import noise

from brain_ray.bundle.bundle import BundleError
from brain_ray.bundle.predictor import Prediction, Predictor
from brain_ray.bundle.schema import BundleInfo
from brain_ray.bundle.session import open_session
from brain_ray.bundle.thresholds import fit_thresholds
from brain_ray.config import Config, DataConfig, ExportConfig
from brain_ray.data.decoding import ImageError
from brain_ray.data.transforms import Box
from brain_ray.input_spec import InputSpec
from brain_ray.models.alignment import map_shift
from brain_ray.models.network import build_network
from brain_ray.scoring.calibration import calibrate


@pytest.fixture(scope="module")
def predictor(exported: tuple[Path, BundleInfo]) -> Predictor:
    return Predictor(str(exported[0]), threads=1)


def encoded(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def test_it_brings_what_the_bundle_says(predictor: Predictor, exported: tuple[Path, BundleInfo]) -> None:
    info = exported[1]
    assert predictor.classes == ("a", "b", "c")
    assert predictor.spec == InputSpec(height=48, width=40, fit="stretch", crop_size=None)
    assert predictor.crop == info.crop
    assert predictor.temperature == info.temperature != 1
    assert predictor.info == info.model_dump(mode="json")
    assert (predictor.name, predictor.sha256) == ("trial", info.files["model.onnx"])
    assert predictor.id == f"trial-{predictor.sha256[:12]}"
    assert predictor.abstain_below == info.decision.abstain_below
    assert predictor.card == (exported[0] / "MODEL_CARD.md").read_text()
    assert set(predictor.canaries) == {f"{kind}.png" for kind in DataConfig().classes}
    for data in predictor.canaries.values():
        assert predictor.prepare(data)[2]


def test_it_answers_as_the_keras_file_does(predictor: Predictor, exported: tuple[Path, BundleInfo]) -> None:
    keras = pytest.importorskip("keras")
    model = keras.models.load_model(exported[0] / "model.keras", compile=False)
    inputs = noise(6, seed=4)
    found = predictor.predict(inputs)
    expected = np.asarray(model(inputs.astype(np.float32), training=False))
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-4  # images do differ
    np.testing.assert_allclose(found.calibrated, calibrate(expected, predictor.temperature), atol=1e-4)
    assert (found.probabilities.dtype, found.calibrated.dtype) == (np.float32, np.float32)
    assert (found.probabilities.argmax(axis=1) == found.calibrated.argmax(axis=1)).all()


def test_bytes_and_floats_one_by_one_and_together_give_the_same(predictor: Predictor) -> None:
    inputs = noise(5)
    together = predictor.predict(inputs).probabilities
    np.testing.assert_array_equal(predictor.predict(inputs.astype(np.float32)).probabilities, together)
    alone = [predictor.predict(inputs[i : i + 1]).probabilities[0] for i in range(5)]
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_an_image_alone_gives_the_same_with_more_threads(bundle: Path) -> None:
    predictor = Predictor(bundle, threads=1, threads_alone=2)
    predictor.check_canaries()
    images = np.stack([predictor.prepare(data)[0] for data in predictor.canaries.values()])
    for k in range(len(images)):
        one, other = (predictor.predict(images[k : k + 1], alone) for alone in (False, True))
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)
        np.testing.assert_allclose(one.unlikeness, other.unlikeness, rtol=1e-4)
        assert one.decisions == other.decisions


def test_no_images_give_no_answers_and_wrong_shapes_an_error(predictor: Predictor) -> None:
    nothing = predictor.predict(noise(0))
    assert nothing.calibrated.shape == (0, 3)
    assert (nothing.feature_maps.shape, nothing.unlikeness.shape) == ((0, 2, 2, 64), (0,))
    assert predictor.decide(nothing) == []
    assert predictor.explain(nothing.feature_maps, []).shape == (0, 2, 2)
    with pytest.raises(ValueError, match=r"\(2, 40, 48, 1\): expected \(n, 48, 40, 1\)"):
        predictor.predict(noise(2, 40, 48))


def test_an_image_is_cropped_to_its_head(predictor: Predictor) -> None:
    image = np.zeros((100, 120), np.uint8)
    image[20:70, 30:90] = 200
    inputs, box, has_box = predictor.prepare(encoded(image))
    assert (inputs.shape, inputs.dtype) == ((48, 40, 1), np.uint8)
    assert has_box
    assert box == Box(19, 71, 29, 91)  # the blur adds one pixel
    inputs, box, has_box = predictor.prepare(encoded(np.zeros((100, 120), np.uint8)))
    assert not has_box
    assert box == Box(0, 100, 0, 120)
    with pytest.raises(ImageError, match="not an image"):
        predictor.prepare(b"no image at all")


@pytest.mark.parametrize("name", ["model.onnx", "explain.onnx", "unlikeness.npz", "canaries/notumor.png"])
def test_a_changed_file_is_not_used(bundle: Path, name: str) -> None:
    file = bundle / name
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=f"{name} was changed"):
        Predictor(str(bundle))


def test_what_is_strange_or_unsure_is_not_answered(predictor: Predictor) -> None:
    sure, unsure = (np.float32(predictor.abstain_below + change) for change in (1e-3, -1e-3))
    rows = [[sure, 0, 0], [0, unsure, 0], [0, sure, 0], [unsure, 0, 0]]
    calibrated = np.array(rows, np.float32)
    unlikeness = np.array([0.3, 1.0, 1.01, 7.0], np.float32)
    found = Prediction(calibrated, calibrated, np.zeros((4, 2, 2, 64), np.float32), unlikeness)
    assert predictor.decide(found) == ["answer", "abstain", "not_mr", "not_mr"]


def test_thresholds_do_on_the_validation_images_what_the_bundle_says(
    predictor: Predictor, exported: tuple[Path, BundleInfo]
) -> None:
    decision = exported[1].decision
    found = predictor.predict(noise(24))  # the fixture's
    labels = np.arange(24) % 3
    assert (found.unlikeness <= 1).mean() == pytest.approx(decision.kept)
    assert decision.kept >= decision.keep_share == 0.99
    assert decision.learned_from == 40
    answered = np.array(predictor.decide(found)) == "answer"
    wrong = found.probabilities.argmax(axis=1) != labels
    assert answered.mean() == pytest.approx(decision.answered)
    assert (wrong & answered).sum() == pytest.approx(decision.error * answered.sum())
    assert decision.max_error == 0.05
    assert (decision.models, decision.answers_needed) == (7, 97), "twenty-four images show no such error"
    assert decision.answered == 0
    assert decision.abstain_below > 1


def test_what_is_refused_counts_as_not_answered(bundle: Path, config: Config) -> None:
    lax = config.model_copy(update={"export": ExportConfig(max_error=0.95, keep_share=0.5)})
    session = open_session((bundle / "model.onnx").read_bytes())
    labels = np.arange(24) % 3
    fitted = fit_thresholds(session, lax, noise(24), labels, noise(40, seed=9), np.arange(24))
    decision, temperature = fitted.decision, fitted.temperature
    content = json.loads((bundle / "bundle.json").read_text())
    content |= {"decision": decision.model_dump(), "temperature": temperature}
    (bundle / "bundle.json").write_text(json.dumps(content))
    predictor = Predictor(str(bundle))
    found = predictor.predict(noise(24))
    answered = np.array(predictor.decide(found)) == "answer"
    assert 0 < answered.sum() <= 12, "half of the images are refused"
    assert answered.mean() == pytest.approx(decision.answered)
    wrong = found.calibrated.argmax(axis=1) != labels
    assert wrong[answered].mean() == pytest.approx(decision.error)
    assert decision.error <= decision.error_bound <= decision.max_error


def test_candidates_are_the_classes_above_the_bundles_floors(
    predictor: Predictor, exported: tuple[Path, BundleInfo]
) -> None:
    decision = exported[1].decision
    assert decision.sensitivities == (0.95, 0.95, 0.95)
    found = predictor.predict(noise(24))
    assert found.candidates is not None
    above = found.calibrated >= np.array(decision.candidate_floors, np.float32)
    above[np.arange(24), found.calibrated.argmax(axis=1)] = True
    np.testing.assert_array_equal(found.candidates, above)


def test_a_bundle_of_an_earlier_version_names_no_candidates(bundle: Path) -> None:
    content = json.loads((bundle / "bundle.json").read_text())
    since = ("confidence", "error_bound", "answers", "answers_needed", "models")
    for name in (*since, "sensitivities", "candidate_floors"):
        del content["decision"][name]
    (bundle / "bundle.json").write_text(json.dumps(content))
    predictor = Predictor(bundle)
    assert predictor.predict(noise(2)).candidates is None
    assert "The export allowed" in predictor.card


def test_canary_images_tell_whether_a_model_computes_what_it_did(bundle: Path) -> None:
    Predictor(bundle, gpu=False).check_canaries()
    file = bundle / "bundle.json"
    content = json.loads(file.read_text())
    content["canaries"]["pituitary.png"][1] += 0.002
    file.write_text(json.dumps(content))
    changed = Predictor(bundle)
    with pytest.raises(
        BundleError, match=r"bundle: the canary image pituitary\.png has .*, expected \["
    ) as error:
        changed.check_canaries()
    assert f"{content['canaries']['pituitary.png'][1]:.4f}" in str(error.value)


def test_neither_tensorflow_nor_keras_is_loaded(exported: tuple[Path, BundleInfo]) -> None:
    code = """
import sys
import cv2, numpy as np
from brain_ray.bundle.predictor import Predictor
predictor = Predictor(sys.argv[1])
inputs, _, _ = predictor.prepare(cv2.imencode(".png", np.full((64, 64), 99, np.uint8))[1].tobytes())
assert predictor.predict(inputs[None]).calibrated.shape == (1, 3)
heavy = ("tensorflow", "keras", "ray", "scipy", "sklearn", "pandas", "matplotlib")
loaded = [name for name in heavy if name in sys.modules]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code, str(exported[0])], check=True)


def test_the_bundle_says_where_its_maps_look(predictor: Predictor, config: Config) -> None:
    network = build_network(config.model, 3, seed=1)
    assert any(map_shift(network))
    assert predictor.map_shift == pytest.approx(map_shift(network))
