"""The API over HTTP's own interface, in this process: limits, errors, keys, formats, order."""

import asyncio
import base64
import gc
import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.datastructures import Headers as StarletteHeaders
from starlette.types import Message, Receive
from support.endpoint import PNG, Ask, picture

from brain_ray.bundle.predictor import Predictor
from brain_ray.data.intensity import to_grey
from brain_ray.data.phantoms.files import draw
from brain_ray.serving.config import ServingConfig
from brain_ray.serving.counts import NoMetrics
from brain_ray.serving.engine import Engine
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.routes import make_app, served_models
from brain_ray.serving.uploads import Upload, parse_uploads


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
    image, plain_picture = Image.fromarray(grey), picture()
    if mode == "I;16":
        deep = grey.astype(np.uint16) * 257
        image, windowed = Image.fromarray(deep), to_grey(deep, (0.5, 99.5))
        assert windowed is not None
        plain_picture = cv2.imencode(".png", windowed)[1].tobytes()
    elif mode == "P":
        image = image.convert("P")
    else:
        image = image.convert(mode)
    stream = io.BytesIO()
    lossless = {"lossless": True} if format_ == "WEBP" else {"quality": 98} if format_ == "JPEG" else {}
    image.save(stream, format_, **lossless)
    plain = ask("POST", "/v1/predict", content=plain_picture, headers=PNG).json()["results"][0]
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
    avif, gif = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64)).save(avif, "AVIF")
    assert_problem(ask("POST", path, content=avif.getvalue(), headers=PNG), 415, "not_an_image")
    Image.new("L", (64, 64)).save(gif, "GIF", save_all=True, append_images=[Image.new("L", (64, 64), 99)])
    assert_problem(ask("POST", path, content=gif.getvalue(), headers=PNG), 422, "several_images")
    assert_problem(ask("POST", path, content=picture()[:500], headers=PNG), 422, "undecodable")
    small = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    assert_problem(ask("POST", path, content=small, headers=PNG), 422, "too_small")
    assert_problem(ask("POST", path, headers=PNG), 400, "no_image")
    assert_problem(ask("POST", path, json={"image": "x"}), 400, "bad_request")
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
    with engine.admission.accept(engine.config.max_queue):
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


async def call(
    engine: Engine, receive: Receive, *, path: str = "/v1/predict", **headers: str
) -> list[Message]:
    """Send a request whose body comes as `receive` has it; returns what is sent."""
    named = {"host": "localhost", "content-type": "image/png"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await make_app(engine)(scope, receive, send)
    return sent


async def unread() -> Message:
    raise AssertionError("the body was read")


MEGABYTE = 10**6


@pytest.mark.parametrize(
    ("held_mb", "headers", "is_refused"),
    [
        (190, {"content_length": str(10 * MEGABYTE)}, False),
        (190, {"content_length": str(10 * MEGABYTE + 1)}, True),
        (180, {}, False),
        (181, {}, True),
        (181, {"transfer_encoding": "chunked"}, True),
        (181, {"transfer_encoding": "chunked", "content_length": "1"}, True),
        (199, {"content_length": "0" * 5000}, False),
    ],
)
def test_room_for_a_body_is_asked_for_before_it_is_read(
    engine: Engine, held_mb: int, headers: dict[str, str], is_refused: bool
) -> None:
    """Its announced length counts, or the most that a body may have."""
    assert engine.config.max_held_mb == 200
    reads = 0

    async def receive() -> Message:
        nonlocal reads
        reads += 1
        return {"type": "http.request", "body": b"x", "more_body": False}

    with engine.admission.hold(held_mb * MEGABYTE):
        sent = asyncio.run(call(engine, receive, **headers))
    assert (sent[0]["status"], reads) == ((503, 0) if is_refused else (415, 1))
    if is_refused:
        assert (b"retry-after", b"1") in sent[0]["headers"]
        assert json.loads(sent[1]["body"])["code"] == "queue_full"


def test_what_cannot_be_taken_is_refused_unread(engine: Engine) -> None:
    for digits in ("20000001", "9" * 5000):
        sent = asyncio.run(call(engine, unread, content_length=digits))
        assert (sent[0]["status"], json.loads(sent[1]["body"])["code"]) == (413, "too_large")
    with engine.admission.accept(engine.config.max_queue):
        sent = asyncio.run(call(engine, unread, content_length="1"))
    assert (sent[0]["status"], json.loads(sent[1]["body"])["code"]) == (503, "queue_full")


def test_unfinished_bodies_hold_what_they_announce_until_they_are_late_or_gone(engine: Engine) -> None:
    async def stall() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def many(timeout_s: float) -> tuple[list[int], float]:
        engine.config = before.model_copy(update={"timeout_s": timeout_s})
        asked = [
            asyncio.create_task(call(engine, stall, content_length=str(19 * MEGABYTE))) for _ in range(180)
        ]
        refused, waiting = await asyncio.wait(asked, timeout=0.1)
        held = engine.admission.held_bytes
        if timeout_s > 1:
            for task in waiting:
                task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        late = [] if timeout_s > 1 else [task.result()[0]["status"] for task in waiting]
        return [task.result()[0]["status"] for task in refused] + late, held

    before = engine.config
    try:
        for timeout_s, expected in ((60.0, {503: 171}), (0.9, {503: 171, 408: 9})):
            statuses, held = asyncio.run(many(timeout_s))
            assert (Counter(statuses), held) == (expected, 171 * MEGABYTE)
            assert (engine.admission.held_bytes, engine.admission.images) == (0, 0)
    finally:
        engine.config = before


def test_an_answer_counts_until_it_is_sent(engine: Engine) -> None:
    held: list[int] = []
    sizes: list[int] = []
    image = picture()

    async def receive() -> Message:
        held.append(engine.admission.held_bytes)
        return {"type": "http.request", "body": image, "more_body": False}

    async def talk() -> None:
        async def send(message: Message) -> None:
            held.append(engine.admission.held_bytes)
            sizes.append(len(message.get("body", b"")))
            assert engine.admission.images == 0, "the next image may be worked on"

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/explain",
            "query_string": b"",
            "headers": [(b"content-type", b"image/png"), (b"content-length", str(len(image)).encode())],
        }
        await make_app(engine)(scope, receive, send)

    asyncio.run(talk())
    assert held == [len(image), sum(sizes), sum(sizes)]
    assert sum(sizes) > 10_000
    assert engine.admission.held_bytes == 0


def test_an_explanation_has_at_most_the_size_that_is_documented(ask: Ask) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512)).astype(np.uint8)
    image = cv2.imencode(".png", noise)[1].tobytes()
    response = ask("POST", "/v1/explain", content=image, headers=PNG)
    assert 1_000_000 < len(response.content) < 1_400_000


def test_pixels_of_a_request_are_counted_before_they_are_decoded(ask: Ask) -> None:
    white = cv2.imencode(".png", np.full((100, 100), 255, np.uint8))[1].tobytes()
    limits = {"max_pixels": 10_000, "max_request_pixels": 30_000}

    def send(*images: bytes) -> httpx.Response:
        files = [("file", (f"{i}.png", image)) for i, image in enumerate(images)]
        return ask("POST", "/v1/predict", settings=limits, files=files)

    assert [result["status"] for result in send(white, white, white, b"none").json()["results"]] == [
        "ok", "ok", "ok", "error"
    ]  # fmt: skip
    many = send(*[white] * 4)
    assert_problem(many, 413, "too_many_pixels")
    assert "4 images have 40000 pixels" in many.json()["detail"]


def test_settings_that_let_no_request_in_are_refused() -> None:
    for wrong in ({"max_held_mb": 19}, {"max_upload_mb": 201}, {"max_request_pixels": 39_000_000}):
        with pytest.raises(ValueError, match="expected at least as much"):
            ServingConfig(bundle="none", **wrong)


# --- forms --------------------------------------------------------------------------------------------------


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"cut") -> bytes:
    """A form's body, of pairs of header lines and content."""
    joined = b"".join(
        b"--" + boundary + b"\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + content + b"\r\n"
        for head, content in parts
    )
    return joined + b"--" + boundary + b"--\r\n"


FILE = b'name="file"; filename="a.png"'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("charset=punycode", form((b'name="f-"', b"x" * 250_000 + b"-" + b"a" * 250_000))),
        ("charset=punycode", form((b'name="f-"; filename="x-' + b"a" * 4000 + b'"', b"x"))),
        ("", form((FILE, b"\r\n--cuX" * 2_500_000))),
        ("", form((FILE, b"\r\n--cutX" * 2_500_000))),
        ("", form((FILE, b"\r\n--cut" + b" " * 19_000_000))),
        ("", form((FILE, b"\r\n--cut" + b"\t" * 19_000_000))),
        ("", form((FILE, b"\r" * 19_000_000))),
        ("", b"\r\n" * 9_500_000),
        ("", form((FILE, b"x")) + b"\r\n--cut" * 2_500_000),
        ("", form((FILE + b"\r\nX:" + b" " * 4000 + b"y", b"")) * 3000),
        ("", form((FILE + b"\r\n" + b"X: y\r\n" * 1_000_000 + b"X: y", b""))),
        ("", form((FILE + b"\r\nX: " + b"y" * 19_000_000, b""))),
        ("", form((b'name="f"; filename="' + b'\\";"' * 900 + b'"', b"")) * 30),
        ("", form((FILE + b"\r\nContent-Transfer-Encoding: base64", b"=" * 19_000_000))),
        ("", form((FILE + b"\r\nContent-Transfer-Encoding: quoted-printable", b"=" * 19_000_000))),
        ("", form(*[(b'name="f"', b"y" * 600_000)] * 31)),
    ],
    ids=[
        "charset of a field", "charset of a name", "half boundaries", "whole boundaries", "blanks", "tabs",
        "line ends", "before the form", "behind the form", "blanks in a header", "many headers",
        "a long header", "quotes", "base64", "quoted-printable", "fields",
    ],
)  # fmt: skip
def test_no_form_holds_the_event_loop(ask: Ask, kind: str, body: bytes) -> None:
    headers = {"content-type": f"multipart/form-data; boundary=cut; {kind}"}
    before = time.process_time()
    response = ask("POST", "/v1/predict", content=body, headers=headers)
    assert time.process_time() - before < 1.5, "seconds of all threads together"
    assert response.status_code in (400, 413, 415), response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_names_in_a_form_are_utf_8_whatever_it_says(ask: Ask) -> None:
    names = ["+ADw-b+AD4-.png", "x-kva.png", "\\u202e.png", "ü脳.png"]
    body = form(*[(f'name="file"; filename="{name}"'.encode(), picture()) for name in names])
    for charset in ("utf-7", "punycode", "unicode_escape", "utf-16", "none"):
        headers = {"content-type": f"multipart/form-data; boundary=cut; charset={charset}"}
        results = ask("POST", "/v1/predict", content=body, headers=headers).json()["results"]
        assert [result["name"] for result in results] == [name.replace("\\\\", "\\") for name in names]


@pytest.mark.parametrize("boundary", [b"", b"x" * 257, b"x" * 100_000, b'a"b', b"a\\b"])
def test_odd_boundaries_are_refused_or_taken(ask: Ask, boundary: bytes) -> None:
    quoted = boundary.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    headers = {"content-type": b'multipart/form-data; boundary="' + quoted + b'"'}
    content = form((FILE, picture()), boundary=boundary)
    response = ask("POST", "/v1/predict", content=content, headers=headers)
    if 0 < len(boundary) <= 256:
        assert response.status_code == 200, response.text
    else:
        assert_problem(response, 400, "bad_request")


def test_parts_are_counted_and_fields_passed_over(ask: Ask) -> None:
    headers = {"content-type": "multipart/form-data; boundary=cut"}
    field, file = (b'name="note"', b"hello"), (FILE, picture())

    def send(*parts: tuple[bytes, bytes]) -> httpx.Response:
        settings = {"max_images": 4}
        return ask("POST", "/v1/predict", settings=settings, content=form(*parts), headers=headers)

    assert len(send(field, file, field, file).json()["results"]) == 2
    assert len(send(*[file] * 4).json()["results"]) == 4
    assert_problem(send(*[file] * 5), 413, "too_many_images")
    assert_problem(send(*[file] * 50), 413, "too_many_images")
    assert_problem(send(*[field] * 50, file), 413, "too_many_images")
    assert_problem(send(field), 400, "no_image")


def test_a_form_that_is_done_with_is_not_kept() -> None:
    headers = StarletteHeaders({"content-type": "multipart/form-data; boundary=cut"})
    gc.collect()
    gc.disable()
    try:
        assert len(parse_uploads(headers, form((FILE, b"1"), (FILE, b"2")), 4)) == 2
        with pytest.raises(ProblemError):
            parse_uploads(headers, form(*[(FILE, b"3")] * 5), 4)
        assert not [found for found in gc.get_objects() if isinstance(found, Upload)]
    finally:
        gc.enable()


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
        "max_study_mb": 100,
        "max_study_images": 300,
        "max_pixels": 40_000_000,
        "max_request_pixels": 160_000_000,
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
    api = {"/v1/predict", "/v1/explain", "/v1/studies", "/v1/model", "/v1/drift", "/v1/samples/{name}"}
    assert api | {"/healthz", "/readyz"} == set(paths)
    assert "multipart/form-data" in paths["/v1/predict"]["post"]["requestBody"]["content"]


def test_a_fault_is_told_without_its_trace(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> Any:
        raise RuntimeError("a secret path")

    async def ask_failing() -> httpx.Response:
        engine = Engine(ServingConfig(bundle=str(bundle)))
        monkeypatch.setattr(engine.model_runs, "run", fail)
        app = make_app(engine)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/predict", content=picture(), headers=PNG)

    response = asyncio.run(ask_failing())
    assert_problem(response, 500, "internal")
    assert "secret" not in response.text


def test_a_challenger_that_fails_costs_no_answer(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[bool] = []

    def fail(*_: Any) -> Any:
        tried.append(True)
        raise RuntimeError("on trial")

    config = ServingConfig(bundle=str(bundle), challenger=str(bundle), canary=1, canary_mode="mirror")
    engine = Engine(config)
    monkeypatch.setattr(engine.predictors[1], "predict", fail)

    async def many() -> list[Any]:
        answers = await asyncio.gather(*(engine.predict(Upload("x", picture())) for _ in range(20)))
        trials = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*trials)
        return answers

    assert len(asyncio.run(many())) == 20
    assert tried
    assert len(caplog.messages) == 20
    assert set(caplog.messages) == {
        f"the challenger {engine.predictors[1].id} failed on an image: RuntimeError('on trial')"
    }


def test_a_share_goes_to_the_challenger(bundle: Path) -> None:
    counted: list[str] = []

    class Counting(NoMetrics):
        def answer(self, answer: Any, role: str) -> None:
            counted.append(role)

    for mode, expected in (("split", 200), ("mirror", 200 + 100)):
        counted.clear()
        config = ServingConfig(bundle=str(bundle), challenger=str(bundle), canary=0.5, canary_mode=mode)
        engine = Engine(config, counts=Counting())
        upload = Upload("x", picture())

        async def many(engine: Engine = engine, upload: Any = upload) -> None:
            await asyncio.gather(*(engine.predict(upload) for _ in range(200)))
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

        asyncio.run(many())
        assert abs(len(counted) - expected) <= (0 if mode == "split" else 40)
        assert 60 < counted.count("challenger") < 140
        shares = [served.share for served in served_models(engine)]
        assert shares == ([0.5, 0.5] if mode == "split" else [1.0, 0.5])
