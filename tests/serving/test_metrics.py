"""Metrics of a replica reach Ray together, and none is lost."""

from collections import Counter

import pytest
from ray.util.metrics import Metric

from brain_ray.serving.metrics import FLUSH, Metrics


def test_observations_are_passed_on_together(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: Counter[str] = Counter()
    monkeypatch.setattr(Metric, "_record", lambda self, *_, **__: recorded.update([self.info["name"]]))
    metrics = Metrics()
    metrics.batch(2)
    metrics.seen("/v1/predict", 200, 0.1, "")
    assert not recorded
    metrics.flush(unanswered=3)
    assert set(recorded) == {
        f"brain_ray_{name}" for name in ("batch_size", "requests", "request_seconds", "unanswered_images")
    }
    recorded.clear()
    for _ in range(FLUSH + 5):
        metrics.batch(1)
    assert recorded.total() == FLUSH, "without a flush, none waits for long under load"
    metrics.flush(unanswered=0)
    assert recorded["brain_ray_batch_size"] == FLUSH + 5
