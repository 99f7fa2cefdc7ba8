"""How much of a class shows at the edge of the images, where no tumour is? A linear model on the frame.

Fits it to means and deviations of short stretches of the outer 6 of 96 pixels of a prepared run's training
images, and scores it on the test images: of whole images, and of the crops that the network sees.

    python benchmarks/frame.py runs/b0
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brain_ray.config import Config
from brain_ray.data.decoding import decode
from brain_ray.data.rows import BOX, read_input
from brain_ray.data.transforms import thumbnail
from brain_ray.input_spec import InputSpec
from brain_ray.runs import Run

SIDE, WIDTH, STRETCH = 96, 6, 12


def edges(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, 64): mean and deviation of 8 stretches of each side's edge of (n, 96, 96) images."""
    sides = [images[:, :WIDTH], images[:, -WIDTH:]]
    sides += [images[:, :, :WIDTH].swapaxes(1, 2), images[:, :, -WIDTH:].swapaxes(1, 2)]
    cut = [side.reshape(len(images), WIDTH, SIDE // STRETCH, STRETCH).astype(np.float32) for side in sides]
    return np.concatenate([take(axis=(1, 3)) for part in cut for take in (part.mean, part.std)], axis=1)


def main(folder: str) -> None:
    """Print accuracies on the test images; last, the same as JSON."""
    run = Run(str(Path(folder).parent), Path(folder).name)
    config = Config.model_validate(run.read_json("config.json")["config"])
    spec = InputSpec(SIDE, SIDE)
    columns = ["path", "label", "bytes", *BOX]
    found: dict[str, dict[str, NDArray[np.float32]]] = {"whole images": {}, "crops": {}}
    labels = {}
    for split in ("train", "test"):
        table = pq.read_table(run.path("dataset", split), filesystem=run.fs, columns=columns)
        rows = table.to_pylist()
        labels[split] = np.array([row["label"] for row in rows])
        found["whole images"][split] = edges(np.stack([thumbnail(decode(row["bytes"])) for row in rows]))
        crops = [read_input(row, spec, config.data.max_pixels, config.data.read_spec)[..., 0] for row in rows]
        found["crops"][split] = edges(np.stack(crops))
    truth, classes = labels["test"], config.data.classes
    shares = {"largest class": round(float(np.bincount(truth).max() / len(truth)), 4)}
    for name, features in found.items():
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        predicted = model.fit(features["train"], labels["train"]).predict(features["test"])
        shares[name] = round(float((predicted == truth).mean()), 4)
        rest = ", ".join(
            f"{kind} {np.mean((predicted == k) == (truth == k)):.3f}" for k, kind in enumerate(classes)
        )
        print(f"edge of {name}: accuracy {shares[name]:.3f}; one class against the rest: {rest}")
    print(json.dumps({"test_images": len(truth), "accuracy": shares}))


if __name__ == "__main__":
    main(sys.argv[1])
