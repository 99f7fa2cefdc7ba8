"""Do intervals, thresholds and candidates hold what they say? Simulated sets of images whose truth is known.

Sets of copies are 640 slices, drawn at random like those that validation had on the public Kaggle set before
copies were kept apart: 978 images there, one slice eleven times. All copies of a slice get the same
probabilities. Sets of patients have the classes of figshare 1512427 and some 13 slices a patient; a patient
that is hard to tell is so in all slices. No image and no network is used. docs/RESULTS.md has figures of:

    python benchmarks/figures.py --draws 1000

Coverage: how often the 95 % interval holds the score of the whole population, of 200,000 images drawn the
same way; below and above: how often all of it is below or above that score. Wilson's interval over images, as
earlier versions had it, stands beside the accuracy's.
Exceeds: how often the true error of the answers is above `max_error`. Candidates: how often a new image's
class is among its candidates. Seconds: for all scores and intervals of 20 models on 1,000 images.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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

TUMOURS = CLASSES[:2] + CLASSES[3:]
PATIENTS = (0.38, 0.35, 0.27)
"""Share of each of these classes among patients (figshare 1512427: 89, 82 and 62 of 233)."""

SLICES = 13.0
"""Mean number of slices of a patient."""

NUMBERS = (233, 46)
"""Numbers of patients of a set: all of figshare 1512427, and one fold of five."""

POPULATION = 200_000
"""Slices whose scores are taken for the truth."""

ERRORS = ((0.01, 300), (0.01, 978), (0.01, 5000), (0.02, 300), (0.02, 978), (0.05, 300), (0.05, 978))
"""Allowed errors, and numbers of images of which thresholds are found."""

ERRORS_OF_PATIENTS = ((0.05, 233), (0.08, 233), (0.1, 233), (0.1, 46), (0.2, 46))
"""Allowed errors, and numbers of patients."""


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
    """Yield so many sets of slices and their copies."""
    known = np.concatenate([np.full(sum(c.values()), i) for i, c in enumerate(COPIES.values())])
    copies = np.concatenate([np.repeat(list(c), list(c.values())) for c in COPIES.values()])
    for k in range(draws):
        rng = np.random.default_rng([seed, k])
        drawn = rng.integers(len(known), size=len(known))
        labels, chances = draw(known[drawn], rng)
        place = np.repeat(np.arange(len(labels)), copies[drawn])
        yield Images(labels[place], chances[place], place)


def truth(seed: int) -> Images:
    """Return the population: slices of all classes, as often as they are in the sets."""
    rng = np.random.default_rng([seed, 2**32 - 1])
    weights = np.array([sum(size * count for size, count in c.items()) for c in COPIES.values()], float)
    labels, chances = draw(rng.choice(len(CLASSES), POPULATION, p=weights / weights.sum()), rng)
    return Images(labels, chances, np.arange(POPULATION))


def patients(number: int, rng: np.random.Generator) -> Images:
    """Draw so many patients, with one class each, and what a model says of their slices.

    Accuracy, and how errors of a patient's slices correlate, are near those of the cross-validation in
    docs/RESULTS.md (0.90 and 0.20); `describe_patients` tells them.
    """
    classes = rng.choice(len(TUMOURS), number, p=PATIENTS)
    sizes = 1 + rng.negative_binomial(2, 2 / (SLICES + 1), number)
    place = np.repeat(np.arange(number), sizes)
    labels = classes[place]
    logits = (
        rng.normal(0, 1.0, (len(labels), len(TUMOURS))) + rng.normal(0, 1.0, (number, len(TUMOURS)))[place]
    )
    logits[np.arange(len(labels)), labels] += 3.1
    chances = np.exp(1.5 * (logits - logits.max(axis=1, keepdims=True)))
    return Images(labels, chances / chances.sum(axis=1, keepdims=True), place)


def describe_patients(images: Images) -> dict[str, float]:
    """Return the accuracy of images, and the correlation of errors within a patient."""
    wrong = images.chances.argmax(axis=1) != images.labels
    sizes, errors, share = np.bincount(images.slices), np.bincount(images.slices, wrong), wrong.mean()
    within = ((errors - sizes * share) ** 2 - sizes * share * (1 - share)).sum()
    pairs = (sizes * (sizes - 1)).sum() * share * (1 - share)
    return {"accuracy": float(1 - share), "correlation_of_errors": float(within / pairs)}


def sets_of_patients(number: int, draws: int, seed: int) -> Iterator[Images]:
    """Yield so many sets of so many patients."""
    for k in range(draws):
        yield patients(number, np.random.default_rng([seed, number, k]))


def scores_of(
    images: Images, classes: tuple[str, ...], resamples: int
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return scores and intervals by their dotted names."""
    groups = GroupBootstrap(images.slices, resamples)
    found = score(images.labels, images.chances, classes, groups=groups).model_dump()
    values: dict[str, float] = {}
    for name in found["intervals"]:
        value: Any = found
        for part in name.split("."):
            value = value[part]
        values[name] = value
    return values, found["intervals"]


@dataclass(frozen=True)
class Coverage:
    """How often the interval of a score held the truth, or was all below or above it; shares of the sets."""

    held: float
    below: float
    above: float


def coverage(
    drawn: Iterator[Images], population: Images, classes: tuple[str, ...], resamples: int
) -> dict[str, Coverage]:
    """Return the coverage of each score's interval, and of Wilson's of the accuracy over images."""
    known, _ = scores_of(population, classes, 2)
    wilson = "accuracy, Wilson over images"
    known[wilson] = known["accuracy"]
    rows: dict[str, list[tuple[bool, bool]]] = {name: [] for name in known}
    for images in drawn:
        _, intervals = scores_of(images, classes, resamples)
        right = int((images.chances.argmax(axis=1) == images.labels).sum())
        found = binomtest(right, len(images.labels)).proportion_ci(0.95, "wilson")
        intervals[wilson] = found.low, found.high
        for name, true in known.items():
            low, high = intervals[name]
            rows[name].append((high < true, low > true))
    found = {}
    for name, each in rows.items():
        below, above = np.mean(each, axis=0).tolist()
        found[name] = Coverage(1 - below - above, below, above)
    return found


def print_coverage(title: str, rows: dict[str, Coverage]) -> None:
    """Print a table, the least coverage first."""
    print(f"{title:32}  coverage  below  above")
    for name, row in sorted(rows.items(), key=lambda item: item[1].held):
        print(f"  {name:30}  {row.held:8.3f}  {row.below:5.3f}  {row.above:5.3f}")
    print()


def confident(count: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw confidences of a calibrated model with an accuracy of 0.977, and whether it is right."""
    chance = np.where(
        rng.random(count) < 0.93, 1 - 0.006 * rng.random(count) ** 2, rng.uniform(0.4, 1, count)
    )
    return chance, rng.random(count) < chance


Answers = tuple[Floats, NDArray[np.bool_], Ints]
"""Confidence of each answer, whether it is right, and its group."""


def risks(draws: int, seed: int) -> list[dict[str, Any]]:
    """Return for each of `ERRORS` and `ERRORS_OF_PATIENTS` how often the answers are wrong too often."""
    chance, _ = confident(1_000_000, np.random.default_rng(seed))
    rows = []
    for max_error, count in ERRORS:

        def images(k: int, count: int = count) -> Answers:
            return *confident(count, np.random.default_rng([seed, count, k])), np.arange(count)

        rows.append(_risk(max_error, f"{count} images", chance, 1 - chance, draws, images))
    chance, right, _ = answers_of(patients(POPULATION // 10, np.random.default_rng([seed, 2**32 - 1])))
    for max_error, number in ERRORS_OF_PATIENTS:

        def slices(k: int, number: int = number) -> Answers:
            return answers_of(patients(number, np.random.default_rng([seed, number, k])))

        rows.append(
            _risk(max_error, f"{number} patients", chance, (~right).astype(np.float64), draws, slices)
        )
    return rows


def answers_of(images: Images) -> Answers:
    """Return the answers to images."""
    return images.chances.max(axis=1), images.chances.argmax(axis=1) == images.labels, images.slices


def _risk(
    max_error: float, of: str, chance: Floats, wrong: Floats, draws: int, drawn: Callable[[int], Answers]
) -> dict[str, Any]:
    """Return one row, given the confidence of the population's answers and their expected errors."""
    order = np.argsort(-chance)
    chance, errors = chance[order], np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    best = np.flatnonzero(errors <= max_error)
    given = []
    for k in range(draws):
        threshold = risk_threshold(*drawn(k), max_error, 0.95).threshold
        given.append(int(np.searchsorted(-chance, -threshold, side="right")))
    answered = np.array(given)
    return {
        "max_error": max_error,
        "of": of,
        "exceeded": float(((answered > 0) & (errors[answered - 1] > max_error)).mean()),
        "answered": float(answered.mean() / len(chance)),
        "possible": (int(best[-1]) + 1) / len(chance) if len(best) else 0.0,
        "never": float((answered == 0).mean()),
    }


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
    of_patients = patients(int(POPULATION / SLICES), np.random.default_rng([args.seed, 2**32 - 1]))
    shapes: list[tuple[str, Iterator[Images], Images, tuple[str, ...]]] = [
        ("640 slices with copies", sets(args.draws, args.seed), truth(args.seed), CLASSES)
    ]
    for number in NUMBERS:
        drawn = sets_of_patients(number, args.draws, args.seed)
        shapes.append((f"{number} patients", drawn, of_patients, TUMOURS))
    told = describe_patients(of_patients)
    print(
        f"patients: accuracy {told['accuracy']:.3f}, errors of one correlate by "
        f"{told['correlation_of_errors']:.3f}\n"
    )
    covered = {}
    for shape, drawn, population, classes in shapes:
        covered[shape] = coverage(drawn, population, classes, args.resamples)
        print_coverage(f"{args.draws} sets of {shape}", covered[shape])
    print("max_error  of            exceeded  answered  of possible  answers nothing")
    rows = risks(args.draws, args.seed)
    for row in rows:
        print(
            f"{row['max_error']:9.2f}  {row['of']:12}  {row['exceeded']:8.3f}  {row['answered']:8.3f}  "
            f"{row['possible']:11.3f}  {row['never']:15.3f}"
        )
    found = candidate_coverage(min(args.draws, 200), 0.95, args.seed)
    print("\nsensitivity of candidates, 0.95 asked for")
    for name, share in found.items():
        print(f"  {'candidates of an image' if name == 'number' else name:32} {share:.3f}")
    print(f"\nall scores of 20 models on 1,000 images: {took:.1f} s")
    result = {
        "coverage": {
            shape: {name: row.held for name, row in rows.items()} for shape, rows in covered.items()
        },
        "patients": told,
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
