"""A sweep against the plain way: what a trial costs beside its training, and what ASHA saves.

First, four trials one after the other, of a tiny network on phantoms, as brain_ray runs them and as Ray's
documentation has it: a function of Ray Tune's in which each trial starts Ray Train with one worker. What is
not an epoch is overhead: starting processes, importing TensorFlow, building the network, writing results.
Then nine learning rates, two trials at a time, to the end, and with ASHA as it is by default. Device time is
that for which trials hold their CPUs; the winner is the rate with the lowest validation cross-entropy. Seven
minutes on two cores.

    python benchmarks/sweep.py
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from ray import tune

from brain_ray.cluster import connection
from brain_ray.config import Config, DataConfig, ModelConfig, PhantomConfig, SweepConfig, TrainConfig
from brain_ray.data.prepare import prepare
from brain_ray.runs import Run
from brain_ray.tracking.history import read_history
from brain_ray.training.framework import framework_of
from brain_ray.training.sources import find_sources, open_dataset
from brain_ray.training.trainer import run_training
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.trial_store import read_trials
from brain_ray.tuning.trials import TrialRecord
from brain_ray.tuning.tune import TUNE_ENVIRONMENT
from brain_ray.tuning.tune import tune as train_trials

SIDE, BATCH = 96, 16
TRIALS = 4
RATES = "1e-05, 0.03, 0.0001, 0.002, 1e-06, 0.3, 3e-05, 3e-06, 3"
"""Apart enough that the best one is no matter of chance."""


def config_of(folder: Path, rates: str, epochs: int, **changes: Any) -> Config:
    """Return the settings of a sweep over learning rates."""
    return Config(
        storage=str(folder),
        name="run",
        data=DataConfig(phantoms=PhantomConfig(train_per_class=240, test_per_class=1)),
        model=ModelConfig(backbone="tiny", weights="none", height=SIDE, width=SIDE, bn_momentum=0.9),
        train=TrainConfig(
            epochs=epochs, batch_size=BATCH, optimizer="Adam", dwell=False, mlflow_uri="none", ask_epoch=None
        ),
        sweep=SweepConfig(space=(f"train.learning_rate=grid({rates})",), **changes),
    )


def sweep_of(folder: Path, config: Config) -> tuple[float, list[TrialRecord]]:
    """Run a sweep from its beginning; returns its seconds and its trials."""
    run = Run(str(folder), "run")
    run.clear("sweep")
    start = time.perf_counter()
    train_trials(run, SearchSpace.parse(config))
    return time.perf_counter() - start, read_trials(run)


def plain(folder: Path, config: Config) -> tuple[float, list[float]]:
    """Run the same trials as a function that starts Ray Train; returns its seconds, and those in epochs."""
    run, space = Run(str(folder), "run"), SearchSpace.parse(config)
    trials = [trial for i, changes in enumerate(space.variants()) for trial in space.make_trials(i, changes)]
    dataset = open_dataset(run, config)

    def train(settings: dict[str, int]) -> None:
        trial = trials[settings["trial"]]
        home = Run(run.uri("plain"), trial.id)
        framework = framework_of(trial.config.model)
        sources = find_sources(home, trial.config, dataset, framework)
        run_training(home, trial.config, framework, sources, lambda _: None)
        tune.report({"seconds": sum(epoch.seconds for epoch in read_history(home))})

    start = time.perf_counter()
    with mock.patch.dict(os.environ, TUNE_ENVIRONMENT):
        found = tune.Tuner(
            tune.with_resources(train, {"cpu": 0.1}),
            param_space={"trial": tune.grid_search(list(range(len(trials))))},
            tune_config=tune.TuneConfig(max_concurrent_trials=1),
            run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
        ).fit()
    return time.perf_counter() - start, [result.metrics["seconds"] for result in found]


def overhead(folder: Path) -> float:
    """Compare the seconds of a trial that are not an epoch's: ours over the plain way's."""
    rates = ", ".join(["0.002", "0.001", "0.003", "0.0015"][:TRIALS])
    config = config_of(folder, rates, 3, scheduler="none", max_concurrent=1)
    seconds, records = sweep_of(folder, config)
    ours = (seconds - sum(epoch.seconds for each in records for epoch in each.history)) / TRIALS
    seconds, epochs = plain(folder, config)
    theirs = (seconds - sum(epochs)) / TRIALS
    print(f"{'':28}seconds of a trial outside its epochs")
    print(f"{'Ray Train in a trial':28}{theirs:8.1f}")
    print(f"{'brain_ray':28}{ours:8.1f}", flush=True)
    return ours / theirs


def asha(folder: Path) -> tuple[float, bool]:
    """Compare device time with ASHA and without; tell as well whether both have the same winner."""
    held, winners = {}, {}
    print(f"{'':28}device seconds   epochs   best rate   cross-entropy")
    for scheduler in ("none", "asha"):
        config = config_of(folder, RATES, 27, scheduler=scheduler, max_concurrent=2)
        _, records = sweep_of(folder, config)
        best = min(
            (epoch.val_cross_entropy, each.trial.changes["train.learning_rate"])
            for each in records
            if each.status == "finished"
            for epoch in each.history
        )
        held[scheduler] = sum(each.held_seconds * each.devices for each in records)
        winners[scheduler] = best[1]
        epochs = sum(len(each.history) for each in records)
        name = {"none": "full grid", "asha": "ASHA"}[scheduler]
        print(f"{name:28}{held[scheduler]:14.1f}{epochs:9}{best[1]:12g}{best[0]:16.4f}", flush=True)
    return held["asha"] / held["none"], winners["asha"] == winners["none"]


def main() -> None:
    """Print a table, and the ratios as one JSON object."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        connection.connect()
        config = config_of(folder, RATES, 1)
        prepare(Run(config.storage, config.name), config)
        share = overhead(folder)
        saved, same = asha(folder)
    ratios = {
        "trial_overhead_ratio": round(share, 2),
        "asha_device_share": round(saved, 2),
        "asha_same_winner": same,
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
