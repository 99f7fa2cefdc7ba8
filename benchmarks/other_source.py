"""Are tumours of another source recognised? One source is left out of training, and its images are answered.

Of a folder whose images the registry of known sets recognises in part, `write` makes a manifest of two
sources: the known set's images, and the others. Of a class of which nothing is known (`notumor` of the public
set), half of the groups, drawn, stand on either side: who made these images cannot be told, so that only the
tumours are of another source. `score` reads a sweep that left one source out, and compares its variants with
the first:

    python jobs/prepare.py b0 --name known --data.source FOLDER
    python benchmarks/other_source.py write runs/known sources.csv
    python jobs/tune.py b0 --name other --folds each_source --train.fold 2 --data.source sources.csv \\
        --data.root FOLDER --data.test-fraction 0 --data.conflicts keep --sweep.scheduler none \\
        --sweep.space "train.augment.invert=grid(0, 0.5)"
    python benchmarks/other_source.py score runs/other
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recipes import with_gain

from brain_ray.config import Config
from brain_ray.data.dataset import group_column, read_table
from brain_ray.runs import DATASET_MANIFEST, Run
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.tuning.trial_store import read_sweep

CONFIDENT = 0.9
"""Probability from which on an answer counts as confident; not calibrated."""


def part_sources(manifest: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return path, label and source of the images of a prepared folder.

    Args:
        manifest: with path, class_name, split, group, and known_set ("" where an image is not recognised).
        seed: seed of the draw of groups of classes of which no image is known.
    """
    images = manifest[manifest["split"] != "rejected"].drop_duplicates("path")
    known = images["known_set"].fillna("")
    names = sorted(set(known) - {""})
    if len(names) != 1:
        raise SystemExit(f"expected images of one known set beside others, found {names or 'none'}")
    source = known.where(known != "", "other")
    told = known.ne("").groupby(images["class_name"]).transform("any")
    groups = images.loc[~told, "group"].unique()
    drawn = np.random.default_rng(seed).permutation(groups)[: len(groups) // 2]
    source[~told & images["group"].isin(drawn)] = names[0]
    return pd.DataFrame({"path": images["path"], "label": images["class_name"], "source": source})


def measure(run: Run) -> list[dict[str, Any]]:
    """Return for each finished variant its scores on the source that was left out, with 95 % intervals over
    groups, and what they have more than those of the first variant."""
    config = Config.model_validate(run.read_json("config.json")["config"])
    sweep = read_sweep(run, config)
    none = config.data.classes.index("notumor")
    tumours, bootstrap = sweep.labels != none, GroupBootstrap(sweep.groups)
    of_tumours, of_others = GroupBootstrap(sweep.groups[tumours]), GroupBootstrap(sweep.groups[~tumours])
    rows: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    for one in sweep.trials:
        if one.probabilities is None or one.status != "finished":
            continue
        probabilities = np.asarray(one.probabilities, np.float64)
        taken = probabilities.argmax(axis=1)
        right, confident = taken == sweep.labels, probabilities.max(axis=1) >= CONFIDENT
        scores = {
            "accuracy": (bootstrap, right),
            "tumours, class right": (of_tumours, right[tumours]),
            "tumours, called a tumour": (of_tumours, (taken != none)[tumours]),
            "no tumour, right": (of_others, right[~tumours]),
        }
        row: dict[str, Any] = {"variant": one.trial.variant, "changes": one.trial.changes}
        for name, among in (("confident", confident), ("tumours, confident", confident & tumours)):
            row[name] = float(among.sum() / (tumours.sum() if name.startswith("tumours") else len(among)))
            row[f"{name}, wrong"] = float((~right[among]).mean()) if among.any() else None
        missed = confident & tumours & (taken == none)
        row["tumours, confident, called none"] = float(missed.sum() / max(1, (confident & tumours).sum()))
        first = first or {name: values for name, (_, values) in scores.items()}
        for name, (groups, values) in scores.items():
            row |= with_gain(name, groups, values, first[name])
        rows.append(row)
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a line on each variant: its scores, in points what they have more than the first's, and of
    confident answers their share and the share of them that are wrong."""
    names = ("tumours, class right", "tumours, called a tumour", "no tumour, right")
    print("".join(f"{name:>38}" for name in names) + f"{'confident, wrong: all':>24}{'tumours':>16}")
    for row in rows:
        cells = []
        for name in names:
            gain, low, high = (100 * value for value in row[f"{name}, more"])
            cells.append(f"{row[name][0]:.3f} {f'{gain:+.1f} ({low:+.1f} to {high:+.1f})':>24}")
        told = []
        for name in ("confident", "tumours, confident"):
            wrong = row[f"{name}, wrong"]
            told.append(f"{row[name]:.3f}, {'-' if wrong is None else f'{wrong:.3f}'}")
        changed = ", ".join(
            f"{name.removeprefix('train.')} {value}" for name, value in row["changes"].items()
        )
        print("".join(f"{cell:>38}" for cell in cells) + f"{told[0]:>24}{told[1]:>16}  {changed}")


def main() -> None:
    """Write a manifest, or print a table and, as the last line, all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ways = parser.add_subparsers(dest="way", required=True)
    writing = ways.add_parser("write", help="write the manifest of two sources")
    writing.add_argument("run", help="folder of a run with a prepared data set")
    writing.add_argument("csv", help="manifest to write")
    ways.add_parser("score", help="score a sweep that left a source out").add_argument("run")
    words = parser.parse_args()
    given = Path(words.run).resolve()
    run = Run(str(given.parent), given.name)
    if words.way == "write":
        manifest = read_table(run, *DATASET_MANIFEST)
        listed = part_sources(manifest.assign(group=group_column(manifest)))
        listed.to_csv(words.csv, index=False)
        print(pd.crosstab(listed["source"], listed["label"]).to_string())
        counts = listed.groupby(["source", "label"]).size()
        print(json.dumps({f"{source}, {label}": int(n) for (source, label), n in counts.items()}))
        return
    rows = measure(run)
    if not rows:
        raise SystemExit(f"{run.uri()} has no variant that is trained to its end: let jobs/tune.py go on")
    print_table(rows)
    print(json.dumps({"variants": rows}))


if __name__ == "__main__":
    main()
