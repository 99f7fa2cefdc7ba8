"""Outlines are read from JSON, boxes and masks, and belong to one image each or to none."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from brain_ray.data.outline_names import match_names
from brain_ray.data.outlines import Outline, read_outlines
from brain_ray.errors import RunError

SQUARE = [[10, 20], [29, 20], [29, 39], [10, 39]]
FIGSHARE = Path(__file__).parents[3] / "shared/data/figshare"


def written(folder: Path, content: object, name: str = "outlines.json") -> str:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def expected() -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[20:40, 10:30] = True
    return mask


def test_a_polygon_is_filled_with_its_border(tmp_path: Path) -> None:
    found = read_outlines(written(tmp_path, {"a.jpg": SQUARE}))
    assert found.names == ["a.jpg"]
    assert np.array_equal(found.load("a.jpg").mask(60, 80), expected())


def test_several_polygons_of_an_image_count_together(tmp_path: Path) -> None:
    other = [[15, 25], [40, 25], [40, 30]]
    found = read_outlines(written(tmp_path, {"a.jpg": [SQUARE, other]})).load("a.jpg").mask(60, 80)
    assert found[expected()].all(), "what both hold is inside"
    assert found[25, 40]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("boxes.csv", "path,left,top,right,bottom\na.jpg,10,20,30,40\n"),
        ("boxes.csv", "bottom;right;file;top;left\n40;30;a.jpg;20;10\n"),
        ("boxes.json", [{"path": "a.jpg", "left": 10, "top": 20, "right": 30, "bottom": 40}]),
        ("boxes.jsonl", '{"path": "a.jpg", "left": 10, "top": 20, "right": 30, "bottom": 40}\n'),
    ],
)
def test_a_box_holds_the_pixels_before_its_right_and_bottom(
    name: str, content: object, tmp_path: Path
) -> None:
    found = read_outlines(written(tmp_path, content, name))
    assert np.array_equal(found.load("a.jpg").mask(60, 80), expected())


def test_two_boxes_of_an_image_count_together(tmp_path: Path) -> None:
    file = written(tmp_path, "path,left,top,right,bottom\na,0,0,5,5\na,20,20,30,30\n", "boxes.csv")
    assert read_outlines(file).load("a").mask(40, 40).sum() == 25 + 100


@pytest.mark.parametrize("channels", [0, 3, 4])
def test_a_mask_is_what_is_above_zero(channels: int, tmp_path: Path) -> None:
    image = expected().astype(np.uint8)  # 1, as label maps have it
    if channels:
        image = np.dstack([image] * 3 + [np.full_like(image, 255)] * (channels == 4))
    (tmp_path / "glioma").mkdir()
    cv2.imwrite(str(tmp_path / "glioma/1.png"), image)
    (tmp_path / "glioma/readme.txt").write_text("no mask")
    found = read_outlines(str(tmp_path))
    assert found.names == ["glioma/1.png"]
    assert np.array_equal(found.load("glioma/1.png").mask(60, 80), expected())


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("o.json", '{"a.jpg": [[1, 2],\n [3}', r"o\.json is no JSON.*line 2"),
        (
            "o.json",
            '{"a.jpg": [[1, 2], [3, 4], [5, 6]], "a.jpg": []}',
            r"o\.json names an image twice: a\.jpg",
        ),
        ("o.json", {"a.jpg": [[1, 2], [3, 4]]}, r"o\.json has 1 fault:\n  entry 'a\.jpg'"),
        ("o.json", {"a": SQUARE, "b": [], "c": "x", "d": [[1, 2, 3]] * 3}, r"3 faults:\n  entry 'b'"),
        ("o.json", '{"a": [[1, 2], [3, NaN], [3, 4]]}', r"entry 'a'"),
        ("o.json", {"a": [[[1, 2], [3, 4], [5, 6]], [[1, 2]]]}, r"entry 'a'"),
        ("o.json", {}, r"o\.json holds no outline"),
        ("o.json", "3", r"o\.json is neither"),
        ("o.json", [{"path": "a", "left": 1}], r"box 1: .*four numbers"),
        ("o.csv", "path,left,top,right,bottom\na,1,2,3,4\nb,5,2,3,4\n", r"line 3: .*expected left < right"),
        ("o.csv", "path,left,top,right,bottom\na,1,x,3,4\n", r"line 2: .*four numbers"),
        ("o.csv", "path,left,top,right,bottom\n,1,2,3,4\n", r"line 2: path is ''"),
        ("o.csv", "path,left,top\na,1,2\n", r"has the columns .*expected path, left, top, right, bottom"),
        ("o.txt", "x", r"o\.txt .*unknown kind: expected a \.json file"),
    ],
)
def test_a_fault_names_the_file_and_the_place(name: str, content: object, text: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=text):
        read_outlines(written(tmp_path, content, name))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no outlines at .*absent\.json: "):
        read_outlines(str(tmp_path / "absent.json"))
    with pytest.raises(RunError, match="holds no mask"):
        read_outlines(str(tmp_path))


@pytest.mark.parametrize(
    ("outline", "text"),
    [
        (Outline((np.array(SQUARE) * 4.0,)), r"from x, y 40, 80 to 116, 156, and the image is 80 x 60"),
        (Outline(png=b"no image"), "no image that can be read"),
        (Outline(png=cv2.imencode(".png", np.ones((60, 60), np.uint8))[1].tobytes()), "60 x 60 .* 80 x 60"),
        (Outline(png=cv2.imencode(".png", np.zeros((60, 80), np.uint8))[1].tobytes()), "no pixel is inside"),
    ],
)
def test_an_outline_that_does_not_fit_its_image_is_refused(outline: Outline, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        outline.mask(60, 80)


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    first = read_outlines(written(tmp_path, {"a": SQUARE})).digest
    assert read_outlines(written(tmp_path, {"a": SQUARE})).digest == first
    assert read_outlines(written(tmp_path, {"b": SQUARE})).digest != first
    masks = tmp_path / "masks"
    masks.mkdir()
    cv2.imwrite(str(masks / "a.png"), np.ones((9, 9), np.uint8))
    before = read_outlines(str(masks)).digest
    cv2.imwrite(str(masks / "b.png"), np.ones((9, 9), np.uint8))
    assert read_outlines(str(masks)).digest != before


PATHS = ["Training/glioma/1.jpg", "Testing/glioma/1.jpg", "Testing/glioma/2.jpg", "Testing/notumor/3.png"]


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (["Testing/glioma/1.jpg"], {0: 1}),
        (["2.png"], {0: 2}),
        (["glioma/2.jpg"], {0: 2}),
        (["images/Testing/glioma/2.jpg"], {0: 2}),
        (["./Testing\\glioma\\2.tif"], {0: 2}),
        (["glioma/1.jpg"], {}),  # of two folders
        (["1.png"], {}),
        (["pituitary/2.jpg"], {}),  # another folder
        (["12.jpg", "ting/glioma/2.jpg"], {}),  # whole names only
        (["2.png", "2.tif"], {}),  # one image, two names
        (["2.png", "Testing/glioma/2.jpg"], {1: 2}),  # the better name has it
        (["3.png", "3.jpg"], {0: 3}),  # its own suffix
    ],
)
def test_a_name_belongs_to_one_image_or_to_none(names: list[str], images: dict[int, int]) -> None:
    found = match_names(names, PATHS)
    assert found.images == {names[k]: image for k, image in images.items()}
    assert sorted([*found.images, *found.ambiguous, *found.unknown]) == sorted(names)


def test_what_is_ambiguous_is_told_apart_from_what_is_unknown() -> None:
    found = match_names(["1.png", "9.png", "2.tif", "2.gif"], PATHS)
    assert (sorted(found.ambiguous), found.unknown) == (["1.png", "2.gif", "2.tif"], ["9.png"])


def figshare() -> tuple[str, list[str]]:
    if not FIGSHARE.is_dir():
        pytest.skip("no real outlines at ../shared/data/figshare")
    return str(FIGSHARE / "outlines.json"), [
        str(path.relative_to(FIGSHARE / "images")) for path in sorted(FIGSHARE.rglob("*.jpg"))
    ]


def drawn(tmp_path: Path) -> tuple[str, list[str]]:
    from brain_ray.config import PhantomConfig
    from brain_ray.data.phantoms import files as phantom

    phantom.write_tree(
        tmp_path, PhantomConfig(train_per_class=2, test_per_class=2), ("glioma", "pituitary"), 1
    )
    paths = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("T*-*.*"))
    return str(tmp_path / phantom.OUTLINES), paths


@pytest.mark.parametrize("source", ["phantoms", "figshare"])
def test_every_outline_of_a_set_belongs_to_an_image_and_fits_it(source: str, tmp_path: Path) -> None:
    location, paths = drawn(tmp_path) if source == "phantoms" else figshare()
    root = tmp_path if source == "phantoms" else FIGSHARE / "images"
    found = read_outlines(location)
    matched = match_names(found.names, paths)
    assert sorted(matched.images.values()) == list(range(len(paths)))
    for name in found.names[:: max(1, len(paths) // 40)]:
        image = cv2.imread(str(root / paths[matched.images[name]]), cv2.IMREAD_GRAYSCALE)
        mask = found.load(name).mask(*image.shape)
        assert 0 < mask.mean() < 0.3
