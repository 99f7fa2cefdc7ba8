"""Does a run's score lean on near copies that the audit's threshold let through?

For each test image, looks for images that the model learned from and that are nearly the same slice, below
the 0.97 that counts as a copy, and scores the test images that have none. Needs a run that is finished.

    python benchmarks/neighbours.py runs/b0
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.data.copies.candidates import Index, index, search
from brain_ray.data.copies.head_view import view_twice
from brain_ray.data.copies.verification import verify
from brain_ray.data.copies.whitening import moments, whitening
from brain_ray.data.decoding import decode
from brain_ray.data.identity import source_of
from brain_ray.data.transforms import Box, find_box
from brain_ray.runs import Run
from brain_ray.storage import filesystem

THRESHOLDS = (0.97, 0.95, 0.93, 0.91)


def main(folder: str) -> None:
    """Print accuracy without the test images that have a neighbour, by similarity; last, the same as JSON."""
    run = Run(str(Path(folder).parent), Path(folder).name)
    config = Config.model_validate(run.read_json("config.json")["config"])
    source, root = filesystem(source_of(run, config))

    def views_of(paths: list[str]) -> NDArray[np.uint8]:
        found = []
        for path in paths:
            with source.open_input_stream(f"{root}/{path}") as stream:
                image = decode(bytes(stream.read()))
            found.append(view_twice(image, find_box(image, config.data.crop) or Box.whole(image))[0])
        return np.stack(found)

    manifest = pq.read_table(run.path("dataset", "manifest.parquet"), filesystem=run.fs).to_pandas()
    tested = pq.read_table(run.path("report", "predictions.parquet"), filesystem=run.fs).to_pandas()
    right = (tested["predicted"] == tested["label"]).to_numpy()
    learned = views_of(manifest.loc[manifest["split"].isin(["train", "valid"]), "path"].tolist())
    test = views_of(tested["path"].tolist())
    plain = index(test), index(learned)
    white = whitening([moments(one.embeddings) for one in plain])
    first, second = (Index(white.apply(one.embeddings), one.packed) for one in plain)
    candidates = search(first, second, white.floor)
    candidates["b"] += len(test)
    pairs = verify(np.concatenate([test, learned]), candidates, min(THRESHOLDS))
    accuracy = {}
    print(f"{'similarity':>10}{'test images left':>18}{'accuracy':>10}")
    for threshold in THRESHOLDS:
        kept = np.ones(len(test), bool)
        kept[pairs.a[pairs.similarity >= threshold]] = False
        accuracy[str(threshold)] = round(float(right[kept].mean()), 4)
        print(f"{threshold:>10}{int(kept.sum()):>18}{accuracy[str(threshold)]:>10.4f}")
    print(json.dumps({"accuracy_without_neighbours": accuracy}))


if __name__ == "__main__":
    main(sys.argv[1])
