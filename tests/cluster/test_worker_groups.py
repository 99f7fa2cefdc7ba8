"""The groups of workers that a manifest states: read where Ray is not told which nodes may come."""

import json
from pathlib import Path

import pytest
from support.ray_cluster import nodes_of

from brain_ray.cluster.worker_groups import WORKER_GROUPS, config_of
from brain_ray.errors import RunError

GROUPS = {
    "cpu": {"max_workers": 2, "resources": {"CPU": 14}},
    "gpu": {"max_workers": 3, "resources": {"CPU": 3, "GPU": 1}, "labels": {"ray.io/market-type": "spot"}},
}

LOOK = """
import json

import ray

ray.init(address="auto", logging_level="ERROR")


@ray.remote(num_cpus=1)
def look() -> None:
    from brain_ray.cluster.autoscaling import nodes_to_come
    from brain_ray.cluster.cpu_work import most_cpus

    return nodes_to_come(), most_cpus()


print(json.dumps(ray.get(look.remote())))
"""


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("stated", [None, {}, GROUPS], ids=["unknown", "none", "some"])
def test_any_node_is_told_what_the_head_knows(stated: dict[str, object] | None, tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    environment |= {} if stated is None else {WORKER_GROUPS: json.dumps(stated)}
    with nodes_of(tmp_path / "home", 1, **environment) as nodes:
        to_come, most = json.loads(nodes.start("-c", LOOK).finish().splitlines()[-1])
    if stated is None:
        assert (to_come, most) == (None, None)
    elif not stated:
        assert (to_come, most) == ([], 1)
    else:
        assert [node["CPU"] for node in to_come] == [3, 3, 3, 14], "one of five runs"
        assert most == 1 + 14


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("gpu: 4", r"and the whole: Invalid JSON"),
        ('{"gpu": {"max_workers": -1, "resources": {}}}', r"and gpu\.max_workers: .* greater than"),
        ('{"gpu": {"max_workers": 1}}', r"and gpu\.resources: Field required"),
        ('{"gpu": {"max_workers": 1, "resources": {"CPU": "all"}}}', r"and gpu\.resources\.CPU: .* number"),
    ],
)
def test_another_form_is_said_with_an_example(stated: str, said: str) -> None:
    with pytest.raises(
        RunError, match=rf"{WORKER_GROUPS} on the head node is .*{said}.*; expected JSON such as"
    ):
        config_of(stated)
