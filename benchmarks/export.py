"""What an export costs: time and memory of the conversion and the comparison, of a large network.

A network with random weights is exported, with drawn phantoms as its images. Conversion and comparison run in
a process of their own, as in every export; its peak of memory is what a machine must have beside the rest.

    python benchmarks/export.py                                        # EfficientNetB7 at 600 px
    python benchmarks/export.py --backbone EfficientNetB0 --size 224
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from brain_ray.bundle.build import export_bundle, run_conversion
from brain_ray.bundle.schema import DataFacts, Facts, SplitFacts, TrainingFacts
from brain_ray.config import Config, ModelConfig
from brain_ray.data.phantoms.files import draw
from brain_ray.data.phantoms.tumours import TUMOURS
from brain_ray.models.network import build_network

IMAGES = 6
"""Phantoms of each class."""


def main() -> None:
    """Export once; print a table, and last a line of JSON."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--backbone", default="EfficientNetB7", help="default: EfficientNetB7")
    words.add_argument("--size", type=int, default=600, help="side of the input in pixels (default: 600)")
    given = words.parse_args()
    model = ModelConfig(backbone=given.backbone, height=given.size, width=given.size, weights="none")
    config = Config(model=model)
    weights = [weight.numpy() for weight in build_network(model, len(config.data.classes), 1).weights]
    drawn = [draw(kind, 5, number) for number in range(IMAGES) for kind in TUMOURS]
    grey = [image if image.ndim == 2 else image[..., 0] for image in drawn]
    images = np.stack([cv2.resize(image, (given.size, given.size)) for image in grey])[..., None]
    labels = np.arange(len(images)) % len(TUMOURS)
    split = SplitFacts(images=len(images), rows=len(images), sha256="drawn")
    facts = Facts(
        data=DataFacts(train=split, valid=split, test=split, audit={}),
        training=TrainingFacts(epochs=1, best_epoch=1, backbone=given.backbone),
    )
    seconds = []

    def convert(job: Path, folder: Path) -> str:
        started = time.monotonic()
        output = run_conversion(job, folder)
        seconds.append(time.monotonic() - started)
        return output

    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        info = export_bundle(Path(folder) / "bundle", config, weights, images, labels, images, facts, convert)
        whole = time.monotonic() - started
    values = {
        "backbone": given.backbone,
        "size": given.size,
        "parameters": sum(weight.size for weight in weights),
        "seconds of conversion and comparison": seconds[0],
        "seconds of the whole export": whole,
        "GB at most, conversion and comparison": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6,
        "largest difference of a probability": info.check.largest_difference,
        "largest difference of a logit": info.check.outputs["logits"].largest,
    }
    for name, value in values.items():
        print(f"{name:40} {f'{value:.3g}' if isinstance(value, float) else value}")
    print(json.dumps(values))


if __name__ == "__main__":
    main()
