"""Gradients travel in a few buffers."""

from types import SimpleNamespace
from typing import Any

import numpy as np
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


def test_gradients_come_back_from_their_buffers_in_their_order() -> None:
    import tensorflow as tf

    strategy: Any = SimpleNamespace(num_replicas_in_sync=2)
    reduction = allreduce.Reduction(strategy, bucket=10)
    gradients = [tf.random.normal(shape) for shape in [(3, 2), (), (11,), (2, 2, 2), (4,)]]
    packed = reduction.pack_gradients(gradients)
    assert [int(buffer.shape[0]) for buffer in packed] == [4, 8, 11, 7], "the last are sent first"
    for before, after in zip(gradients, reduction.unpack_gradients(packed, gradients), strict=True):
        np.testing.assert_array_equal(before, after)
