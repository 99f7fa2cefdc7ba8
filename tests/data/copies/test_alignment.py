"""Details of two views are compared where both show the head, after one is moved onto the other."""

import itertools

import numpy as np
import pytest
from support.slices import moved, slice_of, views_of

from brain_ray.data.copies import alignment
from brain_ray.data.copies.head_view import SIDE

VIEWS = views_of([slice_of(seed) for seed in range(6)])[:, 0]
IDENTITY = np.eye(2, 3, dtype=np.float32)


def alike(first: np.ndarray, second: np.ndarray, transform: np.ndarray = IDENTITY) -> float:
    found = alignment.details(first), alignment.details(second)
    return alignment.correlate_moved(*found, transform)


def test_a_view_is_like_itself_and_unlike_others() -> None:
    assert alike(VIEWS[0], VIEWS[0]) == pytest.approx(1, abs=1e-5)
    assert max(alike(VIEWS[0], other) for other in VIEWS[1:]) < 0.5


def test_pairs_are_compared_together_as_one_by_one() -> None:
    details = np.stack([alignment.details(view) for view in VIEWS])
    together = alignment.correlate(details[:-1], details[1:])
    assert together == pytest.approx([alike(a, b) for a, b in itertools.pairwise(VIEWS)], abs=1e-5)


def test_a_bright_frame_in_both_does_not_make_slices_alike() -> None:
    first, second = VIEWS[:2].copy()
    for view in (first, second):
        view[:14], view[-14:], view[:, :14], view[:, -14:] = 255, 255, 255, 255
    assert alike(first, second) < 0.7


def test_heads_that_hardly_overlap_are_not_compared() -> None:
    away = IDENTITY.copy()
    away[0, 2] = 0.5 * SIDE
    assert alike(VIEWS[0], VIEWS[0], away) == 0


def test_uniform_views_resemble_nothing() -> None:
    uniform = np.full((SIDE, SIDE), 128, np.uint8)
    assert alike(uniform, uniform) == 0
    assert alike(VIEWS[0], uniform) == 0


@pytest.mark.parametrize(("side", "steps"), [(48, 12), (64, 20)])
def test_a_moved_view_is_found_again(side: int, steps: int) -> None:
    for view in VIEWS:
        other = moved(view, 3, 1.03, right=0.02)
        found = alignment.align(*(alignment.shrink(one, side) for one in (view, other)), IDENTITY, steps)
        assert alike(view, other, found) > 0.97 > alike(view, other)


def test_what_cannot_be_aligned_keeps_its_start() -> None:
    nothing = np.zeros((48, 48), np.float32)
    assert np.array_equal(alignment.align(nothing, nothing, IDENTITY, 4), IDENTITY)


def test_poses_turn_and_then_mirror() -> None:
    (quarter,) = alignment.poses(
        np.array([np.pi / 2], np.float32), np.array([True]), np.zeros((1, 6), np.float32)
    )
    point = quarter @ np.array([SIDE - 1, (SIDE - 1) / 2, 1])  # the middle of the right edge
    assert point == pytest.approx([(SIDE - 1) / 2, 0], abs=1e-3), "down by the turn, then up by the mirror"
