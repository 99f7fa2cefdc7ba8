"""The cost of serving: counted right, timed on this machine, and TensorFlow stays out of the process."""

import subprocess
import sys
from itertools import pairwise

import pytest
from support.models import tiny

from brain_ray.comparison.cost import Cost, count_flops, measure
from brain_ray.config import BACKBONES, Config, DataConfig, ModelConfig
from brain_ray.errors import RunError
from brain_ray.input_spec import batch_of
from brain_ray.models.network import build_network
from brain_ray.models.outputs import with_maps


@pytest.fixture(scope="module")
def config() -> Config:
    return Config(name="trial", data=DataConfig(classes=("a", "b", "c")), model=tiny())


@pytest.fixture(scope="module")
def cost(config: Config) -> Cost:
    return measure(config)


def test_the_parameters_are_those_of_the_whole_network(cost: Cost, config: Config) -> None:
    channels = (3, 16, 32, 64, 64, 64)
    pairs = list(pairwise(channels))
    convolutions = sum(9 * before * after for before, after in pairs)
    norms = sum(4 * after for _, after in pairs)
    assert cost.parameters == convolutions + norms + (64 + 1) * 3
    assert cost.parameters == build_network(config.model, 3, seed=1).count_params()


def test_a_multiply_add_counts_as_two(cost: Cost) -> None:
    maps = ((24, 20, 3, 16), (12, 10, 16, 32), (6, 5, 32, 64), (3, 3, 64, 64), (2, 2, 64, 64))
    multiply_adds = sum(rows * columns * 9 * before * after for rows, columns, before, after in maps)
    by_hand = 2 * (multiply_adds + 64 * 3)
    assert by_hand <= cost.gflops * 1e9 <= 1.05 * by_hand  # norms and means come on top


def test_times_are_those_of_a_running_model(cost: Cost) -> None:
    assert 0.01 < cost.latency_ms < 1000
    assert cost.images_per_second > 1000 / cost.latency_ms / 10


@pytest.mark.thorough
def test_weights_and_their_files_do_not_matter(config: Config, cost: Cost) -> None:
    elsewhere = config.model.model_copy(update={"weights": "nowhere.weights.h5"})
    found = measure(config.model_copy(update={"model": elsewhere}))
    assert (found.parameters, found.gflops) == (cost.parameters, cost.gflops)


def test_the_head_counts(config: Config, cost: Cost) -> None:
    settings = tiny(head="seed")
    network = build_network(settings, 3, seed=1)
    assert network.count_params() - cost.parameters == 4 * 64 + 65 * 256 + (256 - 64) * 3
    assert count_flops(network) > 2 * 64 * 256


def test_tensorflow_is_not_loaded_where_it_is_asked() -> None:
    code = (
        "import sys\n"
        "from brain_ray.config import BACKBONES, Config, ModelConfig\n"
        "from brain_ray.comparison.cost import measure\n"
        "measure(Config(model=ModelConfig(backbone='tiny', height=32, width=32)))\n"
        "assert not {'tensorflow', 'keras', 'tf2onnx'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_network_that_cannot_be_built_ends_in_one_clear_line() -> None:
    settings = Config(model=ModelConfig(height=16, width=16))
    with pytest.raises(
        RunError, match=r"cannot tell what EfficientNetB0 at 16x16 costs: .* needs 32 px or more"
    ) as error:
        measure(settings)
    assert "\n" not in str(error.value)


def test_batches_of_the_largest_backbones_are_smaller() -> None:
    sizes = {name: batch_of(row.native_side, row.native_side, 32) for name, row in BACKBONES.items()}
    assert sizes["EfficientNetB4"] == 32
    assert sizes["EfficientNetB7"] == 12
    assert (batch_of(64, 64, 16), batch_of(9000, 9000, 16)) == (16, 1)


@pytest.mark.thorough
def test_b0_costs_what_its_paper_says() -> None:
    """0.39e9 multiply-adds at 224 px (Tan and Le 2019, table 2), with a head of four classes here."""
    settings = ModelConfig(weights="none")
    network = build_network(settings, 4, seed=1)
    assert network.count_params() == 4_049_571 + 1281 * 4
    assert count_flops(with_maps(network, settings.backbone_spec)) / 1e9 == pytest.approx(2 * 0.39, rel=0.05)
