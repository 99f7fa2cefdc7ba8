"""Batches: inputs of concurrent requests -> runs of a model, each on what waits when a thread is free.

Ray Serve's own (`serve.batch`, 2.60) forms its batches before there is one: 8 clients of a model that runs
two batches of up to four at a time got 159 runs for 160 inputs.
"""

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Generic, TypeVar

from brain_ray.serving.turns import Turns

In = TypeVar("In")
Out = TypeVar("Out")


class Batches(Generic[In, Out]):
    """Inputs that wait for a model; those first that are due first."""

    def __init__(
        self,
        run: Callable[[list[In]], Awaitable[Sequence[Out]]],
        size: int,
        threads: Turns,
        wait_s: float = 0.0,
    ) -> None:
        """Starts nothing yet.

        Args:
            run: runs the model on a batch; returns an output for each input, in order.
            size: largest number of inputs in a batch.
            threads: a place for each batch that can be computed at a time, by these and by others.
            wait_s: seconds for which a batch that is not full waits for more inputs.
        """
        self._run, self._size, self._threads, self._wait_s = run, size, threads, wait_s
        self._waiting: list[tuple[float, int, In, asyncio.Future[Out]]] = []
        self._count = itertools.count()  # of two that are due at once, which came first
        self._full = asyncio.Event()
        self._workers: set[asyncio.Task[None] | None] = set()

    async def put(self, item: In, due: float) -> Out:
        """Returns the model's output for an input, or raises what its run raised.

        Args:
            item: the input.
            due: when it is due, in seconds of `time.monotonic`.
        """
        future: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._waiting.append((due, next(self._count), item, future))
        if len(self._waiting) >= self._size:
            self._full.set()
        if len(self._workers) < self._threads.places:
            # It goes on with inputs of other requests: this one's context is none of theirs.
            worker = asyncio.get_running_loop().create_task(self._work(), context=Context())
            self._workers.add(worker)
        return await future

    async def _work(self) -> None:
        """Runs batches until nothing waits."""
        try:
            while self._waiting:
                if self._wait_s and len(self._waiting) < self._size:
                    self._full.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._full.wait(), self._wait_s)
                first = min((due for due, *_ in self._waiting), default=0.0)
                async with self._threads.place(first):
                    if batch := self._take():
                        await self._answer(batch)
        finally:
            self._workers.discard(asyncio.current_task())  # at once: the next input starts another

    def _take(self) -> list[tuple[In, asyncio.Future[Out]]]:
        """Takes the next batch, without inputs whose request has ended; leaves idle threads their share."""
        waiting = sorted(one for one in self._waiting if not one[-1].done())
        number = min(self._size, math.ceil(len(waiting) / (self._threads.free + 1)))
        self._waiting = waiting[number:]
        return [(item, future) for *_, item, future in waiting[:number]]

    async def _answer(self, batch: list[tuple[In, asyncio.Future[Out]]]) -> None:
        try:
            outputs = await self._run([item for item, _ in batch])
            for (_, future), output in zip(batch, outputs, strict=True):
                if not future.done():
                    future.set_result(output)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
