"""What does a score gain by copies, and by patients, on both sides? One network, three ways to deal folds.

The images of a finished cross-validation, in which all images of a patient and all copies of a slice are kept
together, are cross-validated twice more: with the copies of a slice kept together, and with each image dealt
by itself. All else is the same: network, recipe, number of folds, seed. Beside the run, this makes the runs
`<name>-copies` and `<name>-images`; it takes twice as long as that run did, and goes on where it was killed.

    python jobs/pipeline.py smoke --name apart --folds 4         # or any other cross-validation
    python benchmarks/apart.py runs/apart
"""

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from brain_ray import logs
from brain_ray.config import Config
from brain_ray.data.dataset import read_table
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.pipeline import run_stages
from brain_ray.runs import DATASET, DATASET_MANIFEST, TRAIN, Run
from brain_ray.scoring.intervals import GroupBootstrap

UNITS = ("images", "copies", "patients")


def twin_of(run: Run, unit: str) -> Run:
    """Copy a run's data set, whose groups become its images or its copies; nothing if it was done before."""
    twin = replace(run, name=f"{run.name}-{unit}")
    if twin.exists(*DATASET_MANIFEST):
        return twin
    partial = Path(twin.path("partial"))
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(run.path(DATASET), partial)
    manifest = read_table(run, *DATASET_MANIFEST)
    manifest["group"] = manifest["image_id"] if unit == "images" else manifest["cluster"]
    schema = pq.read_schema(run.path(*DATASET_MANIFEST))
    table = pa.Table.from_pandas(manifest, schema, preserve_index=False)
    pq.write_table(table, partial / DATASET_MANIFEST[-1])
    partial.rename(twin.path(DATASET))
    return twin


def row_of(run: Run) -> dict[str, float | int]:
    """Return the scores of a cross-validation, and how much was on both sides of a fold."""
    pooled = run.read_json(TRAIN, "folds.json")["pooled"]
    answers = OutOfFold.read(run)
    assert answers is not None, "it was just cross-validated"
    manifest = read_table(run, *DATASET_MANIFEST).set_index("image_id").loc[answers.image_id]
    right = answers.probabilities.argmax(axis=1) == answers.label
    known = (manifest["patient"] != "").to_numpy()

    def shared(column: str, rows: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> int:
        units = pd.Series(answers.fold[rows]).groupby(manifest[column].to_numpy()[rows])
        return int(units.transform("nunique").gt(1).sum())

    return {
        "accuracy": pooled["accuracy"],
        "low": pooled["accuracy_low"],
        "high": pooled["accuracy_high"],
        "macro F1": pooled["macro"]["f1"],
        "accuracy, patient known": float(right[known].mean()),
        "images with a copy in another fold": shared("cluster", np.ones(len(known), bool)),
        "images with their patient in another fold": shared("patient", known),
        "images": len(right),
        "patients known of": int(known.sum()),
    }


def cross_validate(config: Config, run: Run) -> dict[str, dict[str, float | int]]:
    """Cross-validate a run and its twins, where that is not done, and print a line on each."""
    rows = {}
    for unit in ("patients", "images", "copies"):
        twin = run if unit == "patients" else twin_of(run, unit)
        run_stages(config.model_copy(update={"name": twin.name}), ("sweep", "choose"))
        rows[unit] = row_of(twin)
    head = f"{'kept together':16}{'accuracy (95 % interval over what is)':>40}{'macro F1':>10}"
    print(f"\n{head}  on both sides of a fold")
    for unit in UNITS:
        row = rows[unit]
        interval = f"{row['accuracy']:.4f} ({row['low']:.4f} to {row['high']:.4f})"
        sides = f"copies of {row['images with a copy in another fold']} images, patients of "
        sides += f"{row['images with their patient in another fold']} of {row['patients known of']}"
        print(f"{unit:16}{interval:>40}{row['macro F1']:10.4f}  {sides}")
    for (more, less), (value, low, high) in differences(run).items():
        print(f"{more} minus {less}: {value:+.4f} ({low:+.4f} to {high:+.4f}, over the groups of patients)")
        rows[more] |= {f"over {less}": value, f"over {less}, low": low, f"over {less}, high": high}
    return rows


def right_images(run: Run) -> pd.DataFrame:
    """Return whether each image of a cross-validation was answered rightly, and its group, by image_id."""
    answers = OutOfFold.read(run)
    assert answers is not None, "it was just cross-validated"
    right = answers.probabilities.argmax(axis=1) == answers.label
    return pd.DataFrame({"right": right, "group": answers.group}, index=answers.image_id)


def differences(run: Run) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return what one way's accuracy has more than another's, with 95 % intervals over the run's groups."""
    apart = right_images(run)
    right = {"patients": apart["right"].astype(float)}
    for unit in ("copies", "images"):
        right[unit] = (
            right_images(replace(run, name=f"{run.name}-{unit}")).loc[apart.index]["right"].astype(float)
        )
    bootstrap, found = GroupBootstrap(apart["group"].to_numpy()), {}
    for more, less in (("copies", "patients"), ("images", "copies"), ("images", "patients")):
        gain = bootstrap.mean((right[more] - right[less]).to_numpy())
        found[more, less] = gain.value, gain.low, gain.high
    return found


def main() -> None:
    """Cross-validate twice more; print a table, and last a line of JSON."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("run", help="folder of a finished cross-validation")
    given = words.parse_args()
    started = time.monotonic()
    run = Run(str(Path(given.run).resolve().parent), Path(given.run).name)
    if OutOfFold.read(run) is None:
        raise SystemExit(f"{given.run} is no cross-validation: it has no out-of-fold answers")
    config = Config.model_validate(run.read_json("config.json")["config"])
    with logs.to_console():
        rows = cross_validate(config.model_copy(update={"storage": run.storage}), run)
    print(json.dumps({**rows, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    main()
