"""Streams are made ahead of their use, in order, and no more of them than is wanted."""

import threading
import time
from collections.abc import Iterator

import pytest

from brain_ray.loading.prefetch import POLL_INTERVAL_S, Prefetcher


def after(key: int) -> int | None:
    return key + 1 if key < 3 else None


def numbers(key: int) -> Iterator[int]:
    yield from range(10 * key, 10 * key + 3)


def test_streams_come_whole_and_in_order() -> None:
    prefetcher = Prefetcher(numbers, after, most=2)
    assert [list(prefetcher.stream(key)) for key in range(4)] == [
        [0, 1, 2],
        [10, 11, 12],
        [20, 21, 22],
        [30, 31, 32],
    ]


def test_the_next_stream_is_opened_while_the_last_items_of_one_are_used() -> None:
    opened: list[int] = []

    def open_stream(key: int) -> Iterator[int]:
        opened.append(key)
        return numbers(key)

    prefetcher = Prefetcher(open_stream, after, most=4)
    first = prefetcher.stream(0)
    assert next(first) == 0
    wait_until(lambda: opened == [0, 1])
    prefetcher.close()


def test_no_more_is_made_than_may_wait() -> None:
    made: list[int] = []

    def endless(key: int) -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    prefetcher = Prefetcher(endless, after, most=5)
    items = prefetcher.stream(0)
    next(items)
    wait_until(lambda: len(made) >= 7)  # one used, five wait, one in the hand
    time.sleep(2 * POLL_INTERVAL_S)
    assert len(made) == 7
    prefetcher.close()
    wait_until(lambda: not any(thread.name.endswith("(_make)") for thread in threading.enumerate()))


def test_any_stream_can_be_taken_at_any_time() -> None:
    prefetcher = Prefetcher(numbers, after, most=2)
    items = prefetcher.stream(0)
    next(items)
    assert list(prefetcher.stream(2)) == [20, 21, 22]
    assert list(prefetcher.stream(1)) == [10, 11, 12]
    assert list(prefetcher.stream(2)) == [20, 21, 22]
    assert list(prefetcher.stream(3)) == [30, 31, 32]
    assert list(prefetcher.stream(7)) == [70, 71, 72]


def test_what_a_stream_raises_is_raised_where_it_is_used() -> None:
    def failing(key: int) -> Iterator[int]:
        yield key
        if key == 1:
            raise ValueError("no more")

    prefetcher = Prefetcher(failing, after, most=9)
    assert list(prefetcher.stream(0)) == [0]
    items = prefetcher.stream(1)
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)
    assert list(prefetcher.stream(2)) == [2]


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + 5
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)
