"""A replica's runs of models: one that hangs is told, and so is a GPU that is not there."""

import asyncio
import threading
from pathlib import Path

import pytest
from ray.serve._private.constants import HEALTH_CHECK_METHOD

from brain_ray.bundle.bundle import BundleError
from brain_ray.serving.app import Endpoint
from brain_ray.serving.config import ServingConfig
from brain_ray.serving.engine import Engine
from brain_ray.serving.model_runs import ModelRuns


def test_a_run_that_hangs_fails_the_health_check_until_it_ends() -> None:
    begun, go_on = threading.Event(), threading.Event()
    runs = ModelRuns(2, limit_s=0.05)

    def hang() -> str:
        begun.set()
        go_on.wait()
        return "done"

    async def ask() -> str:
        hanging = asyncio.create_task(runs.run(hang))
        await asyncio.to_thread(begun.wait)
        assert await runs.run(int, "7") == 7
        await asyncio.sleep(0.1)
        with pytest.raises(RuntimeError, match=r"^a run of the model takes 0 s by now, more than 0.05 s$"):
            runs.check_progress()
        go_on.set()
        return await hanging

    runs.check_progress()
    assert asyncio.run(ask()) == "done"
    runs.check_progress()


def test_ray_serve_is_told_by_the_replica_that_a_run_hangs(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_serve = Endpoint.__mro__[1]  # `serve.ingress` makes __init__ and __del__ coroutines
    ask = getattr(without_serve({"bundle": str(bundle)}), HEALTH_CHECK_METHOD)
    ask()

    def hangs(_: ModelRuns) -> None:
        raise RuntimeError("a run of the model takes 30 s by now")

    monkeypatch.setattr(ModelRuns, "check_progress", hangs)
    with pytest.raises(RuntimeError, match=r"^a run of the model takes 30 s by now$"):
        ask()


def test_a_run_that_fails_is_no_run_that_hangs() -> None:
    def fail() -> None:
        raise ValueError

    runs = ModelRuns(1, limit_s=0.0)
    with pytest.raises(ValueError, match=r"^$"):
        asyncio.run(runs.run(fail))
    runs.check_progress()


def test_a_replica_with_a_gpu_that_it_cannot_use_does_not_start(bundle: Path) -> None:
    with pytest.raises(
        BundleError, match=r"gpus_per_replica is 1, .* computes with CPUExecutionProvider on "
    ):
        Engine(ServingConfig(bundle=str(bundle), gpus_per_replica=1))
