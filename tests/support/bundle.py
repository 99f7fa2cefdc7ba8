"""A bundle that tells phantoms apart, made in half a minute: what the tests serve."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.undisturbed import train

from brain_ray.bundle.build import export_bundle
from brain_ray.bundle.convert import make_models
from brain_ray.bundle.reference import box_quantities
from brain_ray.config import AugmentConfig, Config, ExportConfig, ModelConfig, TrainConfig
from brain_ray.data.phantoms.files import draw
from brain_ray.data.transforms import Box, find_box, to_input
from brain_ray.input_spec import InputSpec
from brain_ray.loading.feed import Feed
from brain_ray.loading.loader import Batch
from brain_ray.loading.sampler import epoch_order, num_steps, worker_steps

SPLIT = {"images": 160, "rows": 160, "sha256": "ab" * 32}
SIDE = 64

CONFIG = Config(
    name="phantoms",
    model=ModelConfig(backbone="tiny", weights="none", height=SIDE, width=SIDE, dropout=0.0, bn_momentum=0.8),
    train=TrainConfig(
        epochs=8,
        batch_size=16,
        optimizer="Adam",
        learning_rate=0.003,
        schedule="CosineDecay",
        dwell=False,
        augment=AugmentConfig(),
    ),
    export=ExportConfig(max_error=0.08),  # about the least that a hundred images show of eight epochs
)


def inputs_of(
    first: int, per_class: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[str, NDArray[np.float32]]]:
    """Draw phantoms as the network is fed them, (n, 64, 64, 1); their labels; quantities of their boxes."""
    inputs, labels, boxes, sizes = [], [], [], []
    for label, name in enumerate(CONFIG.data.classes):
        for index in range(first, first + per_class):
            drawn = draw(name, 11, index * 4 + label)
            image = drawn if drawn.ndim == 2 else np.ascontiguousarray(drawn[..., 0])
            box = find_box(image, CONFIG.data.crop) or Box.whole(image)
            inputs.append(to_input(image, box, InputSpec(SIDE, SIDE)))
            labels.append(label)
            boxes.append((box.top, box.bottom, box.left, box.right))
            sizes.append(image.shape)
    return np.stack(inputs), np.array(labels), box_quantities(boxes, sizes)


def make_bundle(folder: Path) -> Path:
    """Train and export; returns the bundle's folder."""
    *data, _ = inputs_of(0, 60)
    *valid, boxes = inputs_of(1000, 25)

    def load(part: Sequence[Any], order: NDArray[np.int64]) -> Any:
        for step in worker_steps(order, CONFIG.train.batch_size, 0, 1):
            weights = np.full(len(step.rows), step.weight, np.float32)
            yield Batch(part[0][step.rows], part[1][step.rows], weights, step.total)

    feed = Feed(
        steps_per_epoch=num_steps(len(data[0]), CONFIG.train.batch_size),
        train=lambda epoch, _: load(data, epoch_order([len(data[0])], CONFIG.seed, epoch, 1000)),
        valid=lambda _: load(valid, np.arange(len(valid[0]))),
    )
    state = train(CONFIG, feed)
    facts = {
        "data": {"train": SPLIT, "valid": SPLIT, "test": SPLIT, "audit": {"second_copies": 0}},
        "training": {"epochs": 8, "best_epoch": 8, "backbone": "tiny"},
    }
    inputs, labels = valid
    export_bundle(
        folder / "bundle",
        CONFIG,
        state.best,
        inputs,
        labels,
        data[0],
        facts,
        make_models,
        valid_boxes=boxes,
    )
    return folder / "bundle"
