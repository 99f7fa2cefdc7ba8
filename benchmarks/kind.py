"""How many of the images that look like CT does preparation flag, and how many others?

FOLDER is the public set masoudnickparvar/brain-tumor-mri-dataset, or a part of it. kind_labels.csv names the
images of it that look like CT by eye (of 6035: all 1692 of notumor were looked at, the 184 with tumours that
are not of figshare 1512427, and 189 of the 4159 that are, which are T1-weighted MR by their source). All
others count as MR. Nobody who judged is a radiologist.

Copies of one slice are one cluster, flagged if half of it is. Clusters are halved by a hash of their first
image's name: thresholds are chosen on one half, by F1, and tried on the other. A minute on two cores:

    python benchmarks/kind.py ../shared/data/brain-mri
"""

import argparse
import csv
import json
import time
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np
from audit import look, views_of
from numpy.typing import NDArray

from brain_ray.data import kind
from brain_ray.data.copies.clusters import cluster
from brain_ray.data.copies.head_view import find_outline
from brain_ray.data.decoding import decode
from brain_ray.data.kind import Rim, measure_rim
from brain_ray.data.transforms import shrink

LABELS = Path(__file__).with_name("kind_labels.csv")

SHIPPED = (kind.EVENNESS, kind.INSIDE, kind.GAP)

GRIDS = (np.arange(70, 100) / 100, np.arange(30, 85, 5) / 100, np.arange(0, 95, 5) / 100)
"""Thresholds that are tried for the evenness, the inside and the gap."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Clusters:
    """Clusters of copies: that of each file, which look like CT, and on which thresholds are chosen."""

    of_file: NDArray[np.int64]
    is_ct: Bools
    chosen_on: Bools

    def flagged(self, files: Bools) -> Bools:
        """Return which clusters are flagged, by which of the files are."""
        return np.bincount(self.of_file, files) >= np.bincount(self.of_file) / 2


def read_labels() -> dict[str, str]:
    """Return what the images that do not look like MR look like, by their paths."""
    with LABELS.open(newline="") as file:
        return {row["path"]: row["looks_like"] for row in csv.DictReader(file)}


def flag(rims: NDArray[np.float64], thresholds: tuple[float, float, float]) -> Bools:
    """Return which images are flagged, given evenness, inside and gap of each, (n, 3)."""
    evenness, inside, gap = thresholds
    flagged: Bools = (rims[:, 0] >= evenness) & (rims[:, 1] < inside) & (rims[:, 2] > gap)
    return flagged


def scores(flagged: Bools, is_ct: Bools) -> dict[str, float | None]:
    """Return counts of right and wrong flags, precision and recall (None: of nothing)."""
    right, wrong = int((flagged & is_ct).sum()), int((flagged & ~is_ct).sum())
    missed = int((~flagged & is_ct).sum())
    return {
        "ct": right + missed,
        "others": int((~is_ct).sum()),
        "right": right,
        "wrong": wrong,
        "missed": missed,
        "precision": round(right / (right + wrong), 3) if right + wrong else None,
        "recall": round(right / (right + missed), 3) if right + missed else None,
    }


def choose(rims: NDArray[np.float64], clusters: Clusters, half: Bools) -> tuple[float, float, float]:
    """Return the thresholds with the best F1 on the clusters of a half; of equals, the middle ones."""
    tried = list(product(*GRIDS))
    f1 = []
    for thresholds in tried:
        flagged = clusters.flagged(flag(rims, thresholds)) & half
        both = (flagged & clusters.is_ct).sum()
        f1.append(2 * both / max(1, flagged.sum() + (clusters.is_ct & half).sum()))
    best = np.array(tried)[np.array(f1) >= max(f1)]
    middle = best[np.abs((best - np.median(best, axis=0)) / (0.01, 0.05, 0.05)).sum(axis=1).argmin()]
    return float(middle[0]), float(middle[1]), float(middle[2])


def main(folder: Path, side: int | None) -> None:
    """Print the figures of images, shrunk to a side if one is given; last, the same as JSON."""
    paths = sorted(folder.rglob("*.jpg"))
    names = [path.relative_to(folder).as_posix() for path in paths]
    labels = read_labels()
    if missing := sorted(set(labels) - set(names)):
        raise SystemExit(
            f"{folder} lacks {len(missing)} of {len(labels)} labelled images, such as {missing[0]}"
        )
    whole = [decode(path.read_bytes()) for path in paths]
    images = whole if side is None else [shrink(image, side) for image in whole]
    outlines = [find_outline(image)[0] for image in images]
    started = time.process_time()
    measured = [measure_rim(image, outline) for image, outline in zip(images, outlines, strict=True)]
    milliseconds = 1000 * (time.process_time() - started) / len(images)
    rims = np.array([(rim.evenness, rim.inside, rim.gap) for rim in measured])
    is_ct = np.array([labels.get(name) == "CT" for name in names])
    a, b = np.array(sorted(look(views_of(whole)).copies), np.int64).reshape(-1, 2).T
    _, first, of_file = np.unique(cluster(len(names), a, b), return_index=True, return_inverse=True)
    even = np.array([int(sha256(names[k].encode()).hexdigest(), 16) % 2 == 0 for k in first])
    clusters = Clusters(of_file, np.bincount(of_file, is_ct) > 0, even)
    mixed = int((np.bincount(of_file, ~is_ct)[clusters.is_ct] > 0).sum())
    print(f"{len(names)} images, {len(first)} clusters; {mixed} of the clusters with CT hold others too")
    chosen = choose(rims, clusters, even)
    found: dict[str, dict[str, float | None]] = {}
    for title, thresholds in (("chosen on the first half", chosen), ("of the package", SHIPPED)):
        flagged = clusters.flagged(flag(rims, thresholds))
        for half, part in (("first half", even), ("other half", ~even)):
            found[f"{title}, {half}"] = scores(flagged[part], clusters.is_ct[part])
    flags = np.array([kind.looks_like(Rim(*rim)) == kind.CT for rim in rims.tolist()])
    for title, files in [("all", np.full(len(names), True))] + [
        (name, np.array([f"/{name}/" in path for path in names]))
        for name in sorted({path.split("/")[1] for path in names})
    ]:
        found[f"files, {title}"] = scores(flags[files], is_ct[files])
    for title, counts in found.items():
        print(f"{title}: " + ", ".join(f"{name} {value}" for name, value in counts.items()))
    print(
        "flagged, not CT by eye: "
        + ", ".join(n for n, f, c in zip(names, flags, is_ct, strict=True) if f > c)
    )
    print(
        "CT by eye, not flagged: "
        + ", ".join(n for n, f, c in zip(names, flags, is_ct, strict=True) if c > f)
    )
    print(f"thresholds chosen: {chosen}; {milliseconds:.2f} ms an image")
    print(json.dumps({"thresholds": chosen, "ms_per_image": round(milliseconds, 3), "scores": found}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--side", type=int, help="longer side in pixels to which images are shrunk")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.side)
