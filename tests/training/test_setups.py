"""What a training ran on is recorded, and small shares of batch norms are warned of."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.numpy_learner import Numpy
from support.training_problem import MakeConfig, memory_feed

from brain_ray.config import Config, ModelConfig, TrainConfig
from brain_ray.runs import RESULT, Run
from brain_ray.training.loop import epochs
from brain_ray.training.results import write_result
from brain_ray.training.setups import Setup, cpu_name, describe_small_norms, note_setup, read_setups

FIRST = Setup(1, 2, 16, "a processor", "float32")


def test_a_setup_is_noted_when_it_changes(tmp_path: Path) -> None:
    run = Run(str(tmp_path), "a")
    assert read_setups(run) == []
    other = Setup(4, 1, 32, "a GPU", "mixed_bfloat16")
    for setup in (FIRST, Setup(3, 2, 16, "a processor", "float32"), other):
        note_setup(run, setup)
    assert read_setups(run) == [FIRST, other]
    again = Setup(4, 2, 16, "a processor", "float32")
    note_setup(run, again)  # the epoch that the other had begun is trained again
    assert read_setups(run) == [FIRST]


def test_result_json_has_the_setups(tmp_path: Path, make_config: MakeConfig) -> None:
    run, config = Run(str(tmp_path), "a"), make_config(epochs=1)
    learner = Numpy().make_learner(config, 4, 0, 1, np.ones(4, np.float32))
    (finished,) = epochs(config, learner, memory_feed(config))
    note_setup(run, FIRST)
    write_result(run, config, finished.state)
    assert run.read_json(*RESULT)["setups"] == [
        {
            "first_epoch": 1,
            "num_workers": 2,
            "worker_batch": 16,
            "device": "a processor",
            "precision": "float32",
        }
    ]


def test_the_processor_has_a_name() -> None:
    assert cpu_name().strip()


@pytest.mark.parametrize(
    ("model", "train", "expected"),
    [
        ({}, {"batch_size": 32, "num_workers": 2}, ""),
        ({}, {"batch_size": 32, "num_workers": 8}, "from 4 images at a time.*lower train.num_workers, raise"),
        ({}, {"batch_size": 8}, "from 8 images at a time.*; raise train.batch_size"),
        ({}, {"batch_size": 16, "num_workers": (1, 8), "scale_batch": True}, ""),
        ({"batch_norm": "fixed"}, {"batch_size": 8}, ""),
        ({"batch_norm": "fixed", "head": "seed"}, {"batch_size": 8}, "from 8 images"),
        ({"backbone": "ConvNeXtTiny"}, {"batch_size": 8}, ""),
        ({}, {"batch_size": 8, "epochs": 0, "frozen_epochs": 2}, ""),
    ],
)
def test_batch_norms_that_learn_from_few_images_are_warned_of(
    model: dict[str, Any], train: dict[str, Any], expected: str
) -> None:
    told = describe_small_norms(Config(model=ModelConfig(**model), train=TrainConfig(**train)))
    assert bool(told) == bool(expected)
    assert re.search(expected, told)
