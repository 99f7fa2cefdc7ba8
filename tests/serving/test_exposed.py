"""What the dashboard and the alerts ask for is what Prometheus finds at the metrics port of a node."""

import subprocess
import sys
from collections.abc import Iterator

import cv2
import httpx
import numpy as np
import pytest
from support.endpoint import NO_TLS, PNG, Running, picture
from support.jobs import environment_of, wait_for
from support.prometheus_text import EXPRESSIONS, exposed, labels_of, metrics_of

NOT_HERE = {
    "ray_node_gpus_utilization",
    "ray_node_gram_used",
    "ray_node_gram_available",
    "ray_cluster_pending_nodes",
    "ray_cluster_failed_nodes",
}
"""Metrics of Ray that need a GPU, or an autoscaler with something to do."""

DRIVER = """
from brain_ray.cluster import connection
from brain_ray.tracking import prometheus
connection.connect()
record = {name: 0.5 for name in prometheus.FIELDS} | {"input_wait": 0.1}
prometheus.prepared("first", {"train": 5})
prometheus.trials("first", {"running": 2})
prometheus.epoch("first", record)
prometheus.epoch("first", record, "001")
with prometheus.stage("first", "prepare"):
    pass
with prometheus.stage("first", "train"):
    print("trains", flush=True)
    input()
"""
"""What a job says of its run, on the endpoint's cluster."""


@pytest.fixture
def training(endpoint: Running) -> Iterator[None]:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        env=environment_of(endpoint.home, RAY_ADDRESS=endpoint.address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "trains\n"
    yield
    said, _ = driver.communicate("\n", timeout=30)
    assert (driver.returncode, said) == (0, "")


@pytest.mark.usefixtures("training")
def test_every_metric_that_is_asked_for_is_there_with_its_labels(endpoint: Running) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    for content in (picture(), cv2.imencode(".png", noise)[1].tobytes(), b"x"):
        httpx.post(f"{endpoint.url}/v1/predict", content=content, headers=PNG, timeout=60, verify=NO_TLS)
    asked = {name for _, expression in EXPRESSIONS for name in metrics_of(expression)} - NOT_HERE
    missing: set[str] = set()
    found: dict[str, set[str]] = {}

    def all_there() -> bool:
        text = httpx.get(endpoint.metrics, timeout=20, verify=NO_TLS).text
        missing.clear()
        missing.update(name for name in asked if name not in text)
        if not missing:  # to read the whole text takes long
            found.update(exposed(text))
            missing.update(asked - set(found))
        return not missing

    try:
        wait_for(all_there, 40)
    except AssertionError:
        pytest.fail(f"not at {endpoint.metrics}: {sorted(missing)}")
    for where, expression in EXPRESSIONS:
        names = metrics_of(expression)
        if not names & NOT_HERE:
            assert labels_of(expression) <= set().union(*(found[name] for name in names)), where
