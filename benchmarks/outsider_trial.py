"""Images for benchmarks/outsiders.py, of phantoms, a source or a run, and a network that learns them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.bundle.build import export_bundle
from brain_ray.bundle.convert import make_models
from brain_ray.bundle.predictor import Predictor
from brain_ray.config import Config, DataConfig, PhantomConfig
from brain_ray.data.dataset import read_table
from brain_ray.data.decoding import decode
from brain_ray.data.phantoms.files import draw_slice
from brain_ray.data.sources.find import list_source
from brain_ray.data.sources.reader import FileReader
from brain_ray.data.transforms import prepare_image
from brain_ray.models.network import build_network
from brain_ray.runs import DATASET, DATASET_MANIFEST, Run

PATIENTS = 400
"""Phantoms' patients, with three slices each."""


@dataclass(frozen=True)
class Images:
    """Grey images, with the label and the group of each."""

    grey: list[Grey]
    labels: NDArray[np.int64]
    groups: NDArray[Any]

    def take(self, chosen: NDArray[np.bool_]) -> "Images":
        """Return the images that are chosen, (n,)."""
        grey = [self.grey[i] for i in np.flatnonzero(chosen)]
        return Images(grey, self.labels[chosen], self.groups[chosen])

    def parts(self, shares: Sequence[float], seed: int = 1) -> "list[Images]":
        """Split the images by groups, drawn at random, into parts of about these shares of the groups."""
        names = np.random.default_rng(seed).permutation(np.unique(self.groups))
        ends = np.rint(np.cumsum(shares) * len(names)).astype(int)
        return [self.take(np.isin(self.groups, part)) for part in np.split(names, ends[:-1])]


def draw_phantoms(classes: Sequence[str]) -> Images:
    """Draw phantoms of patients, each of one class."""
    each = PhantomConfig(slices_per_patient=3)
    rows = [(patient, number) for patient in range(PATIENTS) for number in range(each.slices_per_patient)]

    def one(row: tuple[int, int]) -> Grey:
        image = draw_slice(classes[row[0] % len(classes)], 7, *row, each)
        return image if image.ndim == 2 else np.ascontiguousarray(image[..., 0])

    with ThreadPoolExecutor() as pool:
        grey = list(pool.map(one, rows))
    patients = np.array([patient for patient, _ in rows])
    return Images(grey, patients % len(classes), patients)


def read_source(data: DataConfig) -> Images:
    """Read the images of a source; each without a patient is a group of its own."""
    listing = list_source(data.source, data)
    files, reader = listing.files, FileReader(listing.root)
    with ThreadPoolExecutor() as pool:
        grey = list(pool.map(lambda path: decode(reader.read(path), data.max_pixels), files["path"]))
    groups = files["patient"].where(files["patient"] != "", files["path"])
    return Images(grey, files["label"].to_numpy(np.int64), groups.to_numpy(str))


def read_tests(run: Run) -> Images:
    """Read the test images of a run."""
    table = pq.read_table(
        run.path(DATASET, "test"),
        filesystem=run.fs,
        columns=["image_id", "bytes", "label"],
        partitioning=None,
    )
    manifest = read_table(run, *DATASET_MANIFEST).set_index("image_id")
    groups = manifest.loc[table["image_id"].to_numpy(), "group" if "group" in manifest else "cluster"]
    grey = [decode(data) for data in table["bytes"].to_pylist()]
    return Images(grey, table["label"].to_numpy(), groups.to_numpy())


def inputs_of(images: Sequence[Grey], config: Config) -> NDArray[np.uint8]:
    """Crop images as serving does: (n, height, width, 1)."""
    return np.stack([prepare_image(image, config.data.crop, config.model.input_spec)[0] for image in images])


def learn(train: Images, config: Config, epochs: int) -> Any:
    """Train the network on images, by Keras alone; returns it."""
    import keras

    model = build_network(config.model, len(config.data.classes), seed=1)
    rate = 0.003 if config.model.backbone == "tiny" else 0.0005
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    inputs = inputs_of(train.grey, config).astype(np.float32)
    model.fit(inputs, train.labels, batch_size=16, epochs=epochs, verbose=2)
    return model


def export(model: Any, train: Images, valid: Images, config: Config, folder: Path) -> Predictor:
    """Export a model as a pipeline does; returns the bundle's predictor."""
    counts = {
        name: {"images": n, "rows": n, "sha256": ""}
        for name, n in (("train", len(train.grey)), ("valid", len(valid.grey)), ("test", 0))
    }
    facts = {
        "data": counts | {"audit": {}},
        "training": {"epochs": 1, "best_epoch": 1, "backbone": config.model.backbone},
    }
    weights = [np.asarray(weight) for weight in model.weights]
    inputs = [inputs_of(part.grey, config) for part in (valid, train)]
    export_bundle(
        folder, config, weights, inputs[0], valid.labels, inputs[1], facts, make_models, valid.groups
    )
    return Predictor(folder, gpu=False)
