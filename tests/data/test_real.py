"""The crop rule and the audit on real images where they are at hand; each test has its twin on phantoms."""

from pathlib import Path

import numpy as np
import pytest

from brain_ray.config import CropConfig
from brain_ray.data import decoding, similarity, transforms
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.transforms import Box

REAL = Path(__file__).parents[3] / "shared/data/brain-mri"
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def real() -> list[bytes]:
    if not REAL.is_dir():
        pytest.skip(f"no real images at ../{REAL.relative_to(Path(__file__).parents[3])}")
    return [path.read_bytes() for path in sorted(REAL.rglob("*.jpg"))]


def phantoms() -> list[bytes]:
    return [phantom.encode(phantom.draw(CLASSES[k % 4], 5, k), ".jpg") for k in range(120)]


@pytest.mark.parametrize("source", [real, phantoms])
def test_the_crop_rule_fails_on_no_image(source) -> None:  # type: ignore[no-untyped-def]
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
def test_the_audit_finds_a_mirrored_copy_of_every_image(source) -> None:  # type: ignore[no-untyped-def]
    thumbnails = np.stack([transforms.thumbnail(decoding.decode(data)) for data in source()[::20]])
    mirrored = np.ascontiguousarray(thumbnails[:, :, ::-1])
    a, b = similarity.candidates(similarity.embed(thumbnails), similarity.embed(mirrored), 0.99)
    pairs = similarity.verify(thumbnails, mirrored, a, b, 0.99)
    assert set(range(len(thumbnails))) == {int(x) for x, y in zip(pairs.a, pairs.b, strict=True) if x == y}
