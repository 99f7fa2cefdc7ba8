"""Dispatcher: a Ray actor that loads for all workers of a training by one execution of Ray Data an epoch."""

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import ray

from brain_ray.cluster.capacity import on_this_node
from brain_ray.loading.loader import ImageLoader

REQUESTS = 2
"""Number of blocks that a worker asks for ahead of the one it uses."""


class Dispatcher:
    """Deals the blocks of each epoch to the workers, in the order of the plan; runs as an actor.

    One execution gets all CPUs that are free for loading, whatever the number of workers. It goes on as far
    as the fastest worker has asked; blocks of the others wait here.
    """

    def __init__(self, loaders: Mapping[str, ImageLoader], num_workers: int) -> None:
        """Takes the loaders of the splits; their executions start with the first request."""
        self._loaders = loaders
        self._num_workers = num_workers
        self._streams: dict[tuple[str, int, int], _Stream | None] = {}  # None: used up
        self._lock = threading.Lock()

    def next(self, rank: int, split: str, epoch: int, number: int, first: int = 0) -> list[Any] | None:
        """Returns the reference of a worker's block, in a list, so that Ray does not fetch it; None after the
        last.

        Args:
            rank: number of the worker.
            split: a split of `Sources.images`.
            epoch: epoch, from 0.
            number: number of the worker's block in that epoch, from 0; each is given once.
            first: step of the epoch, from 0, with which the blocks begin; the same for all workers.
        """
        key = split, epoch, first
        with self._lock:
            if key not in self._streams:
                draws = epoch if split == "train" else None
                blocks = self._loaders[split].blocks(draws, self._num_workers, first)
                self._streams[key] = _Stream(blocks, self._num_workers)
            stream = self._streams[key]
        if stream is None:
            return None
        found = stream.take(rank, number)
        if stream.used_up:
            with self._lock:
                self._streams[key] = None
        return found


class _Stream:
    """Blocks of one split in one epoch."""

    def __init__(self, blocks: Iterator[tuple[int, Any]], num_workers: int) -> None:
        self._blocks = blocks
        self._waiting: list[dict[int, Any]] = [{} for _ in range(num_workers)]
        self._made = [0] * num_workers
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._ended = False

    @property
    def used_up(self) -> bool:
        """Whether all blocks have been given away: requests of a worker may come in any order."""
        return self._ended and not any(self._waiting)

    def take(self, rank: int, number: int) -> list[Any] | None:
        with self._lock:
            while number not in self._waiting[rank]:
                if self._error is not None:
                    raise self._error
                try:
                    worker, block = next(self._blocks)
                except StopIteration:
                    self._ended = True
                    return None
                except Exception as error:
                    self._error = error
                    raise
                self._waiting[worker][self._made[worker]] = block
                self._made[worker] += 1
            return [self._waiting[rank].pop(number)]


def start_dispatcher(loaders: Mapping[str, ImageLoader], num_workers: int) -> Any:
    """Starts a dispatcher on this node; returns its handle. It ends with the process that calls this."""
    options = {
        "num_cpus": 0,
        "max_concurrency": REQUESTS * num_workers + 1,
        "scheduling_strategy": on_this_node(),
    }
    return ray.remote(Dispatcher).options(**options).remote(loaders, num_workers)


def dispatched_blocks(
    dispatcher: Any, rank: int, split: str, epoch: int, first: int = 0
) -> Iterator[pa.Table]:
    """Yields a worker's blocks of a split in an epoch, from the step `first` on; the next ones are on their
    way meanwhile."""
    asked: deque[Any] = deque()
    coming: deque[Any] = deque()
    number = 0
    while True:
        while len(asked) < REQUESTS:
            asked.append(dispatcher.next.remote(rank, split, epoch, number, first))
            number += 1
        found = ray.get(asked.popleft())
        if found is None:
            break
        ray.wait(found, timeout=0)  # starts to bring it to this node
        coming.append(found[0])
        if len(coming) > 1:
            yield ray.get(coming.popleft())
    while coming:
        yield ray.get(coming.popleft())
