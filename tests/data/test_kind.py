"""Images that look like CT are told by the brightness of their bone."""

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.slices import Grey, ct_slice, framed, gamma, moved, slice_of

from brain_ray.config import DataConfig
from brain_ray.data.copies.head_view import find_outline
from brain_ray.data.decoding import decode
from brain_ray.data.kind import Rim, looks_like, measure_rim
from brain_ray.data.phantoms import files as phantom

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared/data/brain-mri"

CHANGES: dict[str, Callable[[Grey], Grey]] = {
    "as it is": lambda image: image,
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "on its side": lambda image: np.ascontiguousarray(np.rot90(image)),
    "turned, shifted and smaller": lambda image: moved(image, 15, zoom=0.8, right=0.05),
    "darker and flatter": lambda image: np.asarray(0.7 * image + 20, np.uint8),
    "gamma 1.4": lambda image: gamma(image, 1.4),
    "a white margin": lambda image: framed(image, 0.2, 255),
    "larger": lambda image: np.asarray(cv2.resize(image, (900, 900)), np.uint8),
    "stretched": lambda image: np.asarray(cv2.resize(image, (224, 180)), np.uint8),
    "a JPEG of quality 30": lambda image: decode(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1].tobytes()
    ),
}


def rim_of(image: Grey) -> Rim:
    return measure_rim(image, find_outline(image)[0])


def kind_of(image: Grey) -> str:
    return looks_like(rim_of(image))


def mr_slice(seed: int) -> Grey:
    """The same head in MR: bright fat, dark bone, and the brain."""
    image = slice_of(seed).astype(float)
    side = len(image)
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / side
    depth = 1 - np.sqrt((x / 0.33) ** 2 + (y / 0.42) ** 2)
    image[(depth > 0.04) & (depth < 0.1)] = 20
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8), np.uint8)


@pytest.mark.parametrize("change", CHANGES)
def test_a_closed_bright_ring_around_a_dim_brain_looks_like_ct(change: str) -> None:
    kinds = [kind_of(CHANGES[change](ct_slice(seed))) for seed in range(20)]
    assert kinds.count("CT") >= 19


def test_a_ring_need_not_be_white() -> None:
    assert kind_of(ct_slice(1, window=180)) == "CT"


@pytest.mark.parametrize("change", CHANGES)
def test_dark_bone_between_fat_and_brain_looks_like_mr(change: str) -> None:
    assert not any(kind_of(CHANGES[change](mr_slice(seed))) for seed in range(10))


def test_an_open_ring_is_no_skull() -> None:
    image = ct_slice(2)
    image[:80, 80:150] = np.minimum(image[:80, 80:150], 90)
    assert kind_of(image) == ""


@pytest.mark.parametrize("label", DataConfig().classes)
def test_phantoms_of_mr_look_like_mr(label: str) -> None:
    drawn = [decode(phantom.encode(phantom.draw(label, 3, k), ".png")) for k in range(100)]
    assert sum(kind_of(image) != "" for image in drawn) <= 1


@pytest.mark.parametrize("shape", [(16, 16), (16, 900), (700, 17), (64, 64)])
def test_every_image_has_a_rim(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    line, speck = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    line[:, 3] = speck[5:7, 5:9] = 200
    for image in (noise, line, speck, np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)):
        rim = rim_of(image)
        assert np.isfinite([rim.evenness, rim.inside, rim.gap]).all()
        assert looks_like(rim) == ""


def test_a_drawn_circle_is_no_skull() -> None:
    assert kind_of(np.asarray(cv2.circle(np.zeros((224, 224), np.uint8), (112, 112), 90, 255, 12))) == ""


def test_real_images_that_look_like_ct_are_told_from_mr() -> None:
    if not REAL.is_dir():
        pytest.skip(f"no real images at ../{REAL.relative_to(ROOT.parent)}")
    with (ROOT / "benchmarks" / "kind_labels.csv").open(newline="") as file:
        seen = {row["path"]: row["looks_like"] for row in csv.DictReader(file)}
    paths = {path.relative_to(REAL).as_posix(): path for path in sorted(REAL.rglob("*.jpg"))}
    ct = [name for name, kind in seen.items() if kind == "CT"]
    mr = [name for name in paths if name not in seen][::15]
    found = [name for name in ct if kind_of(decode(paths[name].read_bytes())) == "CT"]
    wrong = [name for name in mr if kind_of(decode(paths[name].read_bytes()))]
    assert len(found) >= 0.9 * len(ct), sorted(set(ct) - set(found))
    assert len(wrong) <= 0.005 * len(mr), wrong
