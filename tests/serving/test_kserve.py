"""The KServe v2 protocol, as its clients speak it: JSON, binary tensors, errors."""

import base64
import json
import struct
from typing import Any

import httpx
import numpy as np
import pytest
from support.endpoint import PNG, Ask, picture

from brain_ray.serving.engine import Engine
from brain_ray.serving.kserve_messages import HEADER_LENGTH, OUTPUTS

IMAGES = [picture("glioma"), picture("pituitary", 3)]


@pytest.fixture
def place(engine: Engine) -> str:
    return f"/v2/models/{engine.predictors[0].info['name']}"


def tensor(images: list[bytes], **changes: Any) -> dict[str, Any]:
    data = [base64.b64encode(image).decode() for image in images]
    return {"name": "image", "shape": [len(images)], "datatype": "BYTES", "data": data} | changes


def binary(images: list[bytes], outputs: Any = (), **changes: Any) -> dict[str, Any]:
    """Return body and headers of a request with a binary tensor, as tritonclient writes them."""
    data = b"".join(struct.pack("<I", len(image)) + image for image in images)
    facts = {"name": "image", "shape": [len(images), 1], "datatype": "BYTES"}
    parameters = {"parameters": {"binary_data_size": len(data)} | changes}
    asked = {"outputs": outputs} if outputs else {"parameters": {"binary_data_output": True}}
    head = json.dumps({"inputs": [facts | parameters], **asked}).encode()
    return {"content": head + data, "headers": {HEADER_LENGTH: str(len(head))}}


def tensors_of(response: httpx.Response) -> dict[str, Any]:
    """Read the tensors of an answer by name."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(HEADER_LENGTH, len(response.content)))
    head, data = json.loads(response.content[:length]), response.content[length:]
    found = {}
    for output in head["outputs"]:
        if "data" in output:
            values = output["data"]
        else:
            size = output["parameters"]["binary_data_size"]
            part, data = data[:size], data[size:]
            values = np.frombuffer(part, "<f4") if output["datatype"] == "FP32" else texts_of(part)
        found[output["name"]] = np.reshape(values, output["shape"])
    assert not data
    return found


def texts_of(data: bytes) -> list[str]:
    found = []
    while data:
        size = struct.unpack("<I", data[:4])[0]
        found.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return found


def test_a_server_and_its_model_describe_themselves(ask: Ask, place: str, engine: Engine) -> None:
    assert ask("GET", "/v2").json()["extensions"] == ["binary_tensor_data"]
    assert ask("GET", "/v2/health/live").status_code == ask("GET", "/v2/health/ready").status_code == 200
    facts = ask("GET", place).json()
    assert facts["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert {row["name"]: row["datatype"] for row in facts["outputs"]} == {
        name: row.datatype for name, row in OUTPUTS.items()
    }
    assert facts["parameters"]["classes"] == list(engine.predictors[0].classes)
    (version,) = facts["versions"]
    assert ask("GET", f"{place}/versions/{version}").json() == facts
    assert ask("GET", f"{place}/ready").json()["ready"]
    for other in ("/v2/models/other", f"{place}/versions/2", f"{place}/versions/2/ready"):
        assert ask("GET", other).status_code == 404


def test_json_and_binary_tensors_have_the_answers_of_predict(ask: Ask, place: str) -> None:
    files = [("file", (f"{k}.png", image)) for k, image in enumerate(IMAGES)]
    expected = ask("POST", "/v1/predict", files=files).json()["results"]
    in_json = ask("POST", f"{place}/infer", json={"id": "7", "inputs": [tensor(IMAGES)]})
    assert in_json.json()["id"] == "7"
    for found in (tensors_of(in_json), tensors_of(ask("POST", f"{place}/infer", **binary(IMAGES)))):
        assert set(found) == set(OUTPUTS)
        assert found["label"].tolist() == [one["label"] for one in expected] == ["glioma", "pituitary"]
        assert found["decision"].tolist() == [one["decision"] for one in expected]
        for name in ("probabilities", "calibrated"):
            np.testing.assert_allclose(found[name], [list(one[name].values()) for one in expected], atol=1e-6)
        for name in ("confidence", "unlikeness"):
            np.testing.assert_allclose(found[name], [one[name] for one in expected], rtol=1e-5)


def test_only_the_outputs_asked_for_come_each_in_its_form(ask: Ask, place: str) -> None:
    outputs = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "confidence"}]
    found = ask("POST", f"{place}/infer", **binary(IMAGES, outputs))
    assert set(tensors_of(found)) == {"label", "confidence"}
    head = json.loads(found.content[: int(found.headers[HEADER_LENGTH])])
    assert ["data" in output for output in head["outputs"]] == [False, True]


BINARY = binary(IMAGES)


@pytest.mark.parametrize(
    ("request_of", "status", "said"),
    [
        ({"content": b"{"}, 400, "not a request of KServe v2"),
        ({"json": {"inputs": []}}, 400, "expected image (BYTES) alone"),
        ({"json": {"inputs": [tensor(IMAGES, datatype="FP32")]}}, 400, "expected image (BYTES) alone"),
        ({"json": {"inputs": [tensor(IMAGES, shape=[3])]}}, 400, "there are 2 images"),
        ({"json": {"inputs": [tensor(IMAGES, shape=[-1, -2])]}}, 400, "at inputs.0.shape.0"),
        ({"json": {"inputs": [tensor(IMAGES, shape=[10**4000] * 8)]}}, 400, "at inputs.0.shape.0"),
        ({"json": {"inputs": [tensor(IMAGES, shape=[1] * 9)]}}, 400, "at inputs.0.shape"),
        ({"json": {"inputs": [tensor([])]}}, 400, "no image"),
        ({"json": {"inputs": [tensor(IMAGES, data=["%"])]}}, 400, "image 1 is not base64"),
        ({"json": {"inputs": [tensor(IMAGES)], "outputs": [{"name": "x"}]}}, 400, "no output 'x'"),
        ({"json": {"inputs": [tensor([IMAGES[0], b"x"])]}}, 415, "image 2: "),
        ({"json": {"inputs": [tensor([b"x"] * 33)]}}, 413, "at most 32 images"),
        (binary(IMAGES, binary_data_size=7), 400, "binary_data_size is 7"),
        ({**BINARY, "headers": {HEADER_LENGTH: "9" * 9}}, 400, HEADER_LENGTH),
        ({**BINARY, "headers": {HEADER_LENGTH: "-1"}}, 400, HEADER_LENGTH),
        ({**BINARY, "content": BINARY["content"][:-1]}, 400, "binary_data_size"),
        (binary([b""] * 5000), 413, "at most 32 images"),
    ],
)
def test_a_request_that_is_wrong_is_told_so_where_clients_look_for_it(
    ask: Ask, place: str, request_of: dict[str, Any], status: int, said: str
) -> None:
    found = ask("POST", f"{place}/infer", **request_of)
    assert found.status_code == status, found.text
    assert said in found.json()["error"]
    assert found.json()["code"] in found.json()["error"]


def test_lengths_that_lie_are_found(ask: Ask, place: str) -> None:
    data = struct.pack("<I", 2**32 - 1) + b"x"
    head = json.dumps(
        {"inputs": [tensor([], data=None, shape=[1], parameters={"binary_data_size": len(data)})]}
    ).encode()
    found = ask("POST", f"{place}/infer", content=head + data, headers={HEADER_LENGTH: str(len(head))})
    assert (found.status_code, found.json()["code"]) == (400, "bad_request")


def test_keys_and_other_sites_hold_there_too(ask: Ask, place: str) -> None:
    locked = {"api_keys_sha256": ("00" * 32,)}
    found = ask("POST", f"{place}/infer", json={"inputs": [tensor(IMAGES)]}, settings=locked)
    assert (found.status_code, found.json()["error"][:12]) == (401, "unauthorized")
    other = PNG | {"sec-fetch-site": "cross-site"}
    assert ask("POST", f"{place}/infer", content=b"", headers=other).status_code == 403
