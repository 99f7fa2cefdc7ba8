"""A shortcut planted into phantoms is found and named; where there is none, none is told."""

from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from brain_ray.data.copies.head_view import find_outline
from brain_ray.data.decoding import decode
from brain_ray.data.phantoms.files import draw
from brain_ray.data.shortcuts.measure import ALL, MEANING, clear_views, describe, measure
from brain_ray.data.shortcuts.table import tabulate, views_of
from brain_ray.data.shortcuts.views import VIEWS, Floats, view_format, view_pixels

Image = NDArray[np.uint8]
Plant = Callable[[Image, str, int], bytes]

CLASSES = ("glioma", "notumor")
HEADS = 30


def encode(image: Image, quality: int = 90) -> bytes:
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


@cache
def head(name: str, number: int) -> Image:
    """A phantom; the same number is the same scan of the same head, with the tumour of its class or none."""
    drawn = draw(name, 3, number)
    grey = drawn if drawn.ndim == 2 else np.ascontiguousarray(drawn[..., 0])
    return np.asarray(cv2.resize(grey, (160, 160), interpolation=cv2.INTER_AREA), np.uint8)


def data_set(plant: Plant) -> tuple[pd.DataFrame, dict[str, Floats]]:
    """Two images, of which one is mirrored, of each of some heads in each class, and their views."""
    rows, views = [], []
    for name in CLASSES:
        for number in range(HEADS):
            for turn in (1, -1):
                content = plant(np.ascontiguousarray(head(name, number)[:, ::turn]), name, number)
                shown = decode(content)
                seen = view_pixels(shown, find_outline(shown)[0])
                views.append(np.concatenate([view_format(content), seen]))
                row = {"image_id": len(rows), "class_name": name, "group": number, "size": len(content)}
                rows.append(row | {"height": shown.shape[0], "width": shown.shape[1], "file_images": 1})
    images = pd.DataFrame(rows)
    return images, views_of(tabulate(images, np.stack(views)))


def larger(image: Image, name: str, _: int) -> bytes:
    return encode(cv2.resize(image, (190, 190)) if name == "notumor" else image)


def framed(image: Image, name: str, number: int) -> bytes:
    if name == "notumor":
        image = image.copy()
        level = 60 + number % 20
        image[:5] = image[-5:] = image[:, :5] = image[:, -5:] = level
    return encode(image)


def recoded(image: Image, name: str, _: int) -> bytes:
    return encode(image, 50 if name == "notumor" else 90)


@pytest.mark.parametrize(("view", "plant"), [("size", larger), ("frame", framed), ("format", recoded)])
def test_a_planted_shortcut_is_found_and_named(view: str, plant: Plant) -> None:
    found = measure(*data_set(plant), seed=1)
    told = found["classes"]
    assert (found["images"], found["groups"], told["folds"]) == (4 * HEADS, HEADS, 5)
    assert told["majority"] == 0.5
    assert told["views"][view]["accuracy"]["value"] > 0.95
    assert told["views"][ALL]["accuracy"]["value"] > 0.95
    assert told["views"][view]["against_rest"]["notumor"]["low"] > 0.9
    assert {view, ALL} <= set(clear_views(told))
    line, meaning = describe(found)
    assert line.startswith("the classes can be told without the head")
    assert f"{VIEWS[view].title} {told['views'][view]['accuracy']['value']:.2f} (" in line
    assert meaning == f"so {MEANING}"


def test_without_a_shortcut_none_is_told() -> None:
    found = measure(*data_set(lambda image, *_: encode(image)), seed=1)
    told = found["classes"]
    for name, view in told["views"].items():
        if not view["sees_head"]:
            assert view["accuracy"]["low"] <= told["majority"] <= view["accuracy"]["high"], name
    assert clear_views(told) == []
    assert describe(found) == []
    assert found["sources"] == {"reason": "no source is known"}


def test_sources_are_told_where_two_are_known() -> None:
    images, views = data_set(lambda image, _, number: encode(image, 60 if number % 2 else 90))
    images["source"] = np.where(images["group"] % 2 == 1, "north", "south")
    images.loc[images["group"] < 4, "source"] = ""
    found = measure(images, views, seed=1)
    assert found["sources"]["views"]["format"]["accuracy"]["value"] == 1.0
    assert list(found["sources"]["views"]["format"]["against_rest"]) == ["north", "south"]
    assert describe(found)[0].startswith("the sources can be told without the head")
    images["source"] = "north"
    assert measure(images, views, seed=1)["sources"] == {"reason": "all images are of one: north"}


def test_where_no_fold_can_be_made_it_says_why() -> None:
    images, views = data_set(lambda image, *_: encode(image))
    images.loc[images["class_name"] == "notumor", "group"] = 999
    found: dict[str, Any] = measure(images, views, seed=1)
    assert found["classes"]["reason"].startswith("notumor has one group")
    assert describe(found) == []
    assert describe({}) == []
