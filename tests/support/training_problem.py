"""A small problem to train on: four classes, told apart by the bright quarter of an image."""

from collections.abc import Callable, Container, Iterable
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from brain_ray.config import Config, ModelConfig, TrainConfig
from brain_ray.loading.feed import Feed
from brain_ray.loading.loader import Batch
from brain_ray.loading.sampler import epoch_order, num_steps, worker_steps
from brain_ray.runs import DATASET_MANIFEST, Run

SIDE = 24

MakeConfig = Callable[..., Config]
"""What the fixture `make_config` gives."""


def problem_config(model: dict[str, Any] | None = None, **train: Any) -> Config:
    """Make settings for the small problem, some of them changed."""
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


def quarters(num: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw images (num, 24, 24, 1) and labels (num,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 4
    images = rng.integers(0, 90, size=(num, SIDE, SIDE, 1))
    half = SIDE // 2
    for image, label in zip(images, labels, strict=True):
        top, left = divmod(int(label), 2)
        image[top * half : (top + 1) * half, left * half : (left + 1) * half] += 120
    return images.astype(np.uint8), labels


def memory_feed(config: Config, num_train: int = 44, num_valid: int = 13) -> Feed:
    """Feed one worker from arrays, by the plan that Ray's workers follow."""
    train, valid = quarters(num_train, 0), quarters(num_valid, 1)

    def load(
        data: tuple[Any, Any], order: NDArray[np.int64], first: int = 0, *, spread: bool = False
    ) -> Iterable[Batch]:
        for step in islice(worker_steps(order, config.train.batch_size, 0, 1, spread=spread), first, None):
            weights = np.full(len(step.rows), step.weight, np.float32)
            yield Batch(data[0][step.rows], data[1][step.rows], weights, step.total)

    return Feed(
        steps_per_epoch=num_steps(num_train, config.train.batch_size),
        train=lambda epoch, first: load(
            train,
            epoch_order([num_train], config.seed, epoch, 1000),
            first,
            spread=config.train.last_batch == "spread",
        ),
        valid=lambda _: load(valid, np.arange(num_valid)),
    )


def write_dataset(
    run: Run, num_train: int = 61, num_valid: int = 13, part_rows: int = 23, spoil: Container[int] = ()
) -> None:
    """Write the small problem as a prepared run has it: JPEG files in Parquet, in several parts; and of the
    manifest, splits, labels, and groups of two images each. The images in `spoil` are black."""
    ids = np.arange(num_train + num_valid)
    sink = pa.BufferOutputStream()
    places = np.concatenate([np.arange(num_train), np.arange(num_valid)])
    manifest = {
        "image_id": ids,
        "cluster": ids,
        "group": ids // 2,
        "label": places % 4,
        "split": np.where(ids < num_train, "train", "valid"),
    }
    pq.write_table(pa.table(manifest), sink)
    run.write_bytes(sink.getvalue().to_pybytes(), *DATASET_MANIFEST)
    for split, num, seed, first in (("train", num_train, 0, 0), ("valid", num_valid, 1, num_train)):
        images, labels = quarters(num, seed)
        images[[first + image in spoil for image in range(num)]] = 0
        encoded = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
        table = pa.table(
            {
                "row_id": np.arange(num),
                "image_id": first + np.arange(num),
                "path": [f"Training/{label}/{i}.jpg" for i, label in enumerate(labels)],
                "label": labels,
                "bytes": pa.array(encoded, pa.binary()),
                "top": np.zeros(num, np.int64),
                "bottom": np.full(num, SIDE),
                "left": np.zeros(num, np.int64),
                "right": np.full(num, SIDE),
                "augment_seed": np.where(np.arange(num) % 5 == 0, np.arange(num), -1),
            }
        )
        for part, start in enumerate(range(0, num, part_rows)):
            sink = pa.BufferOutputStream()
            pq.write_table(table.slice(start, part_rows), sink)
            run.write_bytes(sink.getvalue().to_pybytes(), "dataset", split, f"{part:05}.parquet")
