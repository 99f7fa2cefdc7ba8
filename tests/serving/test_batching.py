"""Batches: what waits while the model is busy goes into its next run."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from brain_ray.serving.batching import Batches
from brain_ray.serving.turns import Turns


class Model:
    """Model that doubles numbers; a run takes until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()

    async def run(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        await self.go.wait()
        if 13 in batch:
            raise ValueError("thirteen")
        return [2 * number for number in batch]


def with_model(test: Callable[[Model], Awaitable[Any]]) -> None:
    async def body() -> None:
        async with asyncio.timeout(20):
            await test(Model())

    asyncio.run(body())


async def put(batches: Batches[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batches.put(number, due=0)) for number in numbers]
    await asyncio.sleep(0.01)
    return tasks


def test_a_batch_gathers_while_the_model_is_busy() -> None:
    async def test(model: Model) -> None:
        batches = Batches(model.run, 4, Turns(2))
        tasks = await put(batches, 0)
        tasks += await put(batches, 1)
        tasks += await put(batches, 2, 3, 4, 5, 6, 7)
        assert model.batches == [[0], [1]], "two at a time"
        model.go.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10, 12, 14]
        assert model.batches[2:] == [[2, 3, 4, 5], [6, 7]]

    with_model(test)


def test_what_is_due_first_is_run_first() -> None:
    async def test(model: Model) -> None:
        batches = Batches(model.run, 2, Turns(1))
        tasks = await put(batches, 0)
        tasks += [asyncio.create_task(batches.put(number, due)) for number, due in ((1, 5), (2, 7), (3, 6))]
        await asyncio.sleep(0.01)
        model.go.set()
        await asyncio.gather(*tasks)
        assert model.batches == [[0], [1, 3], [2]]

    with_model(test)


def test_idle_threads_share_what_comes_at_once() -> None:
    async def test(model: Model) -> None:
        model.go.set()
        batches = Batches(model.run, 4, Turns(2))
        await asyncio.gather(*await put(batches, 1, 2, 3))
        assert model.batches == [[1, 2], [3]]

    with_model(test)


def test_models_that_share_threads_gather_while_either_is_busy() -> None:
    async def test(model: Model) -> None:
        threads = Turns(1)
        main, other = Batches(model.run, 4, threads), Batches(model.run, 4, threads)
        tasks = await put(main, 0)
        tasks += await put(other, 10)
        tasks += await put(main, 1)
        tasks += await put(other, 11, 12)
        assert model.batches == [[0]]
        model.go.set()
        await asyncio.gather(*tasks)
        assert model.batches == [[0], [10, 11, 12], [1]]
        assert threads.free == 1

    with_model(test)


def test_an_input_whose_request_has_ended_is_not_run() -> None:
    async def test(model: Model) -> None:
        batches = Batches(model.run, 4, Turns(1))
        first, second, third = [(await put(batches, number))[0] for number in (1, 2, 3)]
        second.cancel()
        await asyncio.sleep(0)
        model.go.set()
        assert await asyncio.gather(first, third) == [2, 6]
        assert model.batches == [[1], [3]]

    with_model(test)


def test_an_error_is_that_of_its_batch_alone() -> None:
    async def test(model: Model) -> None:
        batches = Batches(model.run, 2, Turns(1))
        tasks = await put(batches, 1)
        tasks += await put(batches, 12, 13, 14)
        model.go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(one) for one in found] == ["2", "thirteen", "thirteen", "28"]

    with_model(test)


@pytest.mark.parametrize(("numbers", "expected"), [((1, 2), [[1, 2]]), ((1, 2, 3, 4), [[1, 2, 3, 4]])])
def test_a_batch_waits_for_more_until_it_is_full(numbers: tuple[int, ...], expected: list[list[int]]) -> None:
    async def test(model: Model) -> None:
        model.go.set()
        # One that is full does not wait: an hour would be noticed.
        batches = Batches(model.run, 4, Turns(1), wait_s=3600 if len(numbers) == 4 else 0.1)
        tasks = [(await put(batches, number))[0] for number in numbers]
        await asyncio.gather(*tasks)
        assert model.batches == expected

    with_model(test)


@pytest.mark.parametrize(("clients", "concurrent", "wait_s"), [(1, 1, 0), (5, 2, 0), (5, 2, 0.0001)])
def test_none_is_left_waiting(clients: int, concurrent: int, wait_s: float) -> None:
    draws = random.Random(0)

    async def run(batch: list[int]) -> list[int]:
        for _ in range(draws.randrange(3)):
            await asyncio.sleep(0)
        return batch

    async def test(_: Model) -> None:
        batches = Batches(run, 3, Turns(concurrent), wait_s)

        async def client(number: int) -> None:
            for _ in range(300):
                assert await batches.put(number, due=0) == number
                for _ in range(draws.randrange(4)):
                    await asyncio.sleep(0)

        await asyncio.gather(*map(client, range(clients)))

    with_model(test)
