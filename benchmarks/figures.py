"""Do intervals, thresholds and candidates hold what they say? Simulated sets of images whose truth is known.

Sets have the classes, numbers of slices and numbers of copies of a slice that validation had on the public
Kaggle set before copies were kept apart: 978 images of 640 slices, of which one is there eleven times. All
copies of a slice get the same probabilities. No image and no network is used. docs/RESULTS.md has figures of:

    python benchmarks/figures.py --draws 1000

Coverage: how often the 95 % interval holds the score of the whole population, of 200,000 images drawn the
same way. Wilson's interval over images, as earlier versions had it, stands beside that of the accuracy.
Exceeds: how often the true error of the answers is above `max_error`. Candidates: how often a new image's
class is among its candidates. Seconds: for all scores and intervals of 20 models on 1,000 images.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from brain_ray.scoring.calibration import calibrate
from brain_ray.scoring.conformal import candidate_floors, candidates
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.metrics import score
from brain_ray.scoring.risk import risk_threshold

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")

COPIES = {
    "glioma": {1: 224, 2: 18},
    "meningioma": {1: 68, 2: 59, 3: 22},
    "notumor": {1: 52, 2: 12, 3: 9, 4: 2, 5: 2, 6: 2, 9: 1, 10: 1, 11: 3},
    "pituitary": {1: 79, 2: 58, 3: 28},
}
"""For each class, how many of its slices are there how many times."""

POPULATION = 200_000
"""Slices whose scores are taken for the truth."""

ERRORS = ((0.01, 300), (0.01, 978), (0.01, 5000), (0.02, 300), (0.02, 978), (0.05, 300), (0.05, 978))
"""Allowed errors, and numbers of images of which thresholds are found."""


@dataclass(frozen=True)
class Images:
    """Simulated images: true class, calibrated probabilities of the classes, and slice of each."""

    labels: Ints
    chances: Floats
    slices: Ints


def draw(labels: Ints, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Draw for slices of some classes what a calibrated model says: most are clear, some are doubtful."""
    wide = np.where(rng.random(len(labels)) < 0.85, 9.0, 2.0)
    logits = rng.normal(0, 1.3, (len(labels), len(CLASSES)))
    logits[np.arange(len(labels)), labels] += 1.0
    logits *= (wide / 3)[:, np.newaxis]
    logits[np.arange(len(labels)), labels] += wide / 2
    return labels, calibrate(np.exp(logits - logits.max(axis=1, keepdims=True)) + 1e-12, 1.0)


def sets(draws: int, seed: int) -> Iterator[Images]:
    """Yield so many validation sets."""
    for k in range(draws):
        rng = np.random.default_rng([seed, k])
        labels = np.concatenate([np.full(sum(c.values()), i) for i, c in enumerate(COPIES.values())])
        sizes = np.concatenate([np.repeat(list(c), list(c.values())) for c in COPIES.values()])
        labels, chances = draw(labels, rng)
        place = np.repeat(np.arange(len(labels)), sizes)
        yield Images(labels[place], chances[place], place)


def truth(seed: int) -> Images:
    """Return the population: slices of all classes, as often as they are in the sets."""
    rng = np.random.default_rng([seed, 2**32 - 1])
    weights = np.array([sum(size * count for size, count in c.items()) for c in COPIES.values()], float)
    labels, chances = draw(rng.choice(len(CLASSES), POPULATION, p=weights / weights.sum()), rng)
    return Images(labels, chances, np.arange(POPULATION))


def scores_of(images: Images, resamples: int) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return scores and intervals by their dotted names."""
    found = score(
        images.labels, images.chances, CLASSES, groups=GroupBootstrap(images.slices, resamples)
    ).model_dump()
    values = {}
    for name in found["intervals"]:
        value = found
        for part in name.split("."):
            value = value[part]
        values[name] = value
    return values, found["intervals"]


def coverage(draws: int, resamples: int, seed: int) -> tuple[dict[str, float], float]:
    """Return the coverage of each score's interval, and of Wilson's of the accuracy over images."""
    known, _ = scores_of(truth(seed), 2)
    held: Counter[str] = Counter()
    wilson = 0
    for images in sets(draws, seed):
        _, intervals = scores_of(images, resamples)
        held.update(name for name, (low, high) in intervals.items() if low <= known[name] <= high)
        right = int((images.chances.argmax(axis=1) == images.labels).sum())
        low, high = binomtest(right, len(images.labels)).proportion_ci(0.95, "wilson")
        wilson += low <= known["accuracy"] <= high
    return {name: held[name] / draws for name in known}, wilson / draws


def confident(count: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw confidences of a calibrated model with an accuracy of 0.977, and whether it is right."""
    chance = np.where(
        rng.random(count) < 0.93, 1 - 0.006 * rng.random(count) ** 2, rng.uniform(0.4, 1, count)
    )
    return chance, rng.random(count) < chance


def risks(draws: int, seed: int) -> list[dict[str, float]]:
    """Return for each pair of `ERRORS` how often the answers are wrong more often than allowed."""
    chances = np.sort(confident(1_000_000, np.random.default_rng(seed))[0])[::-1]
    errors = np.cumsum(1 - chances) / np.arange(1, len(chances) + 1)
    rows = []
    for max_error, count in ERRORS:
        best = np.flatnonzero(errors <= max_error)
        exceeded, answered = 0, 0.0
        for k in range(draws):
            chance, right = confident(count, np.random.default_rng([seed, count, k]))
            found = risk_threshold(chance, right, np.arange(count), max_error, 0.95)
            given = int(np.searchsorted(-chances, -found.threshold, side="right"))
            exceeded += given > 0 and errors[given - 1] > max_error
            answered += given / len(chances)
        rows.append(
            {
                "max_error": max_error,
                "images": count,
                "exceeded": exceeded / draws,
                "answered": answered / draws,
                "possible": (best[-1] + 1) / len(chances) if len(best) else 0.0,
            }
        )
    return rows


def candidate_coverage(draws: int, sensitivity: float, seed: int) -> dict[str, float]:
    """Return how often the class of an image of the population is among its candidates, and their number."""
    population = truth(seed)
    held, number = np.zeros(len(CLASSES)), 0.0
    for images in sets(draws, seed):
        floors = candidate_floors(images.chances, images.labels, images.slices, [sensitivity] * len(CLASSES))
        found = candidates(population.chances, floors)
        inside = found[np.arange(POPULATION), population.labels]
        held += np.bincount(population.labels, inside) / np.bincount(population.labels)
        number += found.sum(axis=1).mean()
    return dict(zip(CLASSES, held / draws, strict=True)) | {"number": number / draws}


def seconds(models: int, seed: int) -> float:
    """Return the time that all scores of so many models on 1,000 images of 650 slices take."""
    rng = np.random.default_rng(seed)
    slices = rng.integers(650, size=1000)
    bootstrap = GroupBootstrap(slices)
    start = time.perf_counter()
    for _ in range(models):
        labels, chances = draw(rng.integers(len(CLASSES), size=1000), rng)
        score(labels, chances, CLASSES, calibrated=chances, groups=bootstrap)
    return time.perf_counter() - start


def main() -> None:
    """Print the tables and, as the last line, their numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--draws", type=int, default=200, help="number of simulated sets (200)")
    parser.add_argument("--resamples", type=int, default=1000, help="resamples of an interval (1000)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    took = seconds(20, args.seed)
    covered, wilson = coverage(args.draws, args.resamples, args.seed)
    print(f"{args.draws} simulated sets of 978 images of 640 slices\n")
    print("coverage of 95 % intervals")
    for name, share in sorted(covered.items(), key=lambda item: item[1]):
        print(f"  {name:32} {share:.3f}")
    print(f"  {'accuracy, Wilson over images':32} {wilson:.3f}\n")
    print("max_error  images  exceeded  answered  of possible")
    rows = risks(args.draws, args.seed)
    for row in rows:
        print(
            f"{row['max_error']:9.2f}  {row['images']:6.0f}  {row['exceeded']:8.3f}  {row['answered']:8.3f}  "
            f"{row['possible']:11.3f}"
        )
    found = candidate_coverage(min(args.draws, 200), 0.95, args.seed)
    print("\nsensitivity of candidates, 0.95 asked for")
    for name, share in found.items():
        print(f"  {'candidates of an image' if name == 'number' else name:32} {share:.3f}")
    print(f"\nall scores of 20 models on 1,000 images: {took:.1f} s")
    result = {
        "coverage": covered,
        "coverage_lowest": min(covered.values()),
        "coverage_highest": max(covered.values()),
        "coverage_wilson_over_images": wilson,
        "risk": rows,
        "exceeded_most": max(row["exceeded"] for row in rows),
        "candidates": found,
        "seconds_20_models": took,
        "draws": args.draws,
    }
    print(json.dumps({name: _rounded(value) for name, value in result.items()}))


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
