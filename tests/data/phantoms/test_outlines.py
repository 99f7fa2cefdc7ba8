"""A phantom knows where its tumour is: the outline is what a tumour changes in its head, oedema aside."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from brain_ray.config import PhantomConfig
from brain_ray.data.phantoms import files as phantom

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
SLICES = PhantomConfig(train_per_class=8, test_per_class=3, slices_per_patient=3)


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 2 else image[..., 0]


def filled(drawn: phantom.Phantom) -> NDArray[np.bool_]:
    """Return the mask within a phantom's outlines."""
    mask = np.zeros(drawn.image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32) for outline in drawn.outlines()], 1)
    return mask > 0


@pytest.mark.parametrize("name", ["glioma", "meningioma", "pituitary"])
def test_an_outline_holds_what_the_tumour_changes(name: str) -> None:
    for index in range(12):
        drawn = phantom.draw_outlined(name, 4, index)
        assert np.array_equal(drawn.image, phantom.draw(name, 4, index))
        inside = filled(drawn)
        change = cv2.absdiff(grey(drawn.image), grey(phantom.draw("notumor", 4, index))).astype(float)
        assert 0.002 < inside.mean() < 0.12
        assert change[inside].mean() > 15
        near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3)), iterations=inside.shape[0] // 8) > 0
        assert change[near].sum() > 0.9 * change.sum(), "the rest is oedema or a tail"


def test_a_slice_has_the_outline_of_its_own_level() -> None:
    first, second = (phantom.draw_slice_outlined("glioma", 3, 7, number, SLICES) for number in (0, 1))
    assert np.array_equal(first.image, phantom.draw_slice("glioma", 3, 7, 0, SLICES))
    assert filled(first).any()
    assert not np.array_equal(filled(first), filled(second))


def test_a_head_without_a_tumour_has_no_outline() -> None:
    assert phantom.draw_outlined("notumor", 4, 1).outlines() == []


@pytest.mark.parametrize("phantoms", [SLICES, PhantomConfig(train_per_class=2, test_per_class=2, copies=2)])
def test_a_tree_tells_the_outlines_of_its_tumours(phantoms: PhantomConfig, tmp_path: Path) -> None:
    phantom.write_tree(tmp_path, phantoms, CLASSES, seed=5)
    told = json.loads((tmp_path / phantom.OUTLINES).read_text())
    drawn = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("T*-*.*")}
    assert set(told) == {path for path in drawn if "/notumor/" not in path}
    for path, outlines in told.items():
        height, width = cv2.imread(str(tmp_path / path), cv2.IMREAD_GRAYSCALE).shape
        points = np.concatenate(outlines)
        assert (points >= 0).all()
        assert (points <= (width - 1, height - 1)).all()
