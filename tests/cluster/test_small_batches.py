"""What a step computes and what it sends are estimated, and a batch that is small for its GPUs is told."""

import numpy as np
import pytest

from brain_ray.cluster.small_batches import GPUS, LINK, NETWORKS, describe_small_batch, step_seconds
from brain_ray.config import ModelConfig, TrainConfig
from brain_ray.recipes import RECIPES
from brain_ray.training.schedule import planned_rates


@pytest.mark.parametrize(
    ("use_gpu", "workers", "batch", "told"),
    [
        (True, 4, 30, "7.5 images for each of 4 GPUs"),
        (True, (1, 2), 32, "16 images for each of 2 GPUs"),
        (True, 4, 128, ""),
        (True, 1, 8, ""),
        (False, 4, 30, ""),
    ],
)
def test_a_batch_that_is_small_for_its_gpus_is_told(
    use_gpu: bool, workers: int | tuple[int, int], batch: int, told: str
) -> None:
    found = describe_small_batch(
        TrainConfig(use_gpu=use_gpu, num_workers=workers, batch_size=batch), ModelConfig()
    )
    assert told in found
    assert bool(told) == bool(found)


def test_a_batch_that_follows_the_workers_is_enough_for_any_number_of_them() -> None:
    settings = {"use_gpu": True, "num_workers": 16, "scale_batch": True}
    assert describe_small_batch(TrainConfig(batch_size=32, **settings), ModelConfig()) == ""
    told = describe_small_batch(TrainConfig(batch_size=8, **settings), ModelConfig())
    assert "raise train.batch_size to 32 " in told


@pytest.mark.parametrize(
    ("backbone", "gpu", "computes", "sends"),
    [
        ("EfficientNetB0", "H200", 32 / 3740, 0.0192),  # 1.5 x 16 MB, 1.25 GB/s
        ("EfficientNetB3", "H200", 32 / 3740 * 1.8 / 0.39, 0.0513),
        ("EfficientNetB7", "H200", 32 / 3740 * 37 / 0.39, 0.306),
        ("EfficientNetB0", "L4", 32 / 374, 0.0192),
    ],
)
def test_gradients_of_a_step_may_take_longer_than_its_arithmetic(
    backbone: str, gpu: str, computes: float, sends: float
) -> None:
    parameters, multiply_adds = NETWORKS[backbone]
    found = step_seconds(parameters, multiply_adds, 32, 4, GPUS[gpu], LINK)
    assert found == pytest.approx((computes, sends), rel=0.01)
    alone = step_seconds(parameters, multiply_adds, 32, 1, GPUS[gpu], LINK)
    assert alone == (found[0], 0.0)


ONE_H100 = {"CPU": 16.0, "GPU": 1.0, "accelerator_type:H100": 1.0}


@pytest.mark.parametrize(
    ("nodes", "backbone", "rows", "told"),
    [
        ([ONE_H100] * 4, "EfficientNetB0", 64, "compute them in 17 ms and send gradients for 19 ms"),
        ([ONE_H100] * 4, "EfficientNetB0", 128, ""),
        ([ONE_H100] * 4, "EfficientNetB7", 32, ""),
        ([ONE_H100] * 4, "ResNet50", 32, ""),  # of which nothing is known
        ([ONE_H100 | {"GPU": 2.0}] * 2, "EfficientNetB0", 64, ""),  # two links
        ([ONE_H100 | {"GPU": 4.0}], "EfficientNetB0", 32, ""),  # in one machine
        ([*[ONE_H100] * 3, {"GPU": 1.0, "accelerator_type:L4": 1.0}], "EfficientNetB0", 64, ""),
        ([*[ONE_H100] * 3, {"GPU": 1.0, "accelerator_type:B300": 1.0}], "EfficientNetB0", 64, ""),
        ([{"CPU": 6.0}], "EfficientNetB0", 64, ""),
        (
            [*[ONE_H100] * 4, {"CPU": 6.0}],
            "EfficientNetB0",
            16,
            "16 images for each of 4 GPUs, and may be slower",
        ),
    ],
)
def test_gradients_that_take_longer_than_the_arithmetic_are_told(
    nodes: list[dict[str, float]], backbone: str, rows: int, told: str
) -> None:
    settings = TrainConfig(use_gpu=True, num_workers=4, batch_size=4 * rows)
    side = {"EfficientNetB7": 600}.get(backbone, 224)
    found = describe_small_batch(settings, ModelConfig(backbone=backbone, height=side, width=side), nodes)
    assert told in found
    assert bool(told) == bool(found)
    if "ms" in told:
        assert "raise train.batch_size to 288 and train.learning_rate with it" in found
        half = ModelConfig(
            backbone=backbone, height=side // 2, width=side // 2
        )  # a quarter of the arithmetic
        assert "in 4 ms" in describe_small_batch(settings, half, nodes)


@pytest.mark.parametrize("num_gpus", [1, 4, 64])
def test_the_recipe_for_gpus_has_enough_rows_and_a_rate_that_follows(num_gpus: int) -> None:
    recipe = RECIPES["gpu"]()
    train = recipe.train.model_copy(update={"num_workers": num_gpus})
    assert train.use_gpu
    assert train.step_images == 64 * num_gpus
    assert describe_small_batch(train, recipe.model, [ONE_H100] * num_gpus) == ""
    rates = planned_rates(train, 10)
    assert np.argmax(rates) == 10 * 3 - 1, "after three epochs of warm-up"
    assert rates.max() == pytest.approx(0.001 * num_gpus, rel=0.1)
    assert rates[0] == pytest.approx(0.001 * num_gpus / 30)
