"""The rule by which a sweep chooses, on simulated trials: how often it tells equal models apart, and by what.

Answers are drawn, nothing is trained. Two models are equally good: an image is as hard for both, and what
each makes of it varies by image, by seed and by both. Each image is there once, twice or four times; copies
get the same answer and are one group. They are told apart if the 95 % interval of their difference leaves out
0: right is 5 % of the draws. Last, models that are far worse are added to a pair of which either may be
chosen, and a model with a lucky first repeat loses its second one.

    python benchmarks/choice.py [--draws 1000]
"""

import argparse
import json
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brain_ray.comparison.compare import compare
from brain_ray.comparison.cost import Cost
from brain_ray.comparison.results import Comparison
from brain_ray.config import Config, ModelConfig, SweepConfig
from brain_ray.tracking.history import EpochRecord
from brain_ray.tuning.trials import Status, SweepRecord, Trial, TrialRecord

IMAGES, CLASSES, SEEDS = 400, 4, 2
SHARPNESS, SEED_SD = 3.0, 0.1
"""Of the logit of the true class: its mean, and by how much it varies between seeds."""


def answers(
    truth: NDArray[np.int64], sharpness: float, image: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw a repeat's probabilities, (slices, classes); `image`: what its model makes of each slice."""
    logits = image + 0.4 * rng.normal(size=image.shape)
    logits[np.arange(len(truth)), truth] += sharpness + SEED_SD * rng.normal()
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)


def record_of(
    number: int, variant: int, repeat: int, chances: NDArray[np.float32], status: Status = "finished"
) -> TrialRecord:
    """Make a trial's record; its size tells its model."""
    side = 64 + 16 * variant
    config = Config(model=ModelConfig(backbone="tiny", weights="none", height=side, width=side))
    values = {"loss": 0.5, "accuracy": 0.9, "val_loss": 0.5, "val_cross_entropy": 0.5, "val_accuracy": 0.9}
    values |= {"learning_rate": 1e-3, "seconds": 1.0, "images_per_second": 1.0, "cross_entropy": 0.5}
    epoch = EpochRecord(epoch=1, best=True, rolled_back=False, input_wait=0.0, **values)
    trial = Trial(f"{number:03d}", variant, repeat, {"model.height": side}, config)
    return TrialRecord(trial, status, (epoch,), chances)


def sweep_of(
    sharpness: Sequence[float], copies: int, seed: int, stopped: Sequence[int] = (), margin: float = 0.1
) -> tuple[SweepRecord, dict[str, Cost]]:
    """Draw a sweep of models of some sharpness, the later ones faster; `stopped`: trials, by their number."""
    rng = np.random.default_rng(seed)
    slices = IMAGES // copies
    truth = rng.integers(CLASSES, size=slices)
    hard = rng.normal(size=(slices, CLASSES))
    records = []
    for variant, sharp in enumerate(sharpness):
        own = np.random.default_rng([seed, variant])
        image = hard + 0.5 * own.normal(size=hard.shape)
        for repeat in range(SEEDS):
            number = len(records)
            chances = np.repeat(answers(truth, sharp, image, own), copies, axis=0)
            status: Status = "stopped" if number in stopped else "finished"
            records.append(record_of(number, variant, repeat, chances, status))
    labels, groups = np.repeat(truth, copies), np.repeat(np.arange(slices), copies)
    costs = {one.trial.model: Cost(1, 1.0, 100.0 - one.trial.variant, 1.0) for one in records}
    config = Config(sweep=SweepConfig(seeds=SEEDS, bootstrap=500, margin=margin))
    return SweepRecord(config, tuple(records), labels, groups), costs


def told_apart(draws: int, copies: int) -> float:
    """Return the share of draws in which two equal models are told apart."""
    found = 0
    for seed in range(draws):
        comparison = compare(*sweep_of([SHARPNESS] * 2, copies, seed))
        found += not comparison.pairs[0].within_noise
    return found / draws


def pair_of(comparison: Comparison) -> tuple[str, list[tuple[float, float]]]:
    """Return the chosen trial, and the intervals of the first three models' deficits."""
    names = {row.model: row.trial for row in comparison.rows if row.variant < 3}
    models = sorted((model for model in comparison.models if model.model in names), key=lambda m: m.model)
    return comparison.winner, [(m.deficit.low, m.deficit.high) for m in models if m.deficit]


def unchanged(draws: int) -> tuple[int, int]:
    """Return in how many draws 8 and 20 bad models change nothing, and in how many not the best is chosen."""
    same, faster = 0, 0
    for seed in range(draws):
        found = []
        for bad in (0, 8, 20):
            record, costs = sweep_of([SHARPNESS] * 3 + [0.3] * bad, 2, seed, margin=0.5)
            comparison = compare(record, costs)
            found.append(pair_of(comparison))
        same += found[0] == found[1] == found[2]
        faster += comparison.chosen.model != comparison.best
    return same, faster


def survivors(draws: int) -> int:
    """Return how often a model with a stopped repeat is compared, whose other one is the best of all."""
    wins = 0
    for seed in range(draws):
        # Of three equal models the last one's second repeat, trial 005, was stopped.
        comparison = compare(*sweep_of([SHARPNESS, SHARPNESS, SHARPNESS + 1], 2, seed, stopped=[5]))
        lost = next(model for model in comparison.models if model.variant == 2)
        wins += lost.contender or lost.chosen
    return wins


def seconds_of_twenty() -> float:
    """Return the CPU seconds of a comparison of 20 models with two repeats each on 1,000 images."""
    rng = np.random.default_rng(0)
    truth, hard = rng.integers(CLASSES, size=1000), rng.normal(size=(1000, CLASSES))
    records = [
        record_of(2 * v + r, v, r, answers(truth, SHARPNESS + 0.02 * v, hard, rng))
        for v in range(20)
        for r in range(2)
    ]
    config = Config(sweep=SweepConfig(seeds=SEEDS))
    started = time.process_time()
    compare(SweepRecord(config, tuple(records), truth, np.arange(1000) // 2), {})
    return time.process_time() - started


def main() -> None:
    """Print a table, and its numbers as one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=100, help="draws for each number of copies")
    draws = parser.parse_args().draws
    numbers: dict[str, float] = {"draws": draws}
    print(f"{'equal models, 2 seeds each':44}told apart", flush=True)
    for copies in (1, 2, 4):
        share = told_apart(draws, copies)
        numbers[f"told_apart_{copies}"] = share
        print(
            f"  each image {copies} time{'s' if copies > 1 else ' '}{'':29}{100 * share:5.1f} %", flush=True
        )
    few = max(2, draws // 20)
    numbers["unchanged"], numbers["not_the_best_chosen"] = unchanged(few)
    print(f"{'0, 8 and 20 bad models: choice and intervals equal':52}{numbers['unchanged']} of {few}")
    print(f"{'  in these, a faster model than the best chosen':52}{numbers['not_the_best_chosen']} of {few}")
    numbers["bad_draws"], numbers["survivors_compared"] = few, survivors(few)
    print(f"{'a model without one repeat compared':52}{numbers['survivors_compared']} of {few}")
    numbers["cpu_seconds_20_models"] = round(seconds_of_twenty(), 1)
    print(f"{'20 models, 2 seeds, 1,000 images':52}{numbers['cpu_seconds_20_models']} s of CPU")
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
