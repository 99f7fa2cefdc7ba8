"""The export: a bundle appears whole, with models that agree, or not at all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from support.models import FACTS, SWEEP, models_of, noise, settle

from brain_ray.bundle.build import export_bundle
from brain_ray.bundle.bundle import BundleError, load_bundle
from brain_ray.bundle.onnx_facts import describe
from brain_ray.bundle.parity import compare_models
from brain_ray.bundle.predictor import Predictor
from brain_ray.bundle.schema import BundleInfo
from brain_ray.config import Config, ModelConfig
from brain_ray.models.network import build_network
from brain_ray.models.weights import assign_weights
from brain_ray.scoring.calibration import log_loss
from brain_ray.scoring.cross_fitting import cross_calibrate

LABELS = np.arange(24) % 3
TRAINING = noise(40, seed=9)


def test_the_onnx_model_has_the_promised_names_and_a_free_batch(exported: tuple[Path, BundleInfo]) -> None:
    session = onnxruntime.InferenceSession(exported[0] / "model.onnx")
    (image,), (probabilities, feature_map, statistics) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape[1:]) == ("image", "tensor(float)", [48, 40, 1])
    assert (probabilities.name, probabilities.shape[1:]) == ("probabilities", [3])
    assert isinstance(image.shape[0], str)
    assert (feature_map.name, feature_map.shape[1:]) == ("feature_map", [2, 2, 64])
    assert (statistics.name, statistics.shape[1:]) == ("statistics", [2 * (32 + 64)])
    session = onnxruntime.InferenceSession(exported[0] / "explain.onnx")
    (maps, label), (heatmap,) = session.get_inputs(), session.get_outputs()
    assert (maps.name, maps.shape[1:]) == ("feature_map", [2, 2, 64])
    assert (label.name, label.type) == ("label", "tensor(int64)")
    assert (heatmap.name, heatmap.shape[1:]) == ("heatmap", [2, 2])


def test_the_onnx_model_explains_itself(exported: tuple[Path, BundleInfo], config: Config) -> None:
    folder, info = exported
    for name in ("model.onnx", "explain.onnx"):
        model = onnx.load(folder / name)
        onnx.checker.check_model(model, full_check=True)
        first = [value.type.tensor_type.shape.dim[0] for value in [*model.graph.input, *model.graph.output]]
        assert {dim.dim_param for dim in first} == {"batch"}
    told = onnxruntime.InferenceSession(folder / "model.onnx").get_modelmeta()
    found = told.custom_metadata_map
    assert json.loads(found["classes"]) == list(info.classes)
    assert float(found["temperature"]) == info.temperature
    assert "(batch, 48, 40, 1) float32" in found["input"]
    assert found["name"] == config.name
    assert "not for clinical use" in told.description
    assert "licence" not in found
    licensed = config.model_copy(update={"export": config.export.model_copy(update={"licence": "CC-BY-4.0"})})
    assert describe(licensed, 1.0)["licence"] == "CC-BY-4.0"


def test_both_models_are_the_trained_network(
    exported: tuple[Path, BundleInfo], config: Config, network_weights: list[Any]
) -> None:
    model = build_network(config.model, 3, seed=99)
    assign_weights(model, network_weights)
    expected = np.asarray(model(noise(9).astype(np.float32), training=False))
    found = Predictor(str(exported[0])).predict(noise(9)).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_scores_are_those_of_the_exported_model(exported: tuple[Path, BundleInfo]) -> None:
    folder, info = exported
    found = Predictor(str(folder)).predict(noise(24))
    scores = info.scores.validation
    assert scores.images == 24
    assert scores.accuracy == pytest.approx((found.probabilities.argmax(axis=1) == LABELS).mean())
    assert scores.log_loss == pytest.approx(log_loss(found.probabilities, LABELS), rel=1e-5)
    crossed = cross_calibrate(found.probabilities, LABELS, np.arange(24))
    assert scores.log_loss_calibrated == pytest.approx(log_loss(crossed, LABELS), rel=1e-5)
    assert log_loss(found.calibrated, LABELS) <= scores.log_loss


def test_models_that_differ_are_found(bundle: Path, config: Config) -> None:
    import keras

    model = keras.models.load_model(bundle / "model.keras", compile=False)
    bias = model.weights[-1]
    bias.assign_add([0.5, 0, 0])
    model.save(bundle / "model.keras")
    spec, export = config.model.backbone_spec, config.export
    assert compare_models(bundle, [spec], noise(4), export).largest_difference > 0.05
    image = keras.Input((48, 40, 1))
    keras.Model(image, keras.layers.Lambda(lambda x: x)(image)).save(bundle / "model.keras")
    with pytest.raises(BundleError, match=r"model\.keras cannot be loaded safely"):  # it could run any code
        compare_models(bundle, [spec], noise(4), export)
    (bundle / "model.keras").write_bytes(b"PK no archive")
    with pytest.raises(BundleError, match=r"model\.keras is missing or damaged"):
        compare_models(bundle, [spec], noise(4), export)


def test_models_further_apart_than_the_tolerance_make_no_bundle(
    bundle: Path, config: Config, network_weights: list[Any], tmp_path: Path
) -> None:
    import keras

    model = keras.models.load_model(bundle / "model.keras", compile=False)
    model.weights[-1].assign_add([0.5, 0, 0])
    model.save(bundle / "model.keras")
    target = tmp_path / "out" / "bundle"
    few = config.model_copy(update={"export": config.export.model_copy(update={"verify_images": 5})})
    with pytest.raises(
        BundleError, match=r"disagree: their probabilities differ by \S+ on .* in a batch of \d"
    ):
        export_bundle(target, few, network_weights, noise(24), LABELS, TRAINING, FACTS, models_of(bundle))
    assert list(target.parent.iterdir()) == []
    loose = {"tolerance": 1.0, "logit_tolerance": 9.0}
    lax = few.model_copy(update={"export": few.export.model_copy(update=loose)})
    facts = FACTS | {"sweep": SWEEP}
    info = export_bundle(target, lax, network_weights, noise(24), LABELS, TRAINING, facts, models_of(bundle))
    assert info.sweep == SWEEP
    assert info.check.images == 5
    assert info.check.largest_difference > 0.05


def test_each_group_has_the_same_say_in_what_is_refused(
    bundle: Path, config: Config, network_weights: list[Any], tmp_path: Path
) -> None:
    strict = config.model_copy(update={"export": config.export.model_copy(update={"keep_share": 0.9})})
    target = tmp_path / "out" / "bundle"
    arguments = (strict, network_weights, noise(24), LABELS, TRAINING, FACTS, models_of(bundle))
    plain = export_bundle(target, *arguments).decision
    order = np.argsort(Predictor(target).predict(noise(24)).unlikeness)
    groups = np.empty(24, np.int64)
    groups[order] = [*range(12), *([12] * 12)]  # the 12 furthest images are copies of one slice
    decision = export_bundle(tmp_path / "grouped", *arguments, valid_groups=groups).decision
    assert decision.unlikeness_threshold < plain.unlikeness_threshold
    assert plain.kept == pytest.approx(22 / 24)
    assert decision.kept == pytest.approx(12 / 24), "12 of 13 groups"


def test_leftovers_of_a_killed_export_do_not_count(
    bundle: Path, config: Config, network_weights: list[Any], tmp_path: Path
) -> None:
    target = tmp_path / "out" / "bundle"
    leftover = tmp_path / "out" / "bundle.partial"
    leftover.mkdir(parents=True)
    (leftover / "model.onnx").write_bytes(b"half")
    (leftover / "junk").write_bytes(b"half")
    export_bundle(target, config, network_weights, noise(24), LABELS, TRAINING, FACTS, models_of(bundle))
    load_bundle(str(target)).verify()
    assert not leftover.exists()
    assert not (target / "junk").exists()
    with pytest.raises(BundleError, match="exists already: remove it"):
        export_bundle(target, config, network_weights, noise(24), LABELS, TRAINING, FACTS)


def test_weights_of_another_network_end_in_one_clear_line(
    config: Config, network_weights: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(
        BundleError, match=r"convert ended with code 1: ValueError: 26 arrays for the 27"
    ) as error:
        export_bundle(tmp_path / "bundle", config, network_weights[:-1], noise(24), LABELS, TRAINING, FACTS)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_unusable_validation_images_are_refused_at_once(
    config: Config, network_weights: list[Any], tmp_path: Path
) -> None:
    for inputs, labels in ((noise(0), LABELS[:0]), (noise(4), LABELS[:3]), (noise(3, 9, 9), LABELS[:3])):
        with pytest.raises(BundleError, match="the validation images are uint8"):
            export_bundle(tmp_path / "bundle", config, network_weights, inputs, labels, TRAINING, FACTS)
    for training in (noise(1), noise(3, 9, 9)):
        with pytest.raises(BundleError, match="the training images are uint8"):
            export_bundle(tmp_path / "bundle", config, network_weights, noise(24), LABELS, training, FACTS)


@pytest.mark.slow
def test_an_efficientnet_is_exported_with_its_normalisation(
    config: Config, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ModelConfig(weights="none", height=64, width=64, head="seed")
    model = build_network(settings, 3, seed=1)
    settle(model, noise(8, 64, 64, seed=1))
    inputs = noise(6, 64, 64)
    expected = np.asarray(model(inputs.astype(np.float32), training=False))
    assert np.ptp(expected, axis=0).max() > 1e-3  # else all would be equal anyhow
    weights = [np.asarray(weight) for weight in model.weights]
    whole = config.model_copy(update={"model": settings})
    capfd.readouterr()
    info = export_bundle(
        tmp_path / "bundle", whole, weights, inputs, LABELS[:6], noise(8, 64, 64, seed=1), FACTS
    )
    assert capfd.readouterr() == ("", "")  # nothing of what TensorFlow and tf2onnx say
    found = Predictor(str(tmp_path / "bundle")).predict(inputs).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert info.check.largest_difference < 1e-4
