"""The crop rule and the audit on real images where they are at hand; each test has its twin on phantoms."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from support.slices import framed, gamma, moved

from brain_ray.arrays import Grey
from brain_ray.config import CropConfig
from brain_ray.data import decoding, transforms
from brain_ray.data.copies.candidates import Index, index, search
from brain_ray.data.copies.head_view import view_twice
from brain_ray.data.copies.verification import Pairs, verify
from brain_ray.data.copies.whitening import moments, whitening
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.transforms import Box

SHARED = Path(__file__).parents[3] / "shared/data"
REAL = SHARED / "brain-mri"
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")

LEAKS = {
    "Te-me_0077": "Tr-me_0591", "Te-meTr_0009": "Tr-me_0282", "Te-no_0078": "Tr-no_0053",
    "Te-no_0229": "Tr-no_0112", "Te-no_0309": "Tr-no_0141", "Te-no_0193": "Tr-no_0172",
    "Te-no_0138": "Tr-no_0034", "Te-no_0060": "Tr-no_0113", "Te-no_0137": "Tr-no_0032",
    "Te-no_0046": "Tr-no_0327", "Te-no_0033": "Tr-no_0363", "Te-no_0190": "Tr-no_0171",
    "Te-no_0374": "Tr-no_1363",
}  # fmt: skip
"""Test images and training images that show the same slice, seen by eye, with other margins or windows."""

MORE_LEAKS = {
    "Tr-me_0213": "Tr-me_0365", "Tr-me_0234": "Tr-me_0222", "Tr-no_0192": "Tr-no_0538",
    "Tr-no_0290": "Tr-no_0343", "Tr-no_0339": "Tr-no_0179", "Tr-no_0390": "Tr-no_0094",
    "Tr-no_0980": "Tr-no_0707", "Tr-no_0981": "Tr-no_1141",
}  # fmt: skip
"""The same of images that stood in validation and training; their cropped heads correlate by 0.99 or more."""


def real_files() -> list[Path]:
    if not REAL.is_dir():
        pytest.skip(f"no real images at ../{REAL.relative_to(Path(__file__).parents[3])}")
    return sorted(REAL.rglob("*.jpg"))


def real() -> list[bytes]:
    return [path.read_bytes() for path in real_files()]


def phantoms() -> list[bytes]:
    return [phantom.encode(phantom.draw(CLASSES[k % 4], 5, k), ".jpg") for k in range(120)]


def patients() -> tuple[list[bytes], list[str]]:
    """All slices that have a patient's number, and the numbers."""
    table = SHARED / "figshare/patients.csv"
    if not table.is_file():
        pytest.skip(f"no table at ../{table.relative_to(SHARED.parents[1])}")
    rows = pd.read_csv(table)
    return [(table.parent / name).read_bytes() for name in rows["file"]], rows["person"].tolist()


def phantom_patients() -> tuple[list[bytes], list[str]]:
    return [phantom.encode(phantom.draw(CLASSES[k % 4], 11, k), ".png") for k in range(500)], [
        *map(str, range(500))
    ]


def views_of(images: list[Grey]) -> NDArray[np.uint8]:
    boxes = [transforms.find_box(image, CropConfig()) or Box.whole(image) for image in images]
    return np.stack([view_twice(image, box)[0] for image, box in zip(images, boxes, strict=True)])


def copies(images: list[Grey]) -> Pairs:
    views = views_of(images)
    return verify(views, search(index(views)), 0.97)


@pytest.mark.parametrize("source", [real, phantoms])
def test_the_crop_rule_fails_on_no_image(source: Callable[[], list[bytes]]) -> None:
    whole = 0
    files = source()
    for data in files:
        grey = decoding.decode(data)
        box = transforms.find_box(grey, CropConfig())
        whole += box is None
        box = box or Box.whole(grey)
        assert 0 <= box.top < box.bottom <= grey.shape[0]
        assert 0 <= box.left < box.right <= grey.shape[1]
        assert box.crop(grey).size >= 0.2 * grey.size
    assert whole <= 0.02 * len(files), "the rule finds the head in nearly every image"


@pytest.mark.parametrize("source", [real, phantoms])
def test_the_audit_finds_changed_copies(source: Callable[[], list[bytes]]) -> None:
    files = source()
    originals = [decoding.decode(data) for data in files[:: max(1, len(files) // 60)]]
    changes: list[Callable[[Grey], Grey]] = [
        lambda image: np.ascontiguousarray(image[:, ::-1]),
        lambda image: moved(np.ascontiguousarray(np.rot90(image)), 3, right=0.02),
        lambda image: gamma(moved(image, zoom=0.95), 1.5),
        lambda image: framed(image, 0.2, 200),
    ]
    changed = [changes[k % 4](image) for k, image in enumerate(originals)]
    found = copies([*originals, *changed])
    count = len(originals)
    copied = {
        int(a)
        for a, b, s in zip(found.a, found.b, found.similarity, strict=True)
        if b == a + count and s >= 0.97
    }
    assert len(copied) >= 0.96 * count


@pytest.mark.parametrize("source", [patients, phantom_patients])
def test_hardly_any_pair_of_different_patients_is_aligned(
    source: Callable[[], tuple[list[bytes], list[str]]],
) -> None:
    files, names = source()
    views, patient = views_of([decoding.decode(data) for data in files]), np.array(names)
    own = index(views)
    white = whitening([moments(own.embeddings)])
    found = search(Index(white.apply(own.embeddings), own.packed), None, white.floor)
    found = found[patient[found["a"]] != patient[found["b"]]]
    sizes = np.unique(patient, return_counts=True)[1]
    num_pairs = (len(views) ** 2 - (sizes**2).sum()) / 2
    assert len(found) < 1e-4 * num_pairs
    assert verify(views, found, 0.97).num_aligned < 5e-6 * num_pairs


@pytest.mark.parametrize("leaks", [LEAKS, MORE_LEAKS])
def test_the_audit_finds_slices_that_stand_in_two_splits(leaks: dict[str, str]) -> None:
    named = {
        path.stem: decoding.decode(path.read_bytes())
        for path in real_files()
        if path.stem in {*leaks, *leaks.values()}
    }
    names = list(named)
    found = copies(list(named.values()))
    pairs = {
        frozenset((names[a], names[b])): s
        for a, b, s in zip(found.a.tolist(), found.b.tolist(), found.similarity, strict=True)
    }
    assert {frozenset(pair) for pair in leaks.items()} <= {pair for pair, s in pairs.items() if s >= 0.97}


def test_the_audit_finds_a_phantom_cut_to_its_head() -> None:
    images = [decoding.decode(data) for data in phantoms()[:20]]
    cut = [(transforms.find_box(image, CropConfig()) or Box.whole(image)).crop(image) for image in images]
    found = copies([*images, *cut])
    assert {(k, k + 20) for k in range(20)} <= set(zip(found.a.tolist(), found.b.tolist(), strict=True))
