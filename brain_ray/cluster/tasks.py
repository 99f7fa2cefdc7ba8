"""Ray tasks, some at a time."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray

from brain_ray.cluster.cpu_work import tasks_at_a_time

T = TypeVar("T")


def run_tasks(start: Callable[[T], Any], inputs: Iterable[T]) -> Iterator[tuple[T, Any]]:
    """Starts a task for each input, a few at a time; yields inputs and results as the tasks finish.

    Millions of tasks at once would fill the driver's memory, each wait would check all of them, and an
    autoscaler would start nodes with GPUs for those that wait.
    """
    most = tasks_at_a_time()
    waiting: dict[Any, T] = {}
    for item in inputs:
        if len(waiting) >= most:
            (done,), _ = ray.wait(list(waiting))
            yield waiting.pop(done), ray.get(done)
        waiting[start(item)] = item
    while waiting:
        (done,), _ = ray.wait(list(waiting))
        yield waiting.pop(done), ray.get(done)
