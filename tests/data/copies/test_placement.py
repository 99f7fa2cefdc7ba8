"""What is told of a pair: orientation, shift, angle and zoom of the second image against the first."""

import numpy as np
import pytest
from support.slices import UNDO, Grey, framed, moved, slice_of

from brain_ray.data.copies.candidates import index, search
from brain_ray.data.copies.head_view import view_head
from brain_ray.data.copies.placement import (
    TRANSFORMS,
    TURNS,
    VIEWS,
    Placement,
    combine,
    nearest_turns,
    place,
    reverse,
    turn,
)
from brain_ray.data.copies.verification import verify


def placed(first: Grey, second: Grey) -> tuple[Placement, str]:
    heads = [view_head(first), view_head(second)]
    views = np.stack([np.stack([head.ranks] * 2) for head in heads])
    pairs = verify(views, search(index(views)), 0.95)
    assert len(pairs.a) == 1
    one, other = (np.array([[head.x, head.y, head.size]], np.float32) for head in heads)
    sizes = [np.array([image.shape[::-1]]) for image in (first, second)]
    found = place(pairs.transforms, one, other, *sizes)
    return found, VIEWS[int(found.views(pairs.aligned)[0])]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_orientation_has_its_name(name: str) -> None:
    second = slice_of(1)[:, 10:]
    first = np.ascontiguousarray(UNDO[name](second))
    found, view = placed(first, np.ascontiguousarray(second))
    assert TRANSFORMS[int(found.transform[0])] == name
    assert (found.shift[0], found.angle[0], found.zoom[0]) == pytest.approx((0, 0, 1), abs=0.01)
    assert view == "whole"


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_turned_view_lies_as_the_first(name: str) -> None:
    view = np.random.default_rng(1).normal(size=(3, 8, 8)).astype(np.float32)
    expected = np.stack([UNDO[name](one) for one in view])
    assert np.array_equal(turn(view, TRANSFORMS.index(name)), expected)


@pytest.mark.parametrize("first", range(8))
@pytest.mark.parametrize("then", range(8))
def test_two_turns_one_after_the_other_are_one_turn(first: int, then: int) -> None:
    image = np.random.default_rng(2).normal(size=(5, 7))
    assert np.array_equal(turn(turn(image, first), then), turn(image, combine(first, then)))
    assert np.array_equal(turn(turn(image, first), reverse(first)), image)


def test_matrices_are_nearest_to_themselves() -> None:
    matrices = np.concatenate([TURNS, np.zeros((8, 2, 1))], axis=2).astype(np.float32)
    assert nearest_turns(matrices).tolist() == list(range(8))


def test_shift_angle_and_zoom_are_those_of_the_second_image() -> None:
    first = moved(slice_of(2), zoom=0.8)
    found, view = placed(first, moved(first, -4, 1.1, right=0.05))
    assert found.angle[0] == pytest.approx(4, abs=0.5), "clockwise"
    assert found.zoom[0] == pytest.approx(1.1, abs=0.015)
    assert found.shift[0] == pytest.approx(0.05, abs=0.006)
    assert view == "aligned"


def test_a_margin_is_a_zoom_of_the_head_alone() -> None:
    first = slice_of(3)
    found, view = placed(first, framed(first, 0.1, 0))
    assert found.zoom[0] == pytest.approx(1 / 1.2, abs=0.01)
    assert found.shift[0] == pytest.approx(0, abs=0.01)
    assert view == "head"


def test_another_resolution_is_no_zoom() -> None:
    first = slice_of(4)
    found, view = placed(first, np.repeat(np.repeat(first, 2, axis=0), 2, axis=1))
    assert found.zoom[0] == pytest.approx(1, abs=0.01)
    assert view == "whole"
