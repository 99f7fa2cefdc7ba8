"""How many copies does the audit find, how many does it invent, and what does it cost?

Changes real or drawn images and looks for each among all images, with the functions that preparation uses.
FOLDER is searched for images at any depth; without one, phantoms are drawn. Ranges are tried at their ends: a
shift of 3 % goes that far both ways. About five minutes on two cores with 3,064 images:

    python benchmarks/audit.py ../shared/data/figshare/images --patients ../shared/data/figshare/patients.csv

With --augmented, also looks for siblings among files named aug_<source>_0_<number>, as the public set
MohamedAliHabib/Brain-Tumor-Detection holds them. With --patients, a CSV file with the columns file, relative
to its folder, and person, the stages of the search are counted on pairs of different patients.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from audit_changes import CHANGES, FRAMES, Change, Grey, augmented
from folders import image_files
from numpy.typing import NDArray

from brain_ray.config import CropConfig, DataConfig
from brain_ray.data.copies.candidates import NUM_VIEWS, Candidates, Index, index, search
from brain_ray.data.copies.clusters import cluster
from brain_ray.data.copies.head_view import view_twice
from brain_ray.data.copies.verification import Pairs, verify
from brain_ray.data.copies.whitening import Whitening, moments, whitening
from brain_ray.data.decoding import decode
from brain_ray.data.phantoms.files import draw
from brain_ray.data.transforms import Box, find_box

Views = NDArray[np.uint8]

COUNT = 300
"""Images that are changed, spread evenly over all."""

DRAWN = 600
"""Phantoms that are drawn if there is no folder."""

THRESHOLD = DataConfig().copy_similarity

CROP = CropConfig()


SIBLINGS = 6
"""Augmented images that are made of each of a fifth of the changed ones."""


@dataclass(frozen=True)
class Found:
    """Copies among pairs of images, by positions, and what the search cost."""

    pairs: Pairs
    candidates: Candidates
    search_s: float
    verify_s: float

    @property
    def copies(self) -> set[tuple[int, int]]:
        """Return the pairs that reach the threshold."""
        kept = self.pairs.similarity >= THRESHOLD
        return set(zip(self.pairs.a[kept].tolist(), self.pairs.b[kept].tolist(), strict=True))


def views_of(images: Iterable[Grey], crop: CropConfig = CROP) -> Views:
    """Return the two views of each image, (n, 2, 64, 64)."""
    return np.stack([view_twice(image, find_box(image, crop) or Box.whole(image))[0] for image in images])


def whitened(own: Index, white: Whitening) -> Index:
    """Return an index with whitened embeddings."""
    return Index(white.apply(own.embeddings), own.packed)


def look(
    views: Views,
    white: Whitening | None = None,
    other: Views | None = None,
    threshold: float = THRESHOLD,
) -> Found:
    """Search pairs within images, or, with others, between the two, whose positions follow.

    Without a whitening, that of the images is used, as in preparation.
    """
    own = index(views)
    white = white or whitening([moments(own.embeddings)])
    second = whitened(index(other), white) if other is not None else None
    started = time.process_time()
    candidates = search(whitened(own, white), second, white.floor)
    searched = time.process_time()
    if other is not None:
        candidates["b"] += len(views)
        views = np.concatenate([views, other])
    pairs = verify(views, candidates, threshold)
    return Found(pairs, candidates, searched - started, time.process_time() - searched)


def load(folder: str | None) -> list[Grey]:
    """Return the images of a folder, or phantoms of the four classes in turn."""
    if folder is None:
        drawn = [draw(DataConfig().classes[i % 4], 11, i) for i in range(DRAWN)]
        return [np.ascontiguousarray(image if image.ndim == 2 else image[..., 0]) for image in drawn]
    return [decode(path.read_bytes()) for path in image_files(Path(folder).resolve())]


def plant(
    originals: Views, images: list[Grey], change: Change, seed: int, white: Whitening
) -> tuple[float, float]:
    """Look for changed copies of images; return the share found and the share of near misses."""
    changed = views_of(change(image, np.random.default_rng([seed, k])) for k, image in enumerate(images))
    found = look(originals, white, changed)
    count = len(images)
    own = found.pairs.b == found.pairs.a + count
    copies = own & (found.pairs.similarity >= THRESHOLD)
    return float(copies.sum()) / count, float((own & ~copies).sum()) / count


def siblings_found(views: Views, source: NDArray[np.int64]) -> dict[str, float]:
    """Return which shares of siblings, of equal sources, are found: of pairs, of pairs joined by clusters,
    and of images that have a sibling elsewhere if a sixth of the images is drawn for a test."""
    copies = look(views).copies
    a, b = np.array(sorted(copies), np.int64).reshape(-1, 2).T
    joined = cluster(len(source), a, b)
    i, j = np.triu_indices(len(source), 1)
    siblings = source[i] == source[j]
    test = np.random.default_rng(1).random(len(source)) < 1 / 6
    across = siblings & (test[i] != test[j])
    tested = set(np.where(test[i], i, j)[across].tolist())
    listed = {
        k for pair in zip(i[across].tolist(), j[across].tolist(), strict=True) if pair in copies for k in pair
    }
    return {
        "pairs": sum(pair in copies for pair in zip(i[siblings].tolist(), j[siblings].tolist(), strict=True))
        / siblings.sum(),
        "joined by clusters": float((joined[i] == joined[j])[siblings].mean()),
        "test images with one in training": len(tested & listed) / len(tested),
    }


def count_stages(
    views: Views, own: Index, floor: float, candidates: Candidates, patients: NDArray[np.int64]
) -> dict[str, float]:
    """Return which shares of the pairs of different patients reach each stage of the search.

    own: the whitened index of the views; candidates: all that the search found in it.
    """
    count, hits = len(views), 0
    for k in range(0, count, 512):
        alike = np.zeros((min(512, count - k), count), bool)
        for view in range(NUM_VIEWS):
            alike |= own.embeddings[k : k + 512, view] @ own.embeddings[:, view].T >= floor
        alike &= patients[k : k + 512, None] != patients
        hits += int(np.triu(alike, k + 1).sum())
    candidates = candidates[patients[candidates["a"]] != patients[candidates["b"]]]
    pairs = verify(views, candidates, THRESHOLD)
    sizes = np.unique(patients, return_counts=True)[1]
    total = (count * (count - 1) - (sizes * (sizes - 1)).sum()) / 2
    return {
        "spectra compared": hits / total,
        "views compared": len(candidates) / total,
        "aligned": pairs.num_aligned / total,
        "called copies": float((pairs.similarity >= THRESHOLD).sum() / total),
    }


def read_patients(folder: str, file: str) -> NDArray[np.int64]:
    """Return the number of the patient of each image that `load` finds in a folder."""
    table = pd.read_csv(file).set_index("file")["person"]
    names = [
        path.relative_to(Path(file).parent.resolve()).as_posix()
        for path in image_files(Path(folder).resolve())
    ]
    return np.unique(table[names], return_inverse=True)[1].astype(np.int64)


def main(folder: str | None, augmented_folder: str | None, patients_file: str | None) -> None:
    """Print a table; last, the figures as JSON."""
    started = time.process_time()
    images = load(folder)
    if len(images) < 2:
        sys.exit(f"error: no .jpg or .png below {folder}")
    read = time.process_time()
    views = views_of(images)
    viewed = time.process_time()
    own = index(views)
    indexed = time.process_time()
    white = whitening([moments(own.embeddings)])
    every = look(views, white)
    count, num_pairs = len(images), len(images) * (len(images) - 1) / 2
    chosen = np.unique(np.linspace(0, count - 1, COUNT).round().astype(int))
    originals, few = views[chosen], [images[k] for k in chosen]
    print(f"{len(few)} of {count} images, each changed; a copy is found from a similarity of {THRESHOLD} on")
    print(f"{'':44}{'found':>9}{'near miss':>12}")
    shares: dict[str, dict[str, float]] = {}
    for kind, changes in CHANGES.items():
        shares[kind] = {}
        for seed, (name, change) in enumerate(changes.items()):
            share, near = plant(originals, few, change, seed, white)
            shares[kind][name] = round(share, 4)
            print(f"{name:44}{share:9.1%}{near:12.1%}", flush=True)
        print(f"  least of: {kind}: {min(shares[kind].values()):.1%}")
    siblings = {"made of these": _make_siblings(few)}
    if augmented_folder:
        siblings["of a folder"] = _read_siblings(Path(augmented_folder))
    for name, found in siblings.items():
        told = ", ".join(f"{what} {share:.1%}" for what, share in found.items())
        print(f"siblings by augmentation, {name}: {told}")
    invented = {"as they are": (len(every.copies), num_pairs)}
    for name, change in FRAMES.items():
        inside = views_of(change(image, np.random.default_rng(0)) for image in few)
        invented[name] = (len(look(inside, white).copies), len(few) * (len(few) - 1) / 2)
    for name, (pairs, total) in invented.items():
        print(f"pairs of images called copies, {name}: {pairs} of {total:.0f} ({pairs / total:.1e})")
    patients = read_patients(folder, patients_file) if folder and patients_file else np.arange(count)
    stages = count_stages(views, whitened(own, white), white.floor, every.candidates, patients)
    whose = "of different patients" if patients_file else "of images"
    print(f"pairs {whose}: " + ", ".join(f"{name} {share:.1e}" for name, share in stages.items()))
    cost = {
        "read_ms": 1e3 * (read - started) / count,
        "views_ms": 1e3 * (viewed - read) / count,
        "index_ms": 1e3 * (indexed - viewed) / count,
        "search_ns_per_pair": 1e9 * every.search_s / num_pairs,
        "verify_ms_per_candidate": 1e3 * every.verify_s / max(1, len(every.candidates)),
    }
    print("CPU: " + ", ".join(f"{name} {value:.2f}" for name, value in cost.items()))
    found = {
        "found": {kind: min(of.values()) for kind, of in shares.items()},
        "by_change": shares,
        "siblings": siblings,
        "called_copies": {name: pairs / total for name, (pairs, total) in invented.items()},
        "stages": stages,
        "cost": {name: round(value, 3) for name, value in cost.items()},
        "images": [len(few), count],
    }
    print(json.dumps(found))


def _make_siblings(images: list[Grey]) -> dict[str, float]:
    some = images[::5]
    made = [
        augmented(image, np.random.default_rng([k, n]))
        for k, image in enumerate(some)
        for n in range(SIBLINGS)
    ]
    return siblings_found(views_of(made), np.repeat(np.arange(len(some)), SIBLINGS))


def _read_siblings(folder: Path) -> dict[str, float]:
    files = sorted(path for path in folder.rglob("*") if re.search(r"_0_\d+\.\w+$", path.name))
    names = [re.sub(r"_0_\d+\.\w+$", "", path.name) for path in files]
    views = views_of(decode(path.read_bytes()) for path in files)
    return siblings_found(views, np.unique(names, return_inverse=True)[1].astype(np.int64))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--augmented")
    parser.add_argument("--patients")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.augmented, arguments.patients)
