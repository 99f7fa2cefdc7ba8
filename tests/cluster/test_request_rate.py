"""Requests to a bucket: bounded for the whole cluster, whatever the number of tasks and threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import ray

from brain_ray.cluster.request_rate import RateLimiter, requests_per_s


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def tell(self) -> float:
        return self.now

    def limiter(self, per_s: float) -> RateLimiter:
        return RateLimiter(per_s, self.tell, self.slept.append)


def test_threads_go_on_one_after_the_other_at_the_rate() -> None:
    clock = Clock()
    limiter = clock.limiter(10)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: limiter.acquire(), range(20)))
    assert sorted(clock.slept) == pytest.approx([0.1 * k for k in range(1, 20)])  # the first does not wait


def test_who_comes_later_than_the_rate_does_not_wait_and_saves_nothing_up() -> None:
    clock = Clock()
    limiter = clock.limiter(10)
    for _ in range(3):
        clock.now += 60
        limiter.acquire()
    assert clock.slept == []
    limiter.acquire()
    assert clock.slept == pytest.approx([0.1])


@pytest.mark.usefixtures("ray_cluster")
def test_tasks_share_what_the_driver_has() -> None:
    assert requests_per_s(4_000) == 4_000
    ask = ray.remote(requests_per_s)
    whole, half = ray.get([ask.options(num_cpus=1).remote(4_000), ask.options(num_cpus=0.5).remote(4_000)])
    assert (whole, half) == (1_000, 500)  # of a cluster of four CPUs
