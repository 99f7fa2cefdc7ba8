"""Views of an image without its head do not change with the head, and tell how the image was made."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from brain_ray.data.copies.head_view import find_outline
from brain_ray.data.phantoms.files import draw
from brain_ray.data.shortcuts.views import (
    PIXEL_VIEWS,
    VIEWS,
    WITHOUT_HEAD,
    Floats,
    view_format,
    view_pixels,
    view_size,
)


def phantom(index: int, side: int = 224) -> NDArray[np.uint8]:
    drawn = draw("glioma", 3, index)
    grey = drawn if drawn.ndim == 2 else np.ascontiguousarray(drawn[..., 0])
    return np.asarray(cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def views(image: NDArray[np.uint8], outline: NDArray[np.float32] | None = None) -> dict[str, Floats]:
    """The views of an image's pixels, by name."""
    ends = np.cumsum([VIEWS[name].length for name in PIXEL_VIEWS])
    parts = np.split(view_pixels(image, find_outline(image)[0] if outline is None else outline), ends)
    assert not len(parts.pop())
    return dict(zip(PIXEL_VIEWS, parts, strict=True))


@pytest.mark.parametrize("side", [96, 224, 700])
@pytest.mark.parametrize("index", range(3))
def test_what_is_within_the_head_has_no_influence_on_the_views_without_it(index: int, side: int) -> None:
    image = phantom(index, side)
    outline = find_outline(image)[0]
    inside = np.zeros(image.shape, np.uint8)
    cv2.fillConvexPoly(inside, np.round(outline).astype(np.int32), (1,))
    noise = np.random.default_rng(index).integers(0, 256, image.shape, dtype=np.uint8)
    before, after = (views(shown, outline) for shown in (image, np.where(inside > 0, noise, image)))
    for name in WITHOUT_HEAD:
        if name in PIXEL_VIEWS:
            assert np.isfinite(before[name]).any()
            assert np.array_equal(before[name], after[name], equal_nan=True), name
    assert not np.array_equal(before["histogram"], after["histogram"])


def test_another_brain_in_the_same_head_hardly_moves_the_outline() -> None:
    """The outline is found anew, by a threshold that depends on all grey levels: a pixel more or less."""
    image = phantom(5)
    outline, _ = find_outline(image)
    middle = outline.mean(axis=0)
    brain = np.zeros(image.shape, np.uint8)
    cv2.fillConvexPoly(brain, np.round(middle + 0.6 * (outline - middle)).astype(np.int32), (1,))
    other = np.where(brain > 0, image * 0.75 + 40, image).astype(np.uint8)
    assert (other != image).mean() > 0.1
    before, after = views(image), views(other)
    assert np.nanmax(np.abs(before["frame"] - after["frame"])) < 1
    assert np.abs(before["background"] - after["background"]).max() < 0.02


def test_a_frame_around_the_head_shows_in_frame_and_background() -> None:
    image = phantom(1)
    framed = image.copy()
    framed[:4] = framed[-4:] = framed[:, :4] = framed[:, -4:] = 90
    before, after = views(image), views(framed)
    known = np.isfinite(before["frame"] + after["frame"])
    assert known.sum() > 32
    assert np.abs(after["frame"][known] - before["frame"][known]).max() > 20
    assert np.abs(after["background"] - before["background"]).max() > 0.1


def test_where_the_head_fills_the_image_nothing_is_known_of_the_rest() -> None:
    image = phantom(1)
    corners = np.array([[0, 0], [223, 0], [223, 223], [0, 223]], np.float32)
    found = views(image, corners)
    assert np.isnan(found["frame"]).all()
    assert np.isnan(found["background"]).all()
    assert np.isclose((found["histogram"] ** 2).sum(), 1)


def test_means_and_deviations_are_those_of_the_cells() -> None:
    image = np.zeros((64, 128), np.uint8)
    image[:4, :16] = np.tile(np.array([10, 30], np.uint8), (4, 8))
    small = np.array([[60, 30], [68, 30], [68, 34], [60, 34]], np.float32)
    frame = views(image, small)["frame"].reshape(4, 2, 8)
    assert np.allclose(frame[0, :, 0], [20, 10])  # the top side's first cell
    assert np.allclose(frame[0, :, 1:], 0)
    assert np.allclose(frame[1], 0)
    assert frame[2, 0, 0] > 0  # the left side's first cell holds a part of it


def test_the_format_tells_file_types_and_qualities_apart() -> None:
    image = phantom(2)
    files = {
        "high": cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes(),
        "low": cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1].tobytes(),
        "colour": cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))[1].tobytes(),
        "png": cv2.imencode(".png", image)[1].tobytes(),
        "deep": cv2.imencode(".png", image.astype(np.uint16) * 257)[1].tobytes(),
        "bmp": cv2.imencode(".bmp", image)[1].tobytes(),
        "none": b"no image",
    }
    found = {name: view_format(content) for name, content in files.items()}
    assert {each.shape for each in found.values()} == {(VIEWS["format"].length,)}
    assert len({tuple(np.nan_to_num(each, nan=-9)) for each in found.values()}) == len(files)
    assert found["low"][6] > found["high"][6] > 0  # coarser steps
    assert (found["high"][2], found["colour"][2]) == (1, 3)
    assert (found["png"][1], found["deep"][1]) == (8, 16)
    other = cv2.imencode(".jpg", 255 - image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1].tobytes()
    assert np.array_equal(view_format(other), found["low"], equal_nan=True)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_cut_header_is_no_error(suffix: str) -> None:
    content = cv2.imencode(suffix, phantom(1))[1].tobytes()
    whole = view_format(content)
    for end in range(4, 400):
        found = view_format(content[:end])
        assert found.shape == whole.shape
        assert found[0] in (-1, whole[0])


def test_the_size_is_width_height_and_their_ratio() -> None:
    assert view_size(300, 200).tolist() == [300, 200, 1.5]
