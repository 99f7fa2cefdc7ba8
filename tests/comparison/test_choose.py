"""The stage choose: the winner's training becomes the run's, and its other seeds can be averaged with it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.training_problem import write_dataset
from support.trial_records import make_record, sweep_config

from brain_ray.bundle.members import members_of
from brain_ray.comparison.choose import choose
from brain_ray.comparison.cost import Cost
from brain_ray.config import Config
from brain_ray.data.dataset import read_labels
from brain_ray.errors import RunError
from brain_ray.pipeline import as_sweep
from brain_ray.runs import BEST, COSTS, HISTORY, MEMBERS, SWEEP, TRAIN, VAL_PROBABILITIES, Run
from brain_ray.tracking.history import to_csv
from brain_ray.training import checkpoints
from brain_ray.tuning.trial_store import trial_run, write_rungs, write_trial
from brain_ray.tuning.trials import Trial

SEEDS = 3


@pytest.fixture
def config() -> Config:
    return sweep_config(seeds=SEEDS, choice="best", bootstrap=100)


@pytest.fixture
def run(tmp_path: Path, config: Config) -> Run:
    """A finished sweep of two variants; of the better one, 003 to 005, the second seed is the best one."""
    return make_run(tmp_path, config)


def make_run(tmp_path: Path, config: Config, first: dict[str, Any] | None = None) -> Run:
    """Write such a sweep; of its first variant, settings of the model may be others."""
    run = Run(str(tmp_path), "swept")
    write_dataset(run)
    labels, costs = read_labels(run, "valid"), {}
    for number, certain in enumerate((0.4, 0.5, 0.45, 0.7, 0.9, 0.8)):
        changes = first if first and number < SEEDS else {}
        changed = config.model_copy(update={"model": config.model.model_copy(update=changes)})
        made = make_record(number, [1 - certain], config=replace_seed(changed, number % SEEDS))
        trial = Trial(f"{number:03d}", number // SEEDS, number % SEEDS, {}, made.trial.config)
        chances = np.full((len(labels), 4), (1 - certain) / 3, np.float32)
        chances[np.arange(len(labels)), labels] = certain
        home = trial_run(run, trial.id)
        write_trial(run, trial, "finished")
        home.write_bytes(to_csv(made.history), *HISTORY)
        home.write_bytes(checkpoints.pack({"probabilities": chances}), *VAL_PROBABILITIES)
        home.write_bytes(checkpoints.pack({"0": np.array([number])}), *BEST)
        costs[trial.model] = asdict(Cost(100, 0.1, 1.0, 1000.0))
    write_rungs(run, [])
    run.write_json(costs, *COSTS)
    run.finish(SWEEP, {}, 1.0)
    Path(run.path(TRAIN)).mkdir()  # the empty folder that a stage fills
    return run


def replace_seed(config: Config, seed: int) -> Config:
    return config.model_copy(update={"seed": config.seed + seed})


def exported(run: Run, config: Config, members: object) -> list[int]:
    """Numbers of the trials whose weights an export with this setting averages."""
    changed = config.model_copy(update={"export": config.export.model_copy(update={"members": members})})
    return [int(member.weights[0][0]) for member in members_of(run, changed)]


def test_the_seeds_of_the_winner_are_kept_the_best_first(run: Run, config: Config) -> None:
    said = " ".join(choose(run, config).split())
    assert "trial 004 wins" in said
    assert "--export.members seeds averages 3 seeds of tiny 64x64 gap, for the time of all of them: " in said
    assert exported(run, config, "best") == [4]
    assert exported(run, config, "all") == [4, 5, 3]
    assert exported(run, config, 2) == [4, 5]
    assert exported(run, config, "seeds") == [4, 3, 5]
    with pytest.raises(RunError, match=r"export\.members is 4, and .*/train has 3: train over more folds"):
        exported(run, config, 4)


def test_a_sweep_of_an_earlier_version_has_the_winner_s_weights_alone(run: Run, config: Config) -> None:
    for trial in ("003", "005"):
        home = trial_run(run, trial)
        home.fs.delete_file(home.path(*BEST))
    assert "averages" not in choose(run, config)
    assert not run.exists(*MEMBERS)
    with pytest.raises(RunError, match=r"export\.members is all, and .*/train has one"):
        exported(run, config, "all")


def test_the_best_training_of_each_model_can_be_averaged(tmp_path: Path, config: Config) -> None:
    run = make_run(tmp_path, config, {"head": "seed"})
    said = " ".join(choose(run, config).split())
    assert "trial 004 wins" in said
    assert "--export.members models averages tiny 64x64 gap and tiny 64x64 seed, for the time of all" in said
    assert "(validation); the chosen one alone: accuracy 1.0000, log loss 0.1054" in said
    assert exported(run, config, "models") == [4, 1]
    changed = config.model_copy(update={"export": config.export.model_copy(update={"members": "models"})})
    assert [member.model.head for member in members_of(run, changed)] == ["gap", "seed"]
    home = trial_run(run, "001")
    home.fs.delete_file(home.path(*BEST))
    with pytest.raises(RunError, match=r"the weights of trial 001 are gone from .*: sweep again"):
        exported(run, config, "models")


def test_models_with_other_inputs_are_not_averaged(tmp_path: Path, config: Config) -> None:
    run = make_run(tmp_path, config, {"height": 32})
    assert "members models averages" not in " ".join(choose(run, config).split())
    with pytest.raises(
        RunError, match=r"export\.members is models, and .*/train has one: sweep over several"
    ):
        exported(run, config, "models")


def test_models_of_one_training_are_an_error_before_any_work() -> None:
    config = Config.model_validate({"export": {"members": "models"}})
    for asked in (config, config.model_copy(update={"folds": 5})):
        with pytest.raises(RunError, match=r"export\.members is models, and one model is trained: compare"):
            as_sweep(asked)


@pytest.mark.parametrize(
    ("members", "seeds", "trained"),
    [("best", 2, None), (1, 2, None), (3, 1, 3), (2, 5, 5), ("all", 4, 4), ("seeds", 4, 4)],
)
def test_the_pipeline_trains_the_seeds_that_a_bundle_shall_average(
    members: object, seeds: int, trained: int | None
) -> None:
    config = Config.model_validate({"export": {"members": members}, "sweep": {"seeds": seeds}})
    sweep = as_sweep(config)
    assert (sweep and sweep.sweep.seeds) == trained
    assert sweep is None or sweep.sweep.space == ()
    folds = as_sweep(config.model_copy(update={"folds": 5}))
    assert folds is not None
    assert folds.sweep == config.sweep.model_copy(update={"space": ()})


def test_seeds_of_one_are_an_error_before_any_work_over_folds_too() -> None:
    config = Config.model_validate({"export": {"members": "seeds"}})
    for asked in (config, config.model_copy(update={"folds": 5})):
        with pytest.raises(
            RunError, match=r"export\.members is seeds, and one model is trained: set --sweep"
        ):
            as_sweep(asked)


def test_all_of_one_model_is_an_error_before_any_work() -> None:
    config = Config.model_validate({"export": {"members": "all"}})
    with pytest.raises(RunError, match=r"export\.members is all, and one model is trained: set --sweep"):
        as_sweep(config)
