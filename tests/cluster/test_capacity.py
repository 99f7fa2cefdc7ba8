"""A number of workers that follows the room there is; tests/test_node_loss.py takes nodes away from it."""

from pathlib import Path

import pytest
import ray
from pydantic import ValidationError
from support.messages import messages_to
from support.numpy_learner import Numpy
from support.training_problem import MakeConfig, write_dataset

from brain_ray.cluster.capacity import (
    check_resources,
    describe_small_stores,
    per_worker,
    refuse_preparing,
    scoring_places,
)
from brain_ray.config import TrainConfig
from brain_ray.config.run import EvaluateConfig
from brain_ray.errors import RunError
from brain_ray.runs import Run
from brain_ray.training import train


def test_object_stores_that_do_not_hold_the_rows_are_named() -> None:
    nodes = [{"CPU": 4.0, "object_store_memory": size} for size in (4.8e9, 1.5e9, 1.9e9)]
    assert describe_small_stores(1_400_000_000, [*nodes, {"CPU": 1.0}]) == ""
    told = describe_small_stores(2_000_000_000, nodes)
    assert (
        "loading holds up to 2.0 GB of rows on a node, and of 2 of 3 nodes the object store is smaller"
        in told
    )
    assert "(the smallest: 1.5 GB)" in told
    assert "Lower train.shuffle_window_mb to 750" in told


@pytest.mark.parametrize(
    ("cpus", "each", "expected"),
    [([2], 1, 1), ([16], 1, 15), ([16, 16], 4, 7), ([0, 4, 3], 2, 3), ([0.5], 1, 0), ([2], 2, 0)],
)
def test_scoring_fills_the_cluster_beside_a_task_that_reads(
    cpus: list[float], each: int, expected: int
) -> None:
    assert scoring_places(EvaluateConfig(cpus_per_actor=each), [{"CPU": cpu} for cpu in cpus]) == expected


@pytest.mark.parametrize(("gpus", "expected"), [(0.0, 20), (1.0, 3), (0.5, 6), (0.4, 6)])
def test_scoring_on_gpus_fills_those(gpus: float, expected: int) -> None:
    nodes = [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 1.0}]
    assert scoring_places(EvaluateConfig(gpus_per_actor=gpus), nodes) == expected


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


def test_preparation_needs_a_cpu_on_one_node() -> None:
    refuse_preparing([{}, {"CPU": 1.0}])
    with pytest.raises(RunError, match=r"^none of the cluster's 2 node\(s\) has a CPU: add nodes$"):
        refuse_preparing([{}, {"CPU": 0.5}])


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
    with messages_to(lines.append):
        train.train(run, make_config(epochs=1, num_workers=(1, 4), cpus_per_worker=2.0), Numpy())
    warning, started, *epochs = lines
    assert warning.startswith("batch norms learn from 2 images at a time")
    assert started == "starts with 1 of 4 workers"
    assert [line.split()[1] for line in epochs] == ["1/1"]
