"""Habits of callers: other origins, monitors, bodies without a type, base64, prefixes, proxies."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.endpoint import PNG, Ask, picture
from support.messages import messages_to

from brain_ray.serving.client import AsyncClient, Client, EndpointError
from brain_ray.serving.config import ServingConfig
from brain_ray.serving.haproxy import FRONT, front_settings
from brain_ray.serving.json_images import PIECE, count_marks

WARD = "https://ward.example"
FROM_WARD = {"origin": WARD, "sec-fetch-site": "cross-site"}
IMAGE = picture()
TEXT = base64.b64encode(IMAGE).decode()


def labels(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [result["label"] for result in response.json()["results"]]


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize("allowed", [WARD, "*"])
def test_pages_of_an_origin_that_is_let_in_may_ask_and_read(ask: Ask, allowed: str) -> None:
    settings = {"allowed_origins": (allowed,), "api_keys_sha256": ("00" * 32,)}
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    asked = ask("OPTIONS", "/v1/predict", headers=FROM_WARD | wanted, settings=settings)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] in (WARD, "*")
    assert "POST" in asked.headers["access-control-allow-methods"]
    without_key = ask("POST", "/v1/predict", content=IMAGE, headers=PNG | FROM_WARD, settings=settings)
    assert code_of(without_key) == (401, "unauthorized")
    open_to_all = {"allowed_origins": (allowed,)}
    found = ask("POST", "/v1/predict", content=IMAGE, headers=PNG | FROM_WARD, settings=open_to_all)
    assert labels(found) == ["glioma"]
    assert found.headers["access-control-allow-origin"] in (WARD, "*")


def test_pages_of_other_origins_stay_out(ask: Ask) -> None:
    other = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    settings = {"allowed_origins": (WARD,)}
    found = ask("POST", "/v1/predict", content=IMAGE, headers=PNG | other, settings=settings)
    assert code_of(found) == (403, "forbidden")
    assert "access-control-allow-origin" not in found.headers
    asked = {**other, "access-control-request-method": "POST"}
    assert (
        "access-control-allow-origin"
        not in ask("OPTIONS", "/v1/predict", headers=asked, settings=settings).headers
    )
    assert code_of(ask("POST", "/v1/predict", content=IMAGE, headers=PNG | FROM_WARD)) == (403, "forbidden")


@pytest.mark.parametrize(
    "origin", ["ward.example", "https://ward.example/", "https://", "ftp://ward.example"]
)
def test_what_is_no_origin_is_no_setting(origin: str) -> None:
    with pytest.raises(ValueError, match="allowed_origins"):
        ServingConfig(bundle="b", allowed_origins=(origin,))


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/v1/model", "/page/app.js", "/openapi.json"])
def test_monitors_may_ask_by_head(ask: Ask, path: str) -> None:
    by_get, by_head = ask("GET", path), ask("HEAD", path)
    assert (by_head.status_code, by_head.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert by_head.headers[name] == by_get.headers[name]


def test_head_is_no_way_to_send_an_image(ask: Ask) -> None:
    assert ask("HEAD", "/v1/predict").status_code == 405
    assert ask("HEAD", "/nothing").status_code == 404
    assert ask("HEAD", "/v1/model", settings={"api_keys_sha256": ("00" * 32,)}).status_code == 401


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded"])
def test_a_body_without_a_type_is_told_by_its_content(ask: Ask, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    assert labels(ask("POST", "/v1/predict", content=IMAGE, headers=headers)) == ["glioma"]
    refused = ask("POST", "/v1/predict", content=b"a=b", headers=headers)
    assert code_of(refused) == (415, "not_an_image")
    assert "expected an image" in refused.json()["detail"]
    assert code_of(ask("POST", "/v1/predict", content=b"", headers=headers)) == (400, "no_image")


def test_another_type_is_refused_by_its_name(ask: Ask) -> None:
    refused = ask("POST", "/v1/predict", content=IMAGE, headers={"content-type": "text/plain"})
    assert code_of(refused) == (415, "not_an_image")
    assert "the content type is 'text/plain'" in refused.json()["detail"]


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        f"DATA:;BASE64,{TEXT}",
        "\r\n".join(re.findall(".{1,76}", TEXT)),
    ],
)
def test_an_image_may_come_as_base64_in_json(ask: Ask, text: str) -> None:
    assert labels(ask("POST", "/v1/predict", json={"image": text})) == ["glioma"]
    assert labels(ask("POST", "/v1/explain", json={"image": {"data": text}})) == ["glioma"]


def test_several_in_json_keep_their_order_and_names(ask: Ask) -> None:
    named = {"name": "b\u202e.png", "data": base64.b64encode(picture("pituitary")).decode()}
    broken = {"name": "c.png", "data": base64.b64encode(b"none").decode()}
    found = ask("POST", "/v1/predict", json={"images": [TEXT, named, broken]}).json()["results"]
    assert [result["name"] for result in found] == ["image", "b.png", "c.png"]
    assert [result.get("label") for result in found] == ["glioma", "pituitary", None]
    assert found[2]["problem"]["code"] == "not_an_image"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "no_image"),
        ({"images": []}, "no_image"),
        ({"image": "%%%"}, "bad_request"),
        ({"image": "iVBORw0KGg"}, "bad_request"),
        ({"image": "data:image/png,text"}, "bad_request"),
        ({"image": "data:"}, "bad_request"),
        ({"image": "\u00e4"}, "bad_request"),
        ({"image": 7}, "bad_request"),
        ({"picture": TEXT}, "bad_request"),
        ([TEXT], "bad_request"),
        ({"images": [TEXT] * 33}, "too_many_images"),
        ({"images": [[]] * 4000}, "too_many_images"),
    ],
)
def test_json_that_is_not_understood_is_told_so(ask: Ask, body: Any, code: str) -> None:
    found = ask("POST", "/v1/predict", json=body)
    assert found.json()["code"] == code, found.text
    assert found.status_code == {"too_many_images": 413}.get(code, 400)
    assert len(found.text) < 1000


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"image": "' + b"1" * 20, b'{"image": ' + b"1" * 9_999_999 + b"}"]
)
def test_what_is_no_json_is_told_so_at_once(ask: Ask, body: bytes) -> None:
    found = ask("POST", "/v1/predict", content=body, headers={"content-type": "application/json"})
    assert code_of(found) == (400, "bad_request")


def test_a_part_without_a_file_name_is_an_image_if_it_is_one(ask: Ask) -> None:
    def part(data: bytes, *more: bytes) -> bytes:
        head = b'--cut\r\nContent-Disposition: form-data; name="file"'
        return b"\r\n".join([head, *more, b"", data, b""])

    form = {"content-type": "multipart/form-data; boundary=cut"}
    body = part(b"a note") + part(IMAGE) + part(b"damaged", b"Content-Type: image/png") + b"--cut--\r\n"
    first, second = ask("POST", "/v1/predict", content=body, headers=form).json()["results"]
    assert (first["name"], first["label"]) == ("image", "glioma")
    assert second["problem"]["code"] == "not_an_image"
    only_text = part(b"a note") + b"--cut--\r\n"
    assert code_of(ask("POST", "/v1/predict", content=only_text, headers=form)) == (400, "no_image")


@pytest.mark.parametrize("before", ["", "/brain"])
def test_a_prefix_may_be_taken_away_or_left_by_the_proxy_in_front(ask: Ask, before: str) -> None:
    settings = {"root_path": "/brain", "api_keys_sha256": ("00" * 32,)}
    assert ask("GET", f"{before}/healthz", settings=settings).status_code == 200
    assert ask("GET", f"{before}/", settings=settings).status_code == 200
    assert ask("GET", f"{before}/page/app.js", settings=settings).status_code == 200
    assert ask("GET", f"{before}/v1/model", settings=settings).status_code == 401
    settings = {"root_path": "/brain"}
    assert labels(ask("POST", f"{before}/v1/predict", content=IMAGE, headers=PNG, settings=settings))
    assert ask("GET", f"{before}/openapi.json", settings=settings).json()["servers"] == [{"url": "/brain"}]
    docs = ask("GET", f"{before}/docs", settings=settings).text
    for address in re.findall(r"""(?:src|href|url)[=:] ?["'](/[^"']*)""", docs):
        assert address.startswith("/brain/"), address
        assert ask("GET", address.partition("#")[0], settings=settings).status_code == 200
    assert ask("GET", "/brainy/healthz", settings=settings).status_code == 404


def test_the_page_below_a_prefix_has_a_slash_at_its_end(ask: Ask) -> None:
    """Its addresses are relative to it."""
    found = ask("GET", "/brain", settings={"root_path": "/brain"})
    assert (found.status_code, found.headers["location"]) == (307, "http://localhost/brain/")


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("proxy", "said"),
    [("socks5://u:s3cret@proxy:1080", "socksio"), ("s3cret://x", "http://")],
)
def test_a_proxy_that_cannot_be_used_is_told_in_a_line(
    kind: type[Client | AsyncClient], proxy: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(EndpointError, match=said) as told:
        kind("http://endpoint.example:8000")
    assert "s3cret" not in str(told.value)
    assert "\n" not in str(told.value)
    for host in ("localhost", "127.0.0.1", "127.3.2.1", "[::1]"):
        assert kind(f"http://{host}:8000").url == f"http://{host}:8000"


ELSEWHERE = """
import asyncio, os, ssl, sys
import httpx
from pydantic import BaseModel  # they know the systems themselves
sys.platform = {platform!r}
for name in ("fcntl", "grp", "pwd", "resource", "termios", "syslog"):
    sys.modules[name] = None
for name in ("fork", "getuid", "geteuid", "sched_getaffinity", "sched_setaffinity", "sysconf", "killpg"):
    vars(os).pop(name, None)
from brain_ray import Client

def answer(request):
    return httpx.Response(503 if request.url.path == "/readyz" else 415, json={problem})

with Client("http://127.0.0.1:8000", retries=0, transport=httpx.MockTransport(answer)) as client:
    print([result.problem.code for result in client.predict([b"x", "nothing.png"])])
"""


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_the_client_needs_nothing_that_only_linux_has(platform: str) -> None:
    """Simulated: what the other systems' Python lacks is taken away."""
    problem = {"type": "t", "title": "t", "status": 415, "code": "not_an_image", "detail": "d"}
    program = ELSEWHERE.format(platform=platform, problem=json.dumps(problem))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['not_an_image', 'unreadable']", done.stderr


def test_ray_s_own_proxy_stands_in_where_there_is_no_haproxy(tmp_path: Path) -> None:
    with_it = front_settings(tmp_path, lambda: True)
    assert with_it["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    lines: list[str] = []
    with messages_to(lines.append):
        without = front_settings(tmp_path, lambda: False)
    assert "Ray's own proxy takes its place" in lines[0]
    assert without == {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": FRONT}


def test_marks_of_a_large_body_are_counted_in_all_of_it() -> None:
    body = json.dumps({"images": ["A" * 1000, {"name": "a", "data": "B" * 700}] * 700}).encode()
    assert len(body) > 2 * PIECE
    assert count_marks(body) == sum(body.count(mark) for mark in (b'"', b",", b"[", b"{")) == 9803
    assert count_marks(b"") == 0
