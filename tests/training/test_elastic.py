"""A number of workers that follows the room there is: fewer at the start, fewer after a node is lost."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from numpy.testing import assert_allclose
from on_ray import EXACT, undisturbed
from pydantic import ValidationError
from small_problem import MakeConfig, write_dataset

from brain_ray import cluster
from brain_ray.config import Config, TrainConfig
from brain_ray.runs import Run, RunError
from brain_ray.training import checkpoints, trainer
from brain_ray.training.resources import check_resources, per_worker


def test_the_fewest_workers_come_first() -> None:
    with pytest.raises(ValidationError, match="num_workers is 3 2: expected the fewest, then the most"):
        TrainConfig(num_workers=(3, 2))
    assert TrainConfig(num_workers=(2, 2)).elastic
    assert not TrainConfig(num_workers=2).elastic


@pytest.mark.parametrize(
    ("cpus", "num_workers", "cpus_per_worker", "fits"),
    [
        ([2.0], (1, 8), 1.5, True),
        ([2.0], (2, 8), 1.0, False),
        ([2.0, 2.0], (3, 8), 1.0, True),
        ([1.0, 1.0, 0.5], (2, 2), 0.75, False),  # room for loading may be kept on either of the large ones
    ],
)
def test_the_fewest_workers_have_to_fit(
    cpus: list[float],
    num_workers: tuple[int, int],
    cpus_per_worker: float,
    fits: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": n}} for n in cpus])
    settings = TrainConfig(num_workers=num_workers, cpus_per_worker=cpus_per_worker)
    if fits:
        check_resources(settings)
        return
    with pytest.raises(RunError, match=rf"asks for at least {num_workers[0]} x .* lower train\.num_workers"):
        check_resources(settings)


@pytest.mark.parametrize("cpus", [0.1, 0.3, 0.5, 1.5])
def test_cpus_of_an_elastic_group_add_up(cpus: float) -> None:
    reserved = per_worker(TrainConfig(num_workers=(1, 7), cpus_per_worker=cpus))["CPU"]
    assert cpus <= reserved < cpus + 1 / 16
    assert sum([reserved] * 7) // reserved == 7
    assert per_worker(TrainConfig(num_workers=7, cpus_per_worker=cpus)) == {"CPU": cpus}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_group_starts_with_what_there_is_and_leaves_room_for_loading(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    run = Run(str(tmp_path), "trial")
    write_dataset(run)
    lines: list[str] = []
    # Two workers would take all four CPUs, and wait for their batches for ever.
    trainer.fit(run, make_config(epochs=1, num_workers=(1, 4), cpus_per_worker=2.0), lines.append)
    assert lines[0] == "starts with 1 of 4 workers"
    assert [line.split()[1] for line in lines[1:]] == ["1/1"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_lost_node_shrinks_the_group_and_changes_nothing(tmp_path: Path, make_config: MakeConfig) -> None:
    run = Run(str(tmp_path), "trial")
    write_dataset(run, num_train=1000, part_rows=300)
    config = make_config(
        EXACT, epochs=5, batch_size=8, learning_rate=0.0005, num_workers=(1, 2), cpus_per_worker=1.5
    )
    run.write_json(config.model_dump(mode="json"), "config.json")
    home = tmp_path / "home"
    home.mkdir()
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env={**others, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith(("starts", "epoch", "goes on"))]
    events = [line.partition("  ")[0] for line in said]
    shrunk = "goes on with 1 of 2 workers"
    assert shrunk in events, done.stdout + done.stderr
    # Workers outlive their node by some time, which may be that of an epoch or two.
    assert events.index("epoch 1/5") < events.index(shrunk) < events.index("epoch 5/5")
    assert [event for event in events if event != shrunk] == [
        "starts with 2 of 2 workers",
        *(f"epoch {i}/5" for i in range(1, 6)),
    ], done.stdout + done.stderr
    state = checkpoints.newest(run)[0]
    assert state is not None
    for record, other in zip(state.history, undisturbed(run, config).history, strict=True):
        # A loss near 0 has few digits: 1 - 1e-5 is rounded to 6e-8, in probabilities of 32 bits.
        assert_allclose([record.loss, record.val_loss], [other.loss, other.val_loss], rtol=1e-4, atol=1e-6)


def train_on_two_nodes(storage: str) -> None:
    """Train on a cluster of two nodes, of which the second is lost after the first epoch."""
    from ray.cluster_utils import Cluster

    soon = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    head: dict[str, Any] = {"num_cpus": 2, "include_dashboard": False, "_system_config": soon}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    second = nodes.add_node(num_cpus=2)
    ray.init(
        address=nodes.address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": cluster.WORKER_ENV},
    )
    cluster.quiet()

    def remove() -> None:
        time.sleep(0.3)
        nodes.remove_node(second, allow_graceful=False)

    def say(line: str) -> None:
        print(line, flush=True)
        if line.startswith("epoch 1"):
            threading.Thread(target=remove).start()

    run = Run(storage, "trial")
    trainer.fit(run, Config.model_validate(run.read_json("config.json")), say)
    ray.shutdown()
    nodes.shutdown()


if __name__ == "__main__":
    train_on_two_nodes(sys.argv[1])
