"""Settings for the small problem that the tests of training share."""

from typing import Any

import pytest
from small_problem import SIDE, MakeConfig

from brain_ray.config import Config, ModelConfig, TrainConfig


@pytest.fixture
def make_config() -> MakeConfig:
    """Give a function that makes settings for the small problem, some of them changed."""

    def make(model: dict[str, Any] | None = None, **train: Any) -> Config:
        network = {"backbone": "tiny", "weights": "none", "height": SIDE, "width": SIDE, "bn_momentum": 0.8}
        settings = {
            "epochs": 2,
            "batch_size": 8,
            "learning_rate": 0.003,
            "optimizer": "Adam",
            "mlflow_uri": "none",
        }
        return Config(
            seed=7,
            model=ModelConfig(**{**network, **(model or {})}),
            train=TrainConfig(**{**settings, **train}),
        )

    return make
