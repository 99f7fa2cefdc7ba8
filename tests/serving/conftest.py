"""What the tests of the endpoint share: a small bundle that knows phantoms, and a running endpoint."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.bundle import make_bundle
from support.endpoint import Ask, Running, start, stop

from brain_ray.serving.config import ServingConfig
from brain_ray.serving.engine import Engine
from brain_ray.serving.routes import make_app


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tells phantoms apart, which no test may change."""
    return make_bundle(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def endpoint(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An endpoint with one replica, the default limits, no keys and a folder for review."""
    home = tmp_path_factory.mktemp("home")
    running = start(bundle, home, "--review", str(home / "review"))
    yield running
    stop(running)
    assert running.process.returncode == 0


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
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **kwargs)

        try:
            return asyncio.run(talk())
        finally:
            engine.config = before

    return send
