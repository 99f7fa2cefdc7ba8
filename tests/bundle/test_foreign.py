"""Bundles from elsewhere: opening one reads its own files, and no others."""

import hashlib
import json
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from brain_ray.bundle.bundle import BundleError, load_bundle
from brain_ray.bundle.predictor import Predictor
from brain_ray.bundle.session import open_session


def outside(name: str) -> onnx.TensorProto:
    """Weights of 16 bytes that are in a file of the current folder."""
    tensor = TensorProto(
        name=name, data_type=TensorProto.UINT8, dims=[16], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", "keys.txt"), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def reader(where: str) -> bytes:
    """A model that answers with the content of a file: as weights, a constant, or one within a branch."""
    cast = helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [16])
    constant = helper.make_node("Constant", [], ["w"], value=outside("w"))
    if where == "weights":
        graph = helper.make_graph([cast], "g", [], [answer], [outside("w")])
    elif where == "constant":
        graph = helper.make_graph([constant, cast], "g", [], [answer])
    else:
        branch = helper.make_graph([constant, cast], "b", [], [answer])
        yes = helper.make_node(
            "Constant", [], ["yes"], value=helper.make_tensor("", TensorProto.BOOL, [], [1])
        )
        chosen = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
        told = helper.make_tensor_value_info("out", TensorProto.FLOAT, [16])
        graph = helper.make_graph([yes, chosen], "g", [], [told])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file that a model must not read."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "keys.txt").write_text("s3cret-0123456789")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("where", ["weights", "constant", "branch"])
def test_a_model_with_weights_in_other_files_is_refused(where: str) -> None:
    with pytest.raises(BundleError, match="weights in files beside the model"):
        open_session(reader(where), 1, gpu=False)


@pytest.mark.parametrize("data", [b"no model", b"\x08\x00\x00\x00ORTM" + bytes(64)])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="no ONNX model"):
        open_session(data, 1, gpu=False)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["model.onnx", "explain.onnx"])
def test_a_bundle_with_such_a_model_is_refused_by_name(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(reader("weights"))
    info = json.loads((bundle / "bundle.json").read_text())
    info["files"][name] = hashlib.sha256(reader("weights")).hexdigest()
    (bundle / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(BundleError, match=rf"bundle/{name}: weights in files beside the model"):
        Predictor(str(bundle), 1, gpu=False)


@pytest.mark.parametrize(
    "name",
    ["../../secret.png", "/etc/hostname", "..", "a/b.png", "a\\b.png", "", ".png", "a.png\n", "\x1b[2J"],
)
def test_a_canary_outside_of_the_bundle_is_refused(bundle: Path, name: str) -> None:
    info = json.loads((bundle / "bundle.json").read_text())
    first = next(iter(info["canaries"]))
    shutil.copy(bundle / "canaries" / first, bundle.parent / "secret.png")
    info["canaries"][name] = info["canaries"][first]
    info["files"][f"canaries/{name}"] = info["files"][f"canaries/{first}"]
    (bundle / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(BundleError, match=r"bundle\.json names a file 'canaries/") as refused:
        load_bundle(bundle)
    assert str(refused.value).isprintable()
    del info["files"][f"canaries/{name}"]
    (bundle / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(BundleError, match=r"bundle\.json names a file 'canaries/"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "name", ["../keys.txt", "/etc/hostname", "canaries/../../keys.txt", "~/x", "s3://b/x"]
)
def test_a_file_outside_of_the_bundle_is_refused(bundle: Path, name: str) -> None:
    info = json.loads((bundle / "bundle.json").read_text())
    info["files"][name] = "0" * 64
    (bundle / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(BundleError, match=r"bundle\.json names a file"):
        load_bundle(bundle)
