"""Does a finished run's model know what is no MR image, and when to abstain?

Shows it the run's test images, and pictures that are none: parts of the photographs that scikit-learn and
matplotlib bring, noise, pages of text, blank images. Needs a run that is finished.

    python benchmarks/outsiders.py runs/b0
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from brain_ray.bundle.predictor import Predictor
from brain_ray.data.decoding import decode
from brain_ray.runs import Run

Grey = NDArray[np.uint8]

COUNT = 200
"""Pictures of each kind."""


def photographs() -> list[Grey]:
    """Return the photographs that installed packages bring, in grey."""
    found = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in load_sample_images().images]
    face = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return [np.asarray(image, np.uint8) for image in (*found, cv2.imread(str(face), cv2.IMREAD_GRAYSCALE))]


def photograph(rng: np.random.Generator, whole: list[Grey]) -> Grey:
    """Cut a square out of a photograph."""
    image = whole[int(rng.integers(len(whole)))]
    side = int(rng.integers(100, min(image.shape)))
    top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape)
    return image[top : top + side, left : left + side]


def noise(rng: np.random.Generator) -> Grey:
    """Draw noise, of one pixel's size or smooth."""
    height, width = rng.integers(120, 500, 2)
    values = rng.normal(size=(height, width))
    if (blur := rng.uniform(-3, 15)) > 0:
        values = cv2.GaussianBlur(values, (0, 0), blur)
    return np.asarray(cv2.normalize(values, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


def text(rng: np.random.Generator) -> Grey:
    """Write a page, dark on light or light on dark."""
    height, width = rng.integers(150, 600, 2)
    page = np.full((height, width), 255, np.uint8)
    size = rng.uniform(0.4, 1.2)
    for row in range(20, int(height), int(36 * size)):
        words = "".join(chr(c) for c in rng.integers(33, 122, 60))
        cv2.putText(page, words, (5, row), cv2.FONT_HERSHEY_SIMPLEX, size, 0, 1)
    return page if rng.random() < 0.5 else 255 - page


def blank(rng: np.random.Generator) -> Grey:
    """Fill an image with one grey."""
    height, width = rng.integers(64, 500, 2)
    return np.full((height, width), int(rng.integers(0, 256)), np.uint8)


def main(folder: str) -> None:
    """Print a table; last, its shares as JSON."""
    run = Run(str(Path(folder).parent), Path(folder).name)
    predictor = Predictor(run.uri("bundle"))

    def decide(images: list[Grey]) -> list[str]:
        inputs = [predictor.prepare_image(image)[0] for image in images]
        batches = [np.stack(inputs[i : i + 32]) for i in range(0, len(inputs), 32)]
        return [decision for batch in batches for decision in predictor.decide(predictor.predict(batch))]

    rng = np.random.default_rng(1)
    whole = photographs()
    kinds: dict[str, Callable[[], Grey]] = {
        "photographs": lambda: photograph(rng, whole),
        "noise": lambda: noise(rng),
        "text": lambda: text(rng),
        "blank": lambda: blank(rng),
    }
    print(f"{'':14}{'images':>7}{'answer':>8}{'abstain':>8}{'not_mr':>8}")

    def show(name: str, decisions: list[str]) -> dict[str, float]:
        counts = {kind: decisions.count(kind) for kind in ("answer", "abstain", "not_mr")}
        print(f"{name:14}{len(decisions):7}" + "".join(f"{count:8}" for count in counts.values()))
        return {kind: round(count / len(decisions), 4) for kind, count in counts.items()}

    found = {
        name: show(name, decide([draw() for _ in range(COUNT)]))["not_mr"] for name, draw in kinds.items()
    }
    table = pq.read_table(run.path("dataset", "test"), filesystem=run.fs, columns=["bytes", "label"])
    decisions = decide([decode(data) for data in table["bytes"].to_pylist()])
    passed = 1 - show("test images", decisions)["not_mr"]
    print(json.dumps({f"{name}_caught": share for name, share in found.items()} | {"test_passed": passed}))


if __name__ == "__main__":
    main(sys.argv[1])
