"""The plan of an epoch: each row once, the same batches for any number of workers, few files at a time."""

import numpy as np
import pytest

from brain_ray.config import TrainConfig
from brain_ray.data.parts import Part, Rows
from brain_ray.loading.sampler import (
    epoch_order,
    first_of_each,
    locate,
    num_steps,
    shuffle_window,
    worker_steps,
)

COUNTS = [7, 31, 1, 13, 31, 8]


@pytest.mark.parametrize("num_workers", [1, 2, 3, 5])
@pytest.mark.parametrize(("num_rows", "batch_size"), [(101, 10), (97, 32), (5, 8), (31, 30), (60, 20)])
def test_workers_see_each_row_once_in_as_many_steps(num_rows: int, batch_size: int, num_workers: int) -> None:
    order = np.random.default_rng(0).permutation(num_rows)
    plans = [list(worker_steps(order, batch_size, rank, num_workers)) for rank in range(num_workers)]
    assert {len(plan) for plan in plans} == {num_steps(num_rows, batch_size)}
    assert all(len(step.rows) for plan in plans for step in plan)
    for k, steps in enumerate(zip(*plans, strict=True)):
        batch = order[k * batch_size : (k + 1) * batch_size]
        assert np.concatenate([step.rows for step in steps if step.weight]).tolist() == batch.tolist()
        assert {step.total for step in steps} == {len(batch)}
    for plan in plans:
        assert {step.largest for step in plan} == {max(len(step.rows) for step in plan)}


@pytest.mark.parametrize("num_workers", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("num_rows", "batch_size", "sizes"),
    [
        (3909, 32, {31, 32}),  # 3909 = 122 * 32 + 5
        (101, 10, {9, 10}),
        (33, 32, {16, 17}),
        (5, 8, {5}),
        (60, 20, {20}),
    ],
)
def test_rows_left_over_are_spread_over_as_many_steps(
    num_rows: int, batch_size: int, sizes: set[int], num_workers: int
) -> None:
    order = np.random.default_rng(0).permutation(num_rows)
    ranks = range(num_workers)
    plans = [list(worker_steps(order, batch_size, rank, num_workers, spread=True)) for rank in ranks]
    assert {len(plan) for plan in plans} == {num_steps(num_rows, batch_size)}
    batches = [
        np.concatenate([step.rows for step in steps if step.weight]) for steps in zip(*plans, strict=True)
    ]
    assert np.concatenate(batches).tolist() == order.tolist(), "each row once, in its order"
    assert {len(batch) for batch in batches} == sizes
    for k, batch in enumerate(batches):
        assert {plan[k].total for plan in plans} == {len(batch)}
    for plan in plans:
        assert {step.largest for step in plan} == {max(len(step.rows) for step in plan)}


@pytest.mark.parametrize("window", [1000, 91, 40, 10, 1])
def test_an_order_is_a_permutation_that_seed_and_epoch_decide(window: int) -> None:
    order = epoch_order(COUNTS, seed=3, epoch=5, window=window)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(sum(COUNTS)))
    assert order.tolist() == epoch_order(COUNTS, seed=3, epoch=5, window=window).tolist()
    assert order.tolist() != epoch_order(COUNTS, seed=3, epoch=6, window=window).tolist()
    assert order.tolist() != epoch_order(COUNTS, seed=4, epoch=5, window=window).tolist()


@pytest.mark.parametrize(
    ("row_kb", "rows", "expected"),
    [
        (10, 10_000_000, 65_536),
        (150, 10_000_000, 6_666),  # PNG files of 512 px: else 9.8 GB
        (150, 5_000, 6_666),
        (5_000_000, 3, 1),
    ],
)
def test_a_window_is_bounded_in_rows_and_in_bytes(row_kb: int, rows: int, expected: int) -> None:
    half = rows // 2
    parts = [Part("a", half, half * row_kb * 1000), Part("b", rows - half, (rows - half) * row_kb * 1000)]
    assert shuffle_window(TrainConfig(), parts) == expected
    smaller = TrainConfig(shuffle_window=50, shuffle_window_mb=500)
    assert shuffle_window(smaller, parts) == min(50, expected)


def test_a_window_holds_whole_files_and_shuffles_their_rows() -> None:
    window = 40
    parts, _ = locate(epoch_order(COUNTS, seed=3, epoch=0, window=window), COUNTS)
    for part, count in enumerate(COUNTS):
        places = np.flatnonzero(parts == part)
        assert places[-1] - places[0] < max(window, count)  # a file is done with within one window
    mixed = sum(np.any(np.diff(np.flatnonzero(parts == part)) > 1) for part in range(len(COUNTS)))
    assert mixed >= 2  # rows of different files alternate


def test_windows_have_the_shares_of_classes_whose_parts_lie_apart() -> None:
    """Sixteen parts a window: with parts in any order, shares differ by a tenth from window to window."""
    labels = [0] * 120 + [1] * 60 + [2] * 60 + [3] * 16
    counts, window = [100] * len(labels), 1600
    shares = np.bincount(labels) / len(labels)

    def differences(known: list[int] | None) -> float:
        found = []
        for epoch in range(5):
            parts, _ = locate(epoch_order(counts, 3, epoch, window, known), counts)
            assert sorted(parts.tolist()) == np.repeat(np.arange(len(counts)), 100).tolist()
            for rows in np.split(np.asarray(labels)[parts], len(parts) // window):
                found.append(np.abs(np.bincount(rows, minlength=4) / window - shares))
        return float(np.mean(found))

    assert differences(labels) < differences(None) / 2
    orders = [epoch_order(counts, 3, epoch, window, labels) for epoch in (0, 1)]
    assert (orders[0] != orders[1]).any()


def test_parts_of_one_class_or_of_unknown_ones_stay_in_any_order() -> None:
    unknown = epoch_order(COUNTS, seed=3, epoch=5, window=40)
    assert epoch_order(COUNTS, 3, 5, 40, [None] * len(COUNTS)).tolist() == unknown.tolist()
    assert epoch_order(COUNTS, 3, 5, 40, [2] * len(COUNTS)).tolist() == unknown.tolist()


def test_a_small_data_set_is_shuffled_as_one() -> None:
    parts, _ = locate(epoch_order([50, 50], seed=0, epoch=0, window=100), [50, 50])
    assert 35 < np.abs(np.diff(parts)).sum() < 65  # about every second row comes from the other file


def test_locate_finds_the_file_and_the_row_in_it() -> None:
    parts, rows = locate(np.array([0, 6, 7, 37, 38, 39, 90]), COUNTS)
    assert parts.tolist() == [0, 0, 1, 1, 2, 3, 5]
    assert rows.tolist() == [0, 6, 0, 30, 0, 0, 7]


@pytest.mark.parametrize("per_group", [1, 3, 100])
def test_the_first_rows_of_each_group_are_taken(per_group: int) -> None:
    group = np.random.default_rng(0).integers(0, 12, 90)
    taken = first_of_each(group, per_group)
    for number in range(12):
        of_group = np.flatnonzero(group == number)
        assert taken[of_group].tolist() == [place < per_group for place in range(len(of_group))]


@pytest.mark.parametrize("chosen", [False, True])
def test_the_rows_of_an_epoch_are_counted_before_they_are_drawn(chosen: bool) -> None:
    rng = np.random.default_rng(1)
    group, mask = rng.integers(0, 12, 90), rng.random(90) < 0.6
    rows = Rows([Part("a", 90, 90)], mask if chosen else None, group)
    for per_group in (1, 3, 100):
        taken = first_of_each(group[mask] if chosen else group, per_group)
        assert rows.num_visited(per_group) == taken.sum()
    assert rows.num_visited(None) == rows.num_rows
