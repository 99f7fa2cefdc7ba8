"""Who waits for whom: what is due first goes first, and nothing that was given up keeps a place."""

import asyncio
import time

import pytest

from brain_ray.serving.turns import PATIENCE_S, Turns, due_at


async def hold(turns: Turns, name: str, due: float, order: list[str], held: asyncio.Event) -> None:
    async with turns.place(due):
        order.append(name)
        await held.wait()


async def waiting(
    turns: Turns, names: str, order: list[str], held: asyncio.Event
) -> list[asyncio.Task[None]]:
    """Let those that the names stand for wait, each due later than the ones before it in the alphabet."""
    tasks = [asyncio.create_task(hold(turns, name, ord(name), order, held)) for name in names]
    await asyncio.sleep(0)
    return tasks


def test_what_is_due_first_has_the_first_free_place() -> None:
    async def run() -> list[str]:
        order: list[str] = []
        turns, held = Turns(2), asyncio.Event()
        tasks = await waiting(turns, "zy", order, held)
        tasks += await waiting(turns, "dacb", order, held)
        assert order == ["z", "y"], "who came before there was a queue"
        held.set()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()) == list("zyabcd")


def test_of_two_that_are_due_at_once_the_first_that_came_is_first() -> None:
    async def run() -> list[str]:
        order: list[str] = []
        turns, held = Turns(1), asyncio.Event()
        tasks = await waiting(turns, "z", order, held)
        tasks += [asyncio.create_task(hold(turns, str(i), 1.0, order, held)) for i in range(5)]
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()) == list("z01234")


@pytest.mark.parametrize("moment", ["waiting", "given", "held"])
def test_a_place_is_free_again_whenever_its_holder_was_cancelled(moment: str) -> None:
    async def run() -> list[str]:
        order: list[str] = []
        turns, first_held, held = Turns(1), asyncio.Event(), asyncio.Event()
        first = (await waiting(turns, "a", order, first_held))[0]
        gone, last = await waiting(turns, "bc", order, held)
        if moment != "waiting":
            first_held.set()
            await asyncio.sleep(0)  # the first goes, and the second has not learnt of it yet
        if moment == "held":
            await first
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert gone.cancelled()
        first_held.set()
        held.set()
        await asyncio.wait_for(last, 5)
        async with asyncio.timeout(5), turns.place(0.0):
            pass
        return order

    assert asyncio.run(run()) == list("abc" if moment == "held" else "ac")


def test_images_of_a_long_request_are_due_after_those_of_shorter_ones_that_come_later() -> None:
    begin = time.monotonic()
    late = due_at(31)
    assert begin + 31 * PATIENCE_S <= late < due_at(31) + 1e-9
    assert due_at() < late
