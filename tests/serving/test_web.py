"""The API over HTTP's own interface, in this process: limits, errors, keys, formats, order."""

import asyncio
import base64
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from running import PNG, picture

from brain_ray.data.phantom import draw
from brain_ray.model.predictor import Predictor
from brain_ray.serving.engine import Engine
from brain_ray.serving.settings import ServingConfig
from brain_ray.serving.uploads import Upload
from brain_ray.serving.web import make_app

Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def engine(bundle: Path) -> Engine:
    return Engine(ServingConfig(bundle=str(bundle)))


@pytest.fixture
def ask(engine: Engine) -> Ask:
    """Give a function that sends a request; settings can be changed for it."""

    def send(
        method: str, path: str, *, settings: dict[str, Any] | None = None, **kwargs: Any
    ) -> httpx.Response:
        before = engine.config
        engine.config = before.model_copy(update=settings or {})
        transport = httpx.ASGITransport(make_app(engine), raise_app_exceptions=False)

        async def talk() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **kwargs)

        try:
            return asyncio.run(talk())
        finally:
            engine.config = before

    return send


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:brain_ray:problem:{code}"
    assert "Traceback" not in response.text


def test_one_image_is_classified_as_the_predictor_does(ask: Ask, bundle: Path) -> None:
    data = picture()
    response = ask("POST", "/v1/predict", content=data, headers=PNG)
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    predictor = Predictor(bundle)
    inputs, box, has_box = predictor.prepare(data)
    expected = predictor.predict(inputs[None])
    np.testing.assert_allclose(list(result["probabilities"].values()), expected.probabilities[0], atol=1e-5)
    np.testing.assert_allclose(list(result["calibrated"].values()), expected.calibrated[0], atol=1e-5)
    assert list(result["probabilities"]) == list(predictor.classes)
    assert result["label"] == predictor.classes[expected.calibrated[0].argmax()]
    assert result["confidence"] == max(result["calibrated"].values())
    assert result["box"] == {"top": box.top, "bottom": box.bottom, "left": box.left, "right": box.right}
    assert result["has_box"] == has_box
    assert result["model"] == {"name": predictor.name, "sha256": predictor.sha256, "id": predictor.id}
    assert 0 < result["milliseconds"] <= response.json()["milliseconds"] + 1


def test_many_images_come_back_in_order_and_a_bad_one_has_its_own_error(ask: Ask) -> None:
    names = ["a.png", "bad.png", "ü.jpg", "b.png", "cut.jpg"]
    parts = [
        picture("glioma"),
        b"no image",
        picture("notumor", 1, ".jpg"),
        picture("pituitary"),
        picture()[:999],
    ]
    files = [("file", (name, data)) for name, data in zip(names, parts, strict=True)]
    response = ask("POST", "/v1/predict", files=files)
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [result["name"] for result in results] == names
    assert [result["status"] for result in results] == ["ok", "error", "ok", "ok", "error"]
    assert [results[i]["problem"]["code"] for i in (1, 4)] == ["not_an_image", "undecodable"]
    alone = ask("POST", "/v1/predict", content=parts[3], headers=PNG).json()["results"][0]
    np.testing.assert_allclose(
        list(results[3]["calibrated"].values()), list(alone["calibrated"].values()), atol=1e-5
    )


@pytest.mark.parametrize(
    ("mode", "format_"),
    [
        ("L", "JPEG"), ("RGB", "JPEG"), ("L", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("LA", "PNG"),
        ("P", "PNG"), ("RGB", "BMP"), ("L", "TIFF"), ("I;16", "TIFF"), ("RGB", "WEBP"), ("RGBA", "WEBP"),
    ],
)  # fmt: skip
def test_each_format_and_depth_gives_the_same_answer(ask: Ask, mode: str, format_: str) -> None:
    grey = draw("glioma", 5, 0)
    grey = grey if grey.ndim == 2 else grey[..., 0]
    image = Image.fromarray(grey)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "P":
        image = image.convert("P")
    else:
        image = image.convert(mode)
    stream = io.BytesIO()
    lossless = {"lossless": True} if format_ == "WEBP" else {"quality": 98} if format_ == "JPEG" else {}
    image.save(stream, format_, **lossless)
    plain = ask("POST", "/v1/predict", content=picture(), headers=PNG).json()["results"][0]
    found = ask("POST", "/v1/predict", content=stream.getvalue(), headers={"content-type": "image/x"})
    assert found.status_code == 200, found.text
    result = found.json()["results"][0]
    assert result["label"] == plain["label"]
    np.testing.assert_allclose(
        list(result["probabilities"].values()), list(plain["probabilities"].values()), atol=0.05
    )


def test_an_explanation_brings_pictures_of_one_size(ask: Ask) -> None:
    response = ask("POST", "/v1/explain", content=picture(), headers=PNG)
    (result,) = response.json()["results"]
    shown = [
        Image.open(io.BytesIO(base64.b64decode(result[name]))) for name in ("crop", "heatmap", "overlay")
    ]
    assert [image.mode for image in shown] == ["L", "RGBA", "RGB"]
    assert len({image.size for image in shown}) == 1
    box = result["box"]
    assert shown[0].size == (box["right"] - box["left"], box["bottom"] - box["top"])
    heat = np.asarray(shown[1])[..., 3]
    assert heat.max() > 200
    alone = ask("POST", "/v1/explain", content=picture(), headers={**PNG, "accept": "image/png"})
    assert alone.headers["content-type"] == "image/png"
    assert alone.content == base64.b64decode(result["overlay"])


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain"])
def test_what_cannot_be_used_is_refused_by_its_kind(ask: Ask, path: str) -> None:
    assert_problem(ask("POST", path, content=b"text", headers=PNG), 415, "not_an_image")
    assert_problem(
        ask("POST", path, content=b"<svg/>", headers={"content-type": "image/svg+xml"}), 415, "not_an_image"
    )
    gif = io.BytesIO()
    Image.new("L", (64, 64)).save(gif, "GIF")
    assert_problem(ask("POST", path, content=gif.getvalue(), headers=PNG), 415, "not_an_image")
    assert_problem(ask("POST", path, content=picture()[:500], headers=PNG), 422, "undecodable")
    small = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    assert_problem(ask("POST", path, content=small, headers=PNG), 422, "too_small")
    assert_problem(ask("POST", path, headers=PNG), 400, "no_image")
    assert_problem(ask("POST", path, json={"image": "x"}), 415, "not_an_image")
    assert_problem(
        ask("POST", path, content=b"x", headers={"content-type": "multipart/form-data"}), 400, "bad_request"
    )
    damaged = {"content-type": "multipart/form-data; boundary=b"}
    assert_problem(ask("POST", path, content=b"--b\r\nno header", headers=damaged), 400, "bad_request")
    assert_problem(ask("POST", path, data={"field": "no file"}, files={}), 415, "not_an_image")


def test_limits(ask: Ask) -> None:
    small = {"max_upload_mb": 0.01, "max_images": 2, "max_pixels": 10_000}
    assert_problem(
        ask("POST", "/v1/predict", settings=small, content=bytes(10_001), headers=PNG), 413, "too_large"
    )

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(1000)

    assert_problem(
        ask("POST", "/v1/predict", settings=small, content=chunks(), headers=PNG), 413, "too_large"
    )
    many = [("file", (f"{i}.png", b"x")) for i in range(3)]
    assert_problem(ask("POST", "/v1/predict", settings=small, files=many), 413, "too_many_images")
    white = cv2.imencode(".png", np.full((101, 100), 255, np.uint8))[1].tobytes()
    assert_problem(
        ask("POST", "/v1/predict", settings=small, content=white, headers=PNG), 413, "too_many_pixels"
    )


def test_a_full_queue_and_a_late_answer(ask: Ask, engine: Engine) -> None:
    with engine.accept(engine.config.max_queue):
        response = ask("POST", "/v1/predict", content=picture(), headers=PNG)
    assert_problem(response, 503, "queue_full")
    assert response.headers["retry-after"] == "1"
    late = {"timeout_s": 0.001}
    header = {**PNG, "x-request-timeout-seconds": "0"}
    assert_problem(
        ask("POST", "/v1/predict", settings=late, content=picture(), headers=header), 504, "timeout"
    )

    async def slowly() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(1)

    slow = ask("POST", "/v1/predict", settings={"timeout_s": 0.05}, content=slowly(), headers=PNG)
    assert_problem(slow, 408, "slow_upload")


def test_keys(ask: Ask) -> None:
    keys = {"api_keys_sha256": tuple(hashlib.sha256(key.encode()).hexdigest() for key in ("one", "two"))}
    for path in ("/v1/model", "/readyz", "/docs", "/openapi.json", "/v1/samples/glioma.png", "/nothing"):
        response = ask("GET", path, settings=keys)
        assert_problem(response, 401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
    assert_problem(
        ask("POST", "/v1/predict", settings=keys, content=picture(), headers=PNG), 401, "unauthorized"
    )
    for wrong in ({"x-api-key": "three"}, {"authorization": "Bearer "}, {"authorization": "Basic one"}):
        assert_problem(ask("GET", "/v1/model", settings=keys, headers=wrong), 401, "unauthorized")
    for right in ({"x-api-key": "one"}, {"authorization": "Bearer two"}, {"authorization": "bearer two"}):
        assert ask("GET", "/v1/model", settings=keys, headers=right).status_code == 200
    for path in ("/", "/healthz"):
        assert ask("GET", path, settings=keys).status_code == 200


def test_facts_samples_and_health(ask: Ask, bundle: Path) -> None:
    predictor = Predictor(bundle)
    body = ask("GET", "/v1/model").json()
    assert body["classes"] == list(predictor.classes)
    assert body["limits"] == {
        "max_upload_mb": 20,
        "max_images": 32,
        "max_pixels": 40_000_000,
        "timeout_s": 30,
    }
    (served,) = body["models"]
    assert (served["id"], served["role"], served["share"]) == (predictor.id, "main", 1.0)
    assert "not for clinical use" in served["card"].lower()
    for name in body["samples"]:
        response = ask("GET", f"/v1/samples/{name}")
        assert response.headers["content-type"] == "image/png"
        assert response.content == predictor.canaries[name]
    assert ask("GET", "/readyz").json() == {"status": "ok", "models": [predictor.id]}
    assert ask("GET", "/healthz").json()["status"] == "ok"


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/v1/samples/nothing.png", "/v1/samples/..%2Fbundle.json", "/page/..%2Fweb.py", "/page/x"],
)
def test_what_is_not_there(ask: Ask, path: str) -> None:
    assert_problem(ask("GET", path), 404, "not_found")


def test_the_page_and_the_documents_load_nothing_from_elsewhere(ask: Ask) -> None:
    assert_problem(ask("GET", "/v1/predict"), 405, "method_not_allowed")
    page = ask("GET", "/")
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    for document in (page.text, ask("GET", "/docs").text):
        assert "http://" not in document.replace("http://www.w3.org/", "")
        assert "https://" not in document
    paths = ask("GET", "/openapi.json").json()["paths"]
    assert {"/v1/predict", "/v1/explain", "/v1/model", "/v1/samples/{name}", "/healthz", "/readyz"} == set(
        paths
    )
    assert "multipart/form-data" in paths["/v1/predict"]["post"]["requestBody"]["content"]


def test_a_fault_is_told_without_its_trace(ask: Ask, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> Any:
        raise RuntimeError("a secret path")

    monkeypatch.setattr(engine, "classify", fail)
    response = ask("POST", "/v1/predict", content=picture(), headers=PNG)
    assert_problem(response, 500, "internal")
    assert "secret" not in response.text


def test_a_share_goes_to_the_challenger(bundle: Path) -> None:
    counted: list[str] = []

    class Counting:
        def batch(self, size: int) -> None:
            pass

        def answer(self, answer: Any, role: str) -> None:
            counted.append(role)

    for mode, expected in (("split", 200), ("mirror", 200 + 100)):
        counted.clear()
        config = ServingConfig(bundle=str(bundle), challenger=str(bundle), canary=0.5, canary_mode=mode)
        engine = Engine(config, Counting())
        upload = Upload("x", picture())

        async def many(engine: Engine = engine, upload: Any = upload) -> None:
            await asyncio.gather(*(engine.predict(upload) for _ in range(200)))
            await asyncio.gather(*engine._background)

        asyncio.run(many())
        assert abs(len(counted) - expected) <= (0 if mode == "split" else 40)
        assert 60 < counted.count("challenger") < 140
        shares = [served.share for served in engine.served()]
        assert shares == ([0.5, 0.5] if mode == "split" else [1.0, 0.5])
