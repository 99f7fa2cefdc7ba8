"""Does a cross-validation find wrong labels? 3 % are planted in drawn phantoms, and the suspects are counted.

Phantoms of patients with three slices each are drawn, some files are labelled as another class, and the
network `tiny` is cross-validated over five folds of patients, as `jobs/pipeline.py smoke --folds 5` does it.
The suspects are those of the run's suspects.csv; of 100 images, the first three are looked at.

    python benchmarks/suspects.py [--share 0.03] [--per-class 180]
    python benchmarks/suspects.py --run runs/kaggle

The second plants nothing: of a finished cross-validation it tells which of the labels that a published set
contradicts, and of the images that look like CT, are suspected.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from brain_ray import logs
from brain_ray.config import Config, PhantomConfig
from brain_ray.data.dataset import read_table
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.data.phantoms.files import PATIENTS, write_tree
from brain_ray.pipeline import run_stages
from brain_ray.recipes import smoke
from brain_ray.runs import DATASET_MANIFEST, SUSPECT_FILES, TRAIN, Run

FOLDS = 5


def plant(folder: Path, per_class: int, share: float, config: Config) -> tuple[Path, pd.DataFrame]:
    """Draw phantoms, and write a manifest in which a share of the labels is wrong; return both."""
    phantoms = PhantomConfig(train_per_class=per_class, test_per_class=1, slices_per_patient=3)
    write_tree(
        folder, phantoms, config.data.classes, config.seed, train_folder="Training", test_folder="Testing"
    )
    files = pd.read_csv(folder / PATIENTS)
    files = files[files["path"].str.startswith("Training/")].reset_index(drop=True)
    files["true"] = files["path"].str.split("/").str[1]
    rng = np.random.default_rng(11)
    chosen = rng.choice(len(files), round(share * len(files)), replace=False)
    files["label"] = files["true"]
    for place in chosen:
        others = [name for name in config.data.classes if name != files.loc[place, "true"]]
        files.loc[place, "label"] = rng.choice(others)
    manifest = folder / "planted.csv"
    files[["path", "label", "patient"]].to_csv(manifest, index=False)
    return manifest, files


def look(folder: str) -> None:
    """Print whether a run's suspects hold what the audit knows; last a line of JSON."""
    run = Run(str(Path(folder).parent), Path(folder).name)
    answers = OutOfFold.read(run)
    if answers is None:
        raise SystemExit(f"{folder} is no cross-validation: it has no out-of-fold answers")
    images = read_table(run, *DATASET_MANIFEST).set_index("image_id").loc[answers.image_id]
    suspects = pd.read_csv(run.path(TRAIN, SUSPECT_FILES[1]))["path"]
    images["right"] = answers.probabilities.argmax(axis=1) == answers.label
    images["suspected"] = images["path"].isin(suspects)
    known = images["known_label"].fillna("")
    contradicted = (known != "") & (known != images["class_name"])
    for place in np.flatnonzero(contradicted):
        row = images.iloc[place]
        chances = ", ".join(f"{chance:.2f}" for chance in answers.probabilities[place])
        copies = images[(images["cluster"] == row["cluster"]) & (images["path"] != row["path"])]
        print(f"{row['path']}: {row['class_name']}, published as {row['known_label']}; {chances}")
        print(f"  suspected: {row['suspected']}; copies: {copies.set_index('path')['suspected'].to_dict()}")
    parts = {
        "contradicted": contradicted,
        "CT-like": images["looks_like"] == "CT",
        "patient known": images["patient"] != "",
        "patient unknown": images["patient"] == "",
    }
    values = {
        name: {
            "images": int(part.sum()),
            "right": int(images.loc[part, "right"].sum()),
            "suspected": int(images.loc[part, "suspected"].sum()),
        }
        for name, part in parts.items()
    }
    for name, counts in values.items():
        print(f"{name:16} {counts}")
    print(json.dumps(values))


def main() -> None:
    """Cross-validate on planted labels; print a table, and last a line of JSON."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument(
        "--share", type=float, default=0.03, help="of the labels that are wrong (default: 0.03)"
    )
    words.add_argument("--per-class", type=int, default=180, help="phantoms of each class (default: 180)")
    words.add_argument("--run", help="folder of a finished cross-validation, to look at instead")
    given = words.parse_args()
    if given.run:
        look(given.run)
        return
    started = time.monotonic()
    config = smoke()
    with tempfile.TemporaryDirectory() as folder, logs.to_console():
        manifest, files = plant(Path(folder) / "images", given.per_class, given.share, config)
        data = config.data.model_copy(update={"source": str(manifest), "test_fraction": 0.0})
        sweep = config.sweep.model_copy(update={"space": ()})
        changes = {"storage": folder, "name": "planted", "folds": FOLDS, "data": data, "sweep": sweep}
        run_stages(config.model_copy(update=changes), ("prepare", "sweep", "choose"))
        run = Run(folder, "planted")
        suspects = pd.read_csv(run.path(TRAIN, SUSPECT_FILES[1]))
        accuracy = run.read_json(TRAIN, "folds.json")["pooled"]["accuracy"]
    wrong = files[files["label"] != files["true"]].set_index("path")
    first = suspects.head(round(given.share * len(files)))
    hits = first["path"].isin(wrong.index)
    found = first[hits]
    right = (found["suggested"].to_numpy() == wrong.loc[found["path"], "true"].to_numpy()).mean()
    values = {
        "images": len(files),
        "wrong labels": len(wrong),
        "suspects": len(suspects),
        "looked at": len(first),
        "precision": float(hits.mean()),
        "recall": float(hits.sum() / len(wrong)),
        "recall of all suspects": float(suspects["path"].isin(wrong.index).sum() / len(wrong)),
        "suggested class right": float(right),
        "accuracy against the given labels": accuracy,
        "seconds": time.monotonic() - started,
    }
    print()
    for name, value in values.items():
        print(f"{name:35} {value if isinstance(value, int) else round(value, 4)}")
    print(json.dumps(values))


if __name__ == "__main__":
    main()
