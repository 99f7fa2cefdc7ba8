"""Training against the plain way: images per second, workers, waiting for input, cached features.

EfficientNet-B0 at 96 px with random weights, batches of 32, on phantoms. Keras' own `fit` trains on arrays
in memory, in one process with all cores; brain_ray trains on a prepared data set, decoding and augmenting as
it goes, with one worker on two cores, and with two workers of one core each. The first epoch of each traces
the network and does not count; of the others the median does, and all take turns twice, since machines
are not equally fast in every minute, and single epochs of Keras' `fit` take up to twice the time of others. A
frozen epoch, checkpoint included, is compared with one in which the backbone runs. Six to nine minutes on two
cores.

    python benchmarks/training.py
"""

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from legs import run_leg

from brain_ray.config import AugmentConfig, Config, DataConfig, ModelConfig, PhantomConfig, TrainConfig
from brain_ray.logs import log
from brain_ray.runs import Run

SIDE, BATCH = 96, 32
EPOCHS = 4
PER_CLASS = 200
"""Phantoms of each class, of which a fifth validates."""

Figures = dict[str, Any]


def config_of(folder: Path, **train: Any) -> Config:
    """Return the settings of all runs, some changed."""
    weights = train.pop("weights", "none")
    augment = AugmentConfig(rotation=10, shift=0.05, zoom=0.1, brightness=0.1, contrast=0.1, flip=0.5)
    return Config(
        storage=str(folder),
        name="run",
        data=DataConfig(phantoms=PhantomConfig(train_per_class=PER_CLASS, test_per_class=1)),
        model=ModelConfig(weights=weights, height=SIDE, width=SIDE),
        train=TrainConfig(
            **{"epochs": EPOCHS, "batch_size": BATCH, "augment": augment, "dwell": False, **train}
        ),
    )


def prepare(folder: Path) -> Figures:
    """Prepare the data set, and a weights file that a frozen backbone can have."""
    import keras

    from brain_ray.cluster import connection
    from brain_ray.data.prepare import prepare
    from brain_ray.models.backbones import build_backbone

    config = config_of(folder)
    connection.connect()
    prepare(Run(config.storage, config.name), config)
    keras.utils.set_random_seed(99)
    backbone = build_backbone(config.model)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_mean.assign([0.45, 0.45, 0.45])
    backbone.save_weights(folder / "backbone.weights.h5")
    return {}


def keras_fit(folder: Path) -> Figures:
    """Train as a notebook does."""
    import keras

    from brain_ray.models.network import build_network

    keras.config.disable_interactive_logging()
    config = config_of(folder)
    rng = np.random.default_rng(1)
    rows = PER_CLASS * 4 * 4 // 5
    images = rng.integers(0, 256, (rows, SIDE, SIDE, 1)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[np.arange(rows) % 4]
    model = build_network(config.model, 4, 1)
    model.compile(config.train.optimizer, config.train.loss, metrics=["accuracy"], jit_compile=False)
    seconds: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, *_: Any) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, *_: Any) -> None:
            seconds.append(time.perf_counter() - self.start)

    model.fit(images, labels, batch_size=BATCH, epochs=EPOCHS, callbacks=[Clock()], verbose=0)
    return {"images_per_second": [rows / s for s in seconds]}


def train(folder: Path, **settings: Any) -> Figures:
    """Train on Ray; return what its history says, and the time from one epoch's line to the next."""
    from brain_ray.cluster import connection
    from brain_ray.training.train import train

    run = Run(str(folder), "run")
    run.clear("train")
    connection.connect()
    times: list[float] = []
    log.setLevel(logging.INFO)
    log.addFilter(note := lambda _: times.append(time.perf_counter()) is None)
    train(run, config_of(folder, **settings))
    log.removeFilter(note)
    header, *rows = run.read_bytes("train", "history.csv").decode().splitlines()
    records = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    return {
        "images_per_second": [float(record["images_per_second"]) for record in records],
        "input_wait": [float(record["input_wait"]) / float(record["seconds"]) for record in records],
        "seconds": np.diff(times[-EPOCHS:]).tolist(),
    }


LEGS: dict[str, Callable[[Path], Figures]] = {
    "prepare": prepare,
    "keras fit, two cores": keras_fit,
    "one worker, two cores": lambda folder: train(folder, cpus_per_worker=1.5),
    "two workers, a core each": lambda folder: train(folder, num_workers=2, cpus_per_worker=0.75),
    "frozen": lambda folder: train(
        folder,
        epochs=0,
        frozen_epochs=EPOCHS,
        cache_features=False,
        weights=str(folder / "backbone.weights.h5"),
    ),
    "frozen, cached features": lambda folder: train(
        folder, epochs=0, frozen_epochs=EPOCHS, weights=str(folder / "backbone.weights.h5")
    ),
}


MEASURED = ["keras fit, two cores", "one worker, two cores", "two workers, a core each"]


def apart(leg: str, folder: Path) -> Figures:
    """Run a leg in a process of its own."""
    return run_leg(__file__, leg, leg, folder)


def main() -> None:
    """Measure, print a table and, last, the ratios as JSON."""
    speeds: dict[str, list[float]] = {leg: [] for leg in MEASURED}
    waits: list[float] = []
    seconds: dict[str, float] = {}
    print(f"{'':28}images/s of each epoch after the first")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        apart("prepare", folder)
        for leg in 2 * MEASURED:
            found = apart(leg, folder)
            later = found["images_per_second"][1:]
            print(f"{leg:28}" + "".join(f"{speed:7.1f}" for speed in later), flush=True)
            speeds[leg] += later
            if leg.startswith("one worker"):
                waits += found["input_wait"][1:]
        print(f"{'':28}seconds of each epoch after the first")
        for leg in ("frozen", "frozen, cached features"):
            found = apart(leg, folder)
            print(f"{leg:28}" + "".join(f"{value:7.2f}" for value in found["seconds"]), flush=True)
            seconds[leg] = float(np.median(found["seconds"]))
    keras, one, two = (float(np.median(speeds[leg])) for leg in MEASURED)
    ratios = {
        "vs_keras_fit": round(one / keras, 2),
        "two_workers_over_one": round(two / one, 2),
        "input_wait_share": round(float(np.median(waits)), 3),
        "cached_epoch_share": round(seconds["frozen, cached features"] / seconds["frozen"], 3),
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(LEGS[sys.argv[1]](Path(sys.argv[2]))))
    else:
        main()
