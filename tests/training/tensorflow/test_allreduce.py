"""Gradients travel in a few buffers."""

import pytest

from brain_ray.training.tensorflow import allreduce


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([4], [[0]]),
        ([3, 3, 4], [[0, 1, 2]]),
        ([5, 5, 5, 5], [[0, 1], [2, 3]]),
        ([1, 25, 1, 2], [[0], [1], [2, 3]]),  # larger than a buffer: one of its own
        ([11, 10], [[0], [1]]),
    ],
)
def test_buckets_hold_neighbours_up_to_their_size(sizes: list[int], expected: list[list[int]]) -> None:
    assert allreduce.buckets(sizes, largest=10) == expected
