"""A heat map lands where the network saw it, whatever was done to the image on its way there."""

import numpy as np
import pytest
from numpy.typing import NDArray

from brain_ray.bundle.heat_maps import over_crop, over_image
from brain_ray.data.transforms import Box, resize, to_input
from brain_ray.input_spec import Fit, InputSpec

CELL = 8
"""Pixels of a network's input per cell of its feature map, either way."""


def spot(image: NDArray[np.uint8], row: int, column: int, radius: int = 9) -> NDArray[np.uint8]:
    """Draw a bright disc into a black image."""
    rows, columns = np.indices(image.shape)
    image[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = 255
    return image


def feature_map(shown: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a fake feature map: the mean brightness of each cell of a network's input."""
    rows, columns = shown.shape[0] // CELL, shown.shape[1] // CELL
    cells = shown.reshape(rows, CELL, columns, CELL).mean(axis=(1, 3))
    return (cells / cells.max()).astype(np.float32)


def looking_elsewhere(shown: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Return an input whose cells have what is so many pixels below and to the right of them."""
    rows = np.clip(np.arange(shown.shape[0]) + down, 0, shown.shape[0] - 1)
    columns = np.clip(np.arange(shown.shape[1]) + right, 0, shown.shape[1] - 1)
    return shown[rows][:, columns]


def cell_size(box: Box, spec: InputSpec) -> NDArray[np.float64]:
    """Return the height and width, in pixels of the image, of a cell of the feature map."""
    sides = np.array([box.bottom - box.top, box.right - box.left])
    fitted = spec.crop_size or sides
    scale = np.divide((spec.height, spec.width), fitted)
    return CELL / (scale.min() if spec.fit == "pad" else scale) * sides / fitted


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("crop_size", [None, (60, 90), (120, 80)])
@pytest.mark.parametrize("box", [Box(20, 180, 40, 140), Box(10, 90, 30, 230), Box(0, 200, 0, 240)])
@pytest.mark.parametrize("place", [(60, 80), (45, 110), (75, 60)])
def test_a_planted_spot_is_found_where_it_was_planted(
    fit: Fit, crop_size: tuple[int, int] | None, box: Box, place: tuple[int, int]
) -> None:
    spec = InputSpec(96, 128, fit, crop_size)
    image = spot(np.zeros((200, 240), np.uint8), *place)
    found = over_image(feature_map(to_input(image, box, spec)[..., 0]), spec, box, image.shape)
    assert found.shape == image.shape
    cell = cell_size(box, spec)
    peak = np.unravel_index(found.argmax(), found.shape)
    assert (np.abs(np.subtract(peak, place)) <= 0.5 * cell + 2).all(), (peak, place, cell)
    centre = [(found * grid).sum() / found.sum() for grid in np.indices(found.shape)]
    assert (np.abs(np.subtract(centre, place)) <= 0.2 * cell + 1).all(), (centre, place, cell)
    outside = np.ones(image.shape, bool)
    outside[box.rows, box.columns] = False
    assert not found[outside].any()


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("shift", [(4, 4), (-4, -4), (0, 6)])
def test_a_map_that_looks_elsewhere_is_moved_there(fit: Fit, shift: tuple[int, int]) -> None:
    spec, box, place = InputSpec(96, 128, fit), Box(20, 180, 40, 140), (60, 80)
    image = spot(np.zeros((200, 240), np.uint8), *place)
    cells = feature_map(looking_elsewhere(to_input(image, box, spec)[..., 0], *shift))
    missed = []
    for by in ((0, 0), shift):
        found = over_image(cells, spec, box, image.shape, by)
        centre = [(found * grid).sum() / found.sum() for grid in np.indices(found.shape)]
        missed.append(np.abs(np.subtract(centre, place)) / cell_size(box, spec))
    assert (missed[1] <= 0.2).all(), missed
    assert (missed[0] > 0.3).any(), missed


def test_the_bars_beside_a_padded_crop_are_left_out() -> None:
    spec = InputSpec(64, 64, "pad")
    heat = np.zeros((8, 8), np.float32)
    heat[:, 0] = 1  # a narrow crop covers the columns 16 to 47 of the input, so the cells 2 to 5
    found = over_crop(heat, spec, (100, 50))
    assert found.max() < 0.1
    heat[:, 2] = 1
    assert over_crop(heat, spec, (100, 50))[:, :10].mean() > 0.5


def test_a_stretched_map_is_one_cubic_interpolation() -> None:
    heat = np.random.default_rng(3).random((7, 7), dtype=np.float32)
    found = over_crop(heat, InputSpec(224, 224), (70, 49))
    assert (found.shape, found.dtype) == ((70, 49), np.float32)
    assert found.min() >= 0
    np.testing.assert_allclose(resize((heat * 255).astype(np.uint8), 70, 49) / 255, found, atol=0.25)
