"""The parity gate: both models agree in all outputs, on images and awkward inputs, or no bundle is made."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from support.models import FACTS, models_of, noise

from brain_ray.bundle.build import export_bundle
from brain_ray.bundle.bundle import BundleError
from brain_ray.bundle.differences import differences
from brain_ray.bundle.parity import awkward_inputs, choose, compare_models
from brain_ray.bundle.schema import BundleInfo
from brain_ray.config import Config

AWKWARD = ("noise", "black", "white", "checkerboard", "gradient")
LABELS = np.arange(24) % 3


def insert(file: Path, value: str, operator: str, operand: Any) -> None:
    """Let an ONNX graph apply `operator(value, operand)` to a value; what reads an output stays as it is."""
    model = onnx.load(file)
    graph = model.graph
    name = f"{operator}_{len(graph.node)}"
    graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(operand, np.float32), name))
    if value in {given.name for given in graph.input}:
        for node in graph.node:
            node.input[:] = [f"{name}_done" if given == value else given for given in node.input]
        node = onnx.helper.make_node(operator, [value, name], [f"{name}_done"])
        graph.node.insert(0, node)
    else:
        place = next(k for k, node in enumerate(graph.node) if value in node.output)
        is_output = value in {given.name for given in graph.output}
        for node in graph.node:
            for names in (node.input, node.output) if is_output else (node.output,):
                names[:] = [f"{name}_raw" if given == value else given for given in names]
        graph.node.insert(place + 1, onnx.helper.make_node(operator, [f"{name}_raw", name], [value]))
    onnx.save(model, file)


def logits_of(file: Path) -> str:
    """Return the name of the value that the last softmax of an ONNX graph reads."""
    found = [node.input[0] for node in onnx.load(file).graph.node if node.op_type == "Softmax"]
    return str(found[-1])


def export(bundle: Path, config: Config, weights: list[Any], target: Path, **images: Any) -> BundleInfo:
    inputs = images.get("inputs", noise(24))
    return export_bundle(target, config, weights, inputs, LABELS, noise(40, seed=9), FACTS, models_of(bundle))


def test_an_export_tells_what_was_compared_and_how_far_it_differs(exported: tuple[Path, BundleInfo]) -> None:
    check = exported[1].check
    assert set(check.outputs) == {"probabilities", "logits", "feature_map", "statistics", "heatmap"}
    assert check.awkward_inputs == AWKWARD
    assert check.batch_sizes == (1, 7, 8, 16)  # 24 images are a batch of 16 and one of 8
    assert check.largest_difference == check.outputs["probabilities"].largest
    for found in check.outputs.values():
        assert 0 <= found.largest < 1e-4
        assert found.batch_size in check.batch_sizes
        assert found.input in AWKWARD or found.input.endswith("of 24 by rising certainty")


def test_logits_that_are_off_by_a_thousandth_make_no_bundle_where_all_answers_are_certain(
    bundle: Path, config: Config, network_weights: list[Any], tmp_path: Path
) -> None:
    import keras

    bias = [12.0, 0.0, 0.0]
    model = keras.models.load_model(bundle / "model.keras", compile=False)
    model.weights[-1].assign_add(bias)
    model.save(bundle / "model.keras")
    logits = logits_of(bundle / "model.onnx")
    insert(bundle / "model.onnx", logits, "Add", bias)
    export(bundle, config, network_weights, tmp_path / "right")
    insert(bundle / "model.onnx", logits, "Mul", 1.001)
    check = compare_models(bundle, [config.model.backbone_spec], noise(24), config.export)
    assert check.largest_difference < config.export.tolerance / 10  # it alone would not tell
    with pytest.raises(
        BundleError, match=r"their logits differ by 1\.\de-02 nats on .*export\.logit_tolerance"
    ):
        export(bundle, config, network_weights, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("file", "output", "named"),
    [
        ("model.onnx", "statistics", "statistics"),
        ("model.onnx", "feature_map", "(feature_map|heatmap)"),  # the heat map is made of it
        ("explain.onnx", "heatmap", "heatmap"),
    ],
)
def test_another_output_that_is_wrong_makes_no_bundle(
    bundle: Path,
    config: Config,
    network_weights: list[Any],
    tmp_path: Path,
    file: str,
    output: str,
    named: str,
) -> None:
    insert(bundle / file, output, "Mul", 1.01)
    with pytest.raises(
        BundleError, match=rf"their {named} differ by 1\.\de-02 of .* on .* in a batch of \d+"
    ):
        export(bundle, config, network_weights, tmp_path / "wrong")


def test_a_graph_that_is_wrong_on_bright_pixels_only_is_found_on_a_bright_input(
    bundle: Path, config: Config, network_weights: list[Any], tmp_path: Path
) -> None:
    insert(bundle / "model.onnx", "image", "Min", 127.0)
    with pytest.raises(
        BundleError, match=r"disagree: .* on (white|checkerboard|gradient|noise) in a batch of"
    ):
        export(bundle, config, network_weights, tmp_path / "wrong", inputs=noise(24) // 2)


def test_rounding_on_a_drawn_input_is_no_difference_and_an_error_there_is_one(
    bundle: Path, config: Config
) -> None:
    spec = config.model.backbone_spec
    none_allowed = config.export.model_copy(update={"tolerance": 1e-12, "logit_tolerance": 1e-12})
    check = compare_models(bundle, [spec], noise(24), none_allowed)
    assert {one.input for one in check.magnified} <= set(AWKWARD)
    assert {one.output for one in check.magnified} == {"probabilities", "logits"}
    assert all(1e-12 < one.difference < 64 * one.rounding < 1e-3 for one in check.magnified)
    # Only of drawn inputs: on an image like those that it has learned from, a network has to be exact.
    assert all(found.input.endswith("of 24 by rising certainty") for found in check.outputs.values())
    assert check.outputs["probabilities"].largest > 1e-12
    insert(bundle / "model.onnx", logits_of(bundle / "model.onnx"), "Mul", 1.1)
    wrong = compare_models(bundle, [spec], noise(24) // 64, none_allowed)
    assert not any(one.difference > 1e-4 for one in wrong.magnified)
    assert wrong.outputs["logits"].largest > 1e-3


def test_awkward_inputs_are_what_their_names_say() -> None:
    images = awkward_inputs(48, 32)
    assert tuple(images) == AWKWARD
    assert {(image.shape, image.dtype.name) for image in images.values()} == {((48, 32, 1), "uint8")}
    extremes = {name: (int(image.min()), int(image.max())) for name, image in images.items()}
    assert extremes == dict.fromkeys(AWKWARD, (0, 255)) | {"black": (0, 0), "white": (255, 255)}
    assert images["checkerboard"].mean() == 127.5
    assert (np.diff(images["gradient"][0, :, 0].astype(int)) > 0).all()


def test_the_least_certain_images_are_chosen_and_some_of_the_others() -> None:
    confidence = np.random.default_rng(0).permutation(np.linspace(0.3, 1, 100))
    chosen = choose(confidence, 9)
    order = np.argsort(confidence)
    assert chosen[:5].tolist() == order[:5].tolist()
    assert chosen[5:].tolist() == order[[5, 36, 67, 99]].tolist()
    assert choose(confidence[:3], 9).tolist() == np.argsort(confidence[:3]).tolist()


def of(logits: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {"probabilities": (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)}


def test_logits_are_compared_to_a_floor() -> None:
    logits = np.array([[10.0, 0.0, -1.0], [60.0, 0.0, -3.0]])
    found = differences(of(logits), of(logits * 1.001), {})
    assert found["probabilities"].max() < 1e-6
    assert found["logits"][0, 1] == pytest.approx(0.01, rel=0.01)
    assert found["logits"][1].max() == 0  # below 1e-12 probabilities count as equal


def test_maps_are_compared_relative_to_their_channel() -> None:
    usual = np.array([[100.0, 1.0, 0.0]], np.float32)
    here = np.array([[0.5, 2.0, 0.0]], np.float32)
    found = differences({"statistics": here}, {"statistics": here + np.float32(0.1)}, {"statistics": usual})
    # The first by the usual value, the second by its own, the third by a hundredth of the largest one.
    np.testing.assert_allclose(found["statistics"], [[0.001, 0.05, 0.1]], rtol=1e-4)
