"""A replica's models, their runs in threads of their own, and whether one of them hangs."""

import asyncio
import ctypes
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from brain_ray.bundle.predictor import Predictor
from brain_ray.bundle.session import check_provider
from brain_ray.serving.config import ServingConfig

T = TypeVar("T")
P = ParamSpec("P")


class ModelRuns:
    """Threads that run models."""

    def __init__(self, threads: int, limit_s: float) -> None:
        """Starts no thread yet.

        Args:
            threads: largest number of runs at a time.
            limit_s: seconds after which a run counts as stuck.
        """
        self._pool = ThreadPoolExecutor(threads, "model")
        self._limit_s = limit_s
        self._since: dict[int, float] = {}

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Runs some work of a model in one of the threads."""

        def timed() -> T:
            thread = threading.get_ident()
            self._since[thread] = time.monotonic()
            try:
                return work(*args, **named)
            finally:
                del self._since[thread]

        return await run_in(self._pool, timed)

    def check_progress(self) -> None:
        """Checks that no run hangs: requests would time out until the replica is replaced.

        Raises:
            RuntimeError: one takes longer than the limit.
        """
        now = time.monotonic()
        longest = max((now - since for since in list(self._since.values())), default=0.0)
        if longest > self._limit_s:
            raise RuntimeError(
                f"a run of the model takes {longest:.0f} s by now, more than {self._limit_s:g} s"
            )


async def run_in(pool: ThreadPoolExecutor, work: Callable[..., T], *args: object) -> T:
    """Runs some work in a thread of a pool."""
    return await asyncio.get_running_loop().run_in_executor(pool, work, *args)


def open_predictors(config: ServingConfig, threads: int, batches: int) -> list[Predictor]:
    """Opens the bundles of an endpoint, the main one first, and checks each with its canary images.

    Args:
        config: settings of the endpoint.
        threads: threads of the replica.
        batches: number of batches computed at a time.

    Raises:
        BundleError: as in `Engine`.
    """
    gpu = config.gpus_per_replica > 0
    bundles = [config.bundle, *([config.challenger] if config.challenger else [])]
    predictors = [Predictor(bundle, threads // batches, gpu, threads) for bundle in bundles]
    for predictor in predictors:
        check_provider(predictor.provider, config.gpus_per_replica, "gpus_per_replica")
        predictor.check_canaries()
    _return_freed_memory()
    return predictors


def _return_freed_memory() -> None:
    """Returns to the system what was freed as the models were read: glibc keeps some 10 to 20 MB of it."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
