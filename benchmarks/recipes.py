"""What does each change of a recipe do to out-of-fold answers? Each variant of a sweep against its first.

The first variant of `sweep.space` is the recipe as it is; each other one has something changed. All are
trained on the same folds of whole groups of patients and copies, so that the answers to each image are
compared in pairs, and intervals are over groups. They hold for these images and these trainings: one seed
says nothing on another, and what is within an interval of zero was not told apart. Reads what has finished;
trains nothing.

    python jobs/tune.py smoke --name recipes --folds 3 --sweep.scheduler none \\
        --sweep.space "train.mixup=grid(none, 0.2)"
    python benchmarks/recipes.py runs/recipes
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.runs import Run
from brain_ray.scoring.aggregation import Units
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.tuning.image_scores import score_images
from brain_ray.tuning.trial_store import read_sweep


def measure(run: Run) -> list[dict[str, Any]]:
    """Return for each finished variant its scores, and what they have more than those of the first."""
    config = Config.model_validate(run.read_json("config.json")["config"])
    sweep = read_sweep(run, config)
    of_trials, units = score_images(sweep), Units.of(sweep.labels, sweep.groups)
    of_images, of_units = GroupBootstrap(sweep.groups), GroupBootstrap(units.groups)
    rows: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    for one in sweep.trials:
        mine = of_trials.get(one.trial.id)
        if mine is None or one.probabilities is None or one.status != "finished":
            continue
        told = units.aggregate("log_mean", one.probabilities).argmax(axis=1)
        scores = {
            "accuracy": mine.right,
            "accuracy, patients": (told == units.labels).astype(np.float64),
            "log loss": mine.cross_entropy,
            "calibrated": mine.calibrated,
        }
        row: dict[str, Any] = {"variant": one.trial.variant, "changes": one.trial.changes}
        row["minutes"] = sum(epoch.seconds for epoch in one.history) / 60
        first = first or scores
        for name, values in scores.items():
            row |= with_gain(
                name, of_units if name == "accuracy, patients" else of_images, values, first[name]
            )
        rows.append(row)
    return rows


def with_gain(
    name: str, groups: GroupBootstrap, values: NDArray[Any], first: NDArray[Any]
) -> dict[str, tuple[float, float, float]]:
    """Return a score's mean over images (or patients) and what it has more than the first variant's, both
    with their 95 % intervals over groups."""
    mine = values.astype(np.float64)
    pooled, gain = groups.mean(mine), groups.mean(mine - first)
    return {
        name: (pooled.value, pooled.low, pooled.high),
        f"{name}, more": (gain.value, gain.low, gain.high),
    }


def main() -> None:
    """Print a line on each variant and, as the last line, all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", help="folder of the sweep over folds, such as runs/recipes")
    given = Path(parser.parse_args().run).resolve()
    run = Run(str(given.parent), given.name)
    rows = measure(run)
    if not rows:
        raise SystemExit(f"{run.uri()} has no variant that is trained on all folds: let jobs/tune.py go on")
    usual = rows[0]["changes"]
    more = f"{'more than the first':>34}"
    print(f"{'images':>8}{more}{'patients':>10}{more}{'log loss':>10}  more")
    for row in rows:
        cells = []
        for name in ("accuracy", "accuracy, patients"):
            gain, low, high = (100 * value for value in row[f"{name}, more"])
            cells.append(f"{row[name][0]:8.4f}{f'{gain:+.2f} ({low:+.2f} to {high:+.2f}) points':>34}  ")
        lost, low, high = row["calibrated, more"]
        changed = [f"{name.removeprefix('train.')} {value}" for name, value in row["changes"].items()]
        kept = [f"{name.removeprefix('train.')} {value}" for name, value in usual.items()]
        words = ", ".join(word for word in changed if word not in kept) or "as it is"
        print(
            f"{''.join(cells)}{row['calibrated'][0]:8.4f}  {lost:+.4f} ({low:+.4f} to {high:+.4f})  {words}"
        )
    print(json.dumps({"variants": rows}))


if __name__ == "__main__":
    main()
