"""Admission: large requests and clients with many leave room, and each client's images wait for its own."""

from contextlib import ExitStack

import pytest

from brain_ray.serving.admission import Admission
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.turns import PATIENCE_S, due_at

MEGABYTE = 10**6


@pytest.fixture
def room() -> Admission:
    return Admission(32, 40 * MEGABYTE)


def test_large_requests_leave_room_for_small_ones(room: Admission) -> None:
    with room.accept(32, 40 * MEGABYTE):
        pass  # alone, one may have all
    with room.accept(20, 20 * MEGABYTE):
        with pytest.raises(ProblemError, match="20 images are waiting"), room.accept(9):
            pass
        with pytest.raises(ProblemError, match="20 MB are waiting"), room.accept(1, 16 * MEGABYTE):
            pass
        with room.accept(8, 15 * MEGABYTE), ExitStack() as small:
            for number in range(4):
                small.enter_context(room.accept(1, MEGABYTE, f"another {number}"))
            with pytest.raises(ProblemError, match="32 images"), room.accept(1, client="a third"):
                pass
    assert (room.images, room.held_bytes) == (0, 0)


def test_a_client_with_many_small_requests_leaves_room_for_others(room: Admission) -> None:
    with ExitStack() as many:
        for _ in range(28):
            many.enter_context(room.accept(1, 10, "many"))
        with pytest.raises(ProblemError, match="28 images are waiting"), room.accept(1, 10, "many"):
            pass
        for number in range(4):
            many.enter_context(room.accept(1, 10, f"another {number}"))
    with room.accept(1, 10, "many"):
        assert room.images == 1, "nothing is held against a client who is done"


def test_answers_that_a_client_does_not_read_leave_room_for_small_requests_of_others(room: Admission) -> None:
    with room.hold(50 * MEGABYTE, "slow"), ExitStack() as others:
        for name in ("slow", "another who sends much"):
            size = MEGABYTE if name == "slow" else 2 * MEGABYTE
            with pytest.raises(ProblemError, match="50 MB are waiting"), room.accept(1, size, name):
                pass
        for number in range(5):  # an eighth of 40
            others.enter_context(room.accept(1, MEGABYTE, f"another {number}"))
        with pytest.raises(ProblemError, match="55 MB are waiting"), room.accept(1, MEGABYTE, "a sixth"):
            pass
    assert room.held_bytes == 0


def test_images_of_a_client_are_due_one_after_the_other_and_another_s_before_them(room: Admission) -> None:
    with room.accept(1, client="many"), room.accept(5, client="many"), room.accept(2, client="many"):
        third = due_at(1)
        with room.accept(1, client="few"):
            first_of_another = due_at()
    assert third - first_of_another == pytest.approx(7 * PATIENCE_S, abs=0.05)
    with room.accept(1, client="many"):
        assert due_at() - first_of_another < PATIENCE_S, "what is answered counts no more"
