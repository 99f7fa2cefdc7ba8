"""Nodes that are not there yet: known from the launcher's file, asked for, and waited for."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.autoscaler._private.util import prepare_config
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)
from support.jobs import ROOT, environment_of, free_port
from support.messages import messages_to
from support.no_spot import NoSpotProvider

from brain_ray.cluster.autoscaling import check_now_or_later, check_room, request_nodes, startable_nodes
from brain_ray.cluster.capacity import Nodes, check_resources
from brain_ray.cluster.node_request import MARKET
from brain_ray.config import TrainConfig
from brain_ray.errors import RunError
from brain_ray.recipes import paper

HEAD = {"CPU": 6.0}
FOUR = paper().train.model_copy(update={"use_gpu": True, "num_workers": 4})


def launcher_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return config


def check(settings: TrainConfig, to_come: Nodes | None) -> str:
    """Check the room for a training on a head alone, to which some nodes may come."""
    return check_now_or_later(partial(check_resources, settings), "training", lambda: [HEAD], lambda: to_come)


def test_the_launcher_s_file_tells_what_may_come() -> None:
    config = launcher_config()
    grown = startable_nodes(config, ())
    assert len(grown) == config["max_workers"]
    assert len(startable_nodes(config, [{"CPU": 1.0}] * 2)) == config["max_workers"] - 2
    assert startable_nodes(config, [{"CPU": 1.0}] * 99) == []
    assert grown[0]["GPU"] >= 1


def test_nodes_that_run_are_not_counted_again() -> None:
    gpu = {"CPU": 4.0, "GPU": 1.0}
    config = {
        "max_workers": 5,
        "available_node_types": {
            "cpu": {"max_workers": 3, "resources": {"CPU": 8.0}},
            "gpu": {"max_workers": 2, "resources": gpu},
        },
    }
    for running, gpus in (([], 2), ([gpu], 1), ([gpu, gpu], 0), ([{"CPU": 8.0}], 2), ([{"CPU": 3.0}], 2)):
        to_come = startable_nodes(config, running)
        assert len(to_come) == 5 - len(running)
        assert to_come.count(gpu) == gpus


def test_room_is_here_to_come_or_never() -> None:
    to_come = startable_nodes(launcher_config(), ())
    assert check(TrainConfig(num_workers=2), to_come) == ""
    assert check(FOUR, to_come) == "6 node(s) can be started, and are when training starts"
    with pytest.raises(RunError, match=r"asks for 64 x .* 64 GPUs.*may start \d node\(s\) more.*not suffice"):
        check(FOUR.model_copy(update={"num_workers": 64}), to_come)


def test_where_nothing_starts_nodes_it_is_said_at_once() -> None:
    with pytest.raises(RunError, match=r"or add nodes$"):
        check(FOUR, ())
    assert check(FOUR, None) == "nodes are asked for when training starts"


@pytest.fixture
def autoscaling(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Start the head node of cluster.yaml, with an autoscaler that starts its workers on this machine.

    It has no spot instances. Returns the environment of whoever uses it.
    """
    given = launcher_config()
    filled = prepare_config(given)  # as `ray up` hands it on
    types = given["available_node_types"]
    small = 10**8  # of the object store of each node
    kinds = {
        name: {
            **kind,
            "node_config": {},
            # The provider of simulated nodes does not know of memory.
            "resources": {"object_store_memory": small}
            | {name: kind["resources"][name] for name in ("CPU", "GPU") if name in kind["resources"]},
        }
        for name, kind in types.items()
        if name != given["head_node_type"]
    }
    head = {
        "resources": dict(types[given["head_node_type"]]["resources"]),
        "node_config": {},
        "max_workers": 0,
    }
    address = f"{ray.util.get_node_ip_address()}:{free_port()}"
    config = {
        **filled,
        "provider": {
            "type": "external",  # by its name Ray does not find it: the file of its defaults is not shipped
            "module": f"{NoSpotProvider.__module__}.{NoSpotProvider.__name__}",
            "disable_node_updaters": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": address,
            "launch_multiple": True,
        },
        "auth": {},
        "head_node_type": "ray.head.default",
        "available_node_types": {"ray.head.default": head, **kinds},
        "file_mounts": {},
        **{name: [] for name in filled if name.endswith("_commands")},
    }
    file = tmp_path / "launcher.yaml"
    file.write_text(json.dumps(config))
    with tempfile.TemporaryDirectory(prefix="gr-", dir="/tmp") as folder:
        environment = environment_of(tmp_path, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")
        own = {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
            "RAY_NODE_TYPE_NAME": "ray.head.default",
        }
        words = [
            "start",
            "--head",
            "--block",
            f"--port={address.rpartition(':')[2]}",
            f"--temp-dir={folder}",
            f"--num-cpus={HEAD['CPU']:g}",
            f"--object-store-memory={small}",
            f"--autoscaling-config={file}",
            "--include-dashboard=false",
            "--dashboard-agent-listen-port=0",
        ]
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("ray")), *words],
            env={**environment, **own},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield {**environment, "RAY_ADDRESS": address}
        finally:
            end(process, folder)


def end(process: "subprocess.Popen[bytes]", folder: str) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for other in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in other.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                other.kill()


@pytest.mark.cluster
def test_paper_on_four_gpus_brings_up_the_workers_of_cluster_yaml(autoscaling: dict[str, str]) -> None:
    """A head node alone; the autoscaler starts four nodes with a GPU, as raylets on this machine.

    Meanwhile Ray Data's coordinator sends its wishes again and again, as it does every 20 s, and spot nodes
    are refused.
    """
    done = subprocess.run(
        [sys.executable, __file__], env=autoscaling, capture_output=True, text=True, timeout=200, check=False
    )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, done.stdout + done.stderr
    before, after = told
    assert before["nodes"] == 1
    assert "6 node(s) can be started" in before["waits"]
    assert "may start 6 node(s) more, and they do not suffice" in before["refused"]
    assert (
        after["said"][0]
        == "asks the autoscaler for room for 4 x 0.5 CPUs and 4 GPUs, and waits for its nodes"
    )
    assert after["said"][1] == "asks for nodes on demand, since launches failed: gpu-spot"
    assert after["said"][2].startswith("the nodes are there after ")
    assert after["gpus"] == {"on-demand": 4}


def ask_for_room() -> None:
    """Ask for the room of `paper` on four GPUs, on the cluster of RAY_ADDRESS."""
    import time

    from brain_ray.cluster import connection

    for _ in range(60):
        try:
            connection.connect()
            break
        except RunError:
            time.sleep(1)
    refused = ""
    try:
        check_room(FOUR.model_copy(update={"num_workers": 7}))
    except RunError as error:
        refused = str(error)
    waits = check_room(FOUR)
    print(json.dumps({"nodes": len(ray.nodes()), "waits": waits, "refused": refused}), flush=True)
    ray.data.range(1).materialize()  # as preparation does before, with which Ray's coordinator starts
    coordinator: Any = get_or_create_autoscaling_coordinator()
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.2):
            ray.get(coordinator.get_reserved_resources.remote("nobody", recompute=True))

    ticking = threading.Thread(target=tick)
    ticking.start()
    said: list[str] = []
    with messages_to(said.append):
        request_nodes(FOUR)
    ended.set()
    ticking.join()
    gpus = Counter(
        node["Labels"].get(MARKET)
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("GPU", 0) == 1
    )
    print(json.dumps({"said": said, "gpus": gpus}), flush=True)


if __name__ == "__main__":
    ask_for_room()
