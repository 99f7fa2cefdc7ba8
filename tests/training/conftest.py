"""What the tests of training share: weights that a backbone starts from."""

import numpy as np
import pytest

from brain_ray.config import ModelConfig
from brain_ray.models.backbones import build_backbone


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of weights that a backbone can start from."""
    import keras

    keras.utils.set_random_seed(99)
    file = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    backbone = build_backbone(ModelConfig(backbone="tiny", weights="none", height=24, width=24))
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(0.05 * np.ones(layer.moving_variance.shape))
    backbone.save_weights(file)
    return str(file)
