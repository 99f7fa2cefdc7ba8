"""Does a run's score lean on near copies that the audit's threshold let through?

For each test image, looks for images that the model learned from and that are nearly the same slice, below
the 0.97 that counts as a copy, and scores the test images that have none. Needs a run that is finished.

    python benchmarks/neighbours.py runs/b0
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from audit import look, views_of

from brain_ray.arrays import Grey
from brain_ray.config import Config
from brain_ray.data.copies.candidates import index
from brain_ray.data.copies.whitening import moments, whitening
from brain_ray.data.decoding import decode
from brain_ray.data.identity import source_of
from brain_ray.runs import Run
from brain_ray.storage import filesystem

THRESHOLDS = (0.97, 0.95, 0.93, 0.91)


def main(folder: str) -> None:
    """Print accuracy without the test images that have a neighbour, by similarity; last, the same as JSON."""
    run = Run(str(Path(folder).parent), Path(folder).name)
    config = Config.model_validate(run.read_json("config.json")["config"])
    source, root = filesystem(source_of(run, config))

    def read(paths: list[str]) -> Iterator[Grey]:
        for path in paths:
            with source.open_input_stream(f"{root}/{path}") as stream:
                yield decode(bytes(stream.read()))

    manifest = pq.read_table(run.path("dataset", "manifest.parquet"), filesystem=run.fs).to_pandas()
    tested = pq.read_table(run.path("report", "predictions.parquet"), filesystem=run.fs).to_pandas()
    right = (tested["predicted"] == tested["label"]).to_numpy()
    learned_from = manifest.loc[manifest["split"].isin(["train", "valid"]), "path"].tolist()
    test, learned = (
        views_of(read(each), config.data.crop) for each in (tested["path"].tolist(), learned_from)
    )
    white = whitening([moments(index(each).embeddings) for each in (test, learned)])
    pairs = look(test, white, learned, min(THRESHOLDS)).pairs
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
