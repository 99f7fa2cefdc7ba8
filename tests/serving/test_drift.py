"""Drift: what the endpoint's images of late are like, beside those of validation."""

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from brain_ray.bundle.predictor import Predictor
from brain_ray.data.phantoms.files import draw
from brain_ray.serving.config import ServingConfig
from brain_ray.serving.counts import NoMetrics
from brain_ray.serving.drift import LEAST, DriftWatch
from brain_ray.serving.engine import Engine
from brain_ray.serving.routes import make_app
from brain_ray.serving.schemas import Drift

Picture = NDArray[np.uint8]

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


@cache
def phantom(index: int) -> Picture:
    """A phantom as those that the bundle was validated on, but of another number."""
    drawn = draw(CLASSES[index % 4], 11, 8000 + index)
    return drawn if drawn.ndim == 2 else np.ascontiguousarray(drawn[..., 0])


def small(image: Picture) -> Picture:
    return cv2.resize(image, (60, 60), interpolation=cv2.INTER_AREA).astype(np.uint8)


def bright(image: Picture) -> Picture:
    return (255 * (image / 255.0) ** 0.5).astype(np.uint8)


def framed(image: Picture) -> Picture:
    height, width = (round(0.1 * side) for side in image.shape)
    return np.pad(image, ((height, height), (width, width)))


def ask_all(engine: Engine, images: list[Picture], in_a_request: int = 1) -> list[Drift]:
    """Send images, and return what the endpoint tells of drift after each hundred."""
    told: list[Drift] = []
    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in images]

    async def talk() -> None:
        transport = httpx.ASGITransport(make_app(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for first in range(0, len(encoded), 100):
                some = encoded[first : first + 100]
                for at in range(0, len(some), in_a_request):
                    files = [("file", data) for data in some[at : at + in_a_request]]
                    assert (await client.post("/v1/predict", files=files)).status_code == 200
                told.append(Drift.model_validate_json((await client.get("/v1/drift")).content))

    asyncio.run(talk())
    return told


@pytest.fixture
def make_engine(bundle: Path) -> Callable[..., Engine]:
    return lambda **counts: Engine(ServingConfig(bundle=str(bundle)), **counts)


@pytest.mark.parametrize(
    ("change", "quantity"), [(small, "grey_detail"), (bright, "grey_mean"), (framed, "box_share")]
)
def test_changed_images_alarm_within_five_hundred_requests(
    make_engine: Callable[..., Engine], change: Callable[[Picture], Picture], quantity: str
) -> None:
    told = ask_all(make_engine(), [change(phantom(i)) for i in range(300)])
    last = told[-1]
    assert last.status == "drifted"
    assert last.quantities[quantity].alarms
    assert "differ by more than chance" in last.sentence


def test_undisturbed_images_do_not_alarm(make_engine: Callable[..., Engine]) -> None:
    told = ask_all(make_engine(), [phantom(i) for i in range(500)])
    assert [one.status for one in told] == ["steady"] * 5
    last = told[-1]
    assert last.images == 300
    assert "none of 8 quantities differs" in last.sentence
    assert set(last.labels) == set(CLASSES)
    assert last.reference_labels is not None
    assert sum(last.reference_labels.values()) == pytest.approx(1, abs=1e-5)
    assert sum(last.labels.values()) == pytest.approx(1)


def test_many_undisturbed_windows_alarm_once_in_a_thousand_at_most(bundle: Path) -> None:
    """The comparison itself, on quantities drawn from the reference."""
    predictor = Predictor(bundle, threads=1)
    reference = predictor.reference
    assert reference is not None
    from brain_ray.scoring.shift import compare_with
    from brain_ray.serving.drift import LEVEL

    rng = np.random.default_rng(3)
    values = {name: rng.normal(size=600) for name in reference.quantities}
    alarms = 0
    for _ in range(400):
        found = {name: rng.normal(size=200) for name in values}
        shift = compare_with(values, np.arange(600), found, np.arange(200), level=LEVEL, draws=0)
        alarms += bool(shift.alarms)
    assert alarms == 0
    moved = {name: rng.normal(0.8, size=200) for name in values}
    assert len(
        compare_with(values, np.arange(600), moved, np.arange(200), level=LEVEL, draws=0).alarms
    ) == len(values)


def test_images_of_one_request_have_one_say(make_engine: Callable[..., Engine]) -> None:
    told = ask_all(make_engine(), [bright(phantom(i % 8)) for i in range(200)], in_a_request=25)
    (name,) = {"grey_mean"}
    assert told[-1].quantities[name].by_chance > 0.5  # eight requests are few
    assert "8 requests" in told[-1].sentence


def test_nothing_is_said_before_there_are_enough_images(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    engine_told = engine.drift.tell()
    assert (engine_told.status, engine_told.images) == ("unknown", 0)
    assert str(LEAST) in engine_told.sentence
    (told,) = ask_all(engine, [phantom(i) for i in range(40)])
    assert told.status == "unknown"
    assert told.quantities == {}


def test_a_bundle_of_an_earlier_version_has_nothing_to_compare_with(bundle: Path) -> None:
    predictor = Predictor(bundle, threads=1)
    predictor.reference = None
    watch = DriftWatch(predictor)
    assert watch.boundaries() == {}
    assert "earlier version" in watch.tell().sentence


def test_each_quantity_reaches_the_metrics(make_engine: Callable[..., Engine]) -> None:
    seen: dict[str, list[Any]] = {"watch": [], "quantities": [], "drift": []}

    class Counting(NoMetrics):
        def watch(self, model: str, boundaries: Any) -> None:
            seen["watch"].append(boundaries)

        def quantities(self, values: Any) -> None:
            seen["quantities"].append(values)

        def drift(self, shift: Any) -> None:
            seen["drift"].append(shift)

    ask_all(make_engine(counts=Counting()), [phantom(i) for i in range(150)])
    (boundaries,) = seen["watch"]
    assert len(boundaries) == 8
    assert all(bounds == sorted(set(bounds)) for bounds in boundaries.values())
    assert len(seen["quantities"]) == 150
    assert set(seen["quantities"][0]) == set(boundaries)
    assert len(seen["drift"]) == 2  # at a hundred, and at a hundred and fifty
