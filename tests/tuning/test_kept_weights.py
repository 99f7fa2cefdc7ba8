"""Nothing large is kept of ended trials but weights that may be chosen, and the chosen one's always are."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.ended_trials import config_of, write
from support.training_problem import write_dataset
from support.trial_records import make_record

from brain_ray.comparison.compare import compare
from brain_ray.config import Config
from brain_ray.data.folds import read_folds
from brain_ray.runs import BEST, FEATURES, HISTORY, VAL_PROBABILITIES, Run
from brain_ray.training import checkpoints
from brain_ray.tuning.kept_weights import MOST_KEPT, delete_unneeded
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.trial_store import read_sweep, read_trials, trial_run
from brain_ray.tuning.trials import Status, TrialRecord

BACKBONES = (*(f"EfficientNetB{number}" for number in range(8)), "EfficientNetV2S", "tiny")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path), "run")


def kept(run: Run, name: tuple[str, str] = BEST) -> list[int]:
    """Trials that still have a file."""
    records = read_trials(run, val_probabilities=False)
    return [int(one.trial.id) for one in records if trial_run(run, one.trial.id).exists(*name)]


def sweep_of(run: Run, *trials: tuple[int, str, float, Status], seeds: int = 1) -> list[TrialRecord]:
    """Write trials of a variant, a backbone, a validation cross-entropy and a status each."""
    records, repeats = [], dict.fromkeys((variant for variant, *_ in trials), 0)
    for number, (variant, backbone, value, status) in enumerate(trials):
        config = config_of(backbone, seeds)
        made = make_record(number, [value], status, variant=variant, repeat=repeats[variant], config=config)
        repeats[variant] += 1
        records.append(write(run, made))
    return records


def test_of_ended_trials_checkpoints_and_features_go_and_what_is_told_of_them_stays(run: Run) -> None:
    ends: tuple[Status, ...] = ("finished", "stopped", "failed", "running")
    records = sweep_of(run, *((number, "tiny", 0.5, status) for number, status in enumerate(ends)))
    delete_unneeded(run, SearchSpace.parse(records[0].trial.config), records)
    homes = [trial_run(run, record.trial.id) for record in records]
    assert [len(checkpoints.checkpoint_folders(home)) for home in homes] == [0, 0, 0, 2]
    assert [home.exists(*FEATURES) for home in homes] == [False, False, False, True]
    assert kept(run, HISTORY) == [0, 1, 2, 3]
    delete_unneeded(run, SearchSpace.parse(records[0].trial.config), records)  # nothing is left to delete
    assert kept(run) == [0]


def test_of_each_model_the_best_variant_keeps_its_weights(run: Run) -> None:
    records = sweep_of(
        run,
        (0, "tiny", 0.5, "finished"),
        (1, "tiny", 0.4, "finished"),
        (2, "EfficientNetB0", 0.9, "finished"),
        (3, "EfficientNetB0", 0.8, "stopped"),
        (4, "tiny", 0.3, "failed"),
    )
    delete_unneeded(run, SearchSpace.parse(records[0].trial.config), records)
    assert kept(run) == [1, 2]


def test_a_model_is_told_apart_by_its_size_and_head_too(run: Run) -> None:
    config = config_of()
    other = config.model_copy(update={"model": config.model.model_copy(update={"height": 96})})
    records = [
        write(run, make_record(0, [0.5], config=config)),
        write(run, make_record(1, [0.4], config=other)),
    ]
    delete_unneeded(run, SearchSpace.parse(records[0].trial.config), records)
    assert kept(run) == [0, 1]


def test_a_variant_is_as_good_as_the_mean_of_its_trials_and_keeps_them_all(run: Run) -> None:
    records = sweep_of(
        run,
        (0, "tiny", 0.2, "finished"),
        (0, "tiny", 0.9, "finished"),
        (1, "tiny", 0.5, "finished"),
        (1, "tiny", 0.4, "finished"),
        seeds=2,
    )
    delete_unneeded(run, SearchSpace.parse(records[0].trial.config), records)
    assert kept(run) == [2, 3]


def test_a_trial_is_as_good_as_the_cross_entropy_of_its_best_epoch(run: Run) -> None:
    records = [write(run, make_record(0, [0.5, 0.3, 0.9])), write(run, make_record(1, [0.6, 0.4, 0.35]))]
    delete_unneeded(run, SearchSpace.parse(records[0].trial.config), records)
    assert kept(run) == [0]


def test_a_variant_of_which_a_trial_was_stopped_or_failed_keeps_nothing(run: Run) -> None:
    records = sweep_of(
        run,
        (0, "tiny", 0.1, "finished"),
        (0, "tiny", 0.1, "stopped"),
        (1, "tiny", 0.1, "finished"),
        (1, "tiny", 0.1, "failed"),
        (2, "tiny", 0.6, "finished"),
        (2, "tiny", 0.7, "finished"),
        seeds=2,
    )
    delete_unneeded(run, SearchSpace.parse(records[0].trial.config), records)
    assert kept(run) == [4, 5]


def test_variants_that_still_lack_a_trial_keep_what_they_have(run: Run) -> None:
    records = sweep_of(
        run,
        (0, "tiny", 0.5, "finished"),
        (0, "tiny", 0.5, "finished"),
        (0, "tiny", 0.4, "finished"),
        (1, "tiny", 0.9, "finished"),
        (1, "tiny", 0.8, "finished"),
        (1, "tiny", 0.7, "running"),
        (2, "tiny", 0.95, "finished"),
        (2, "tiny", 0.96, "finished"),
        seeds=3,
    )
    delete_unneeded(run, SearchSpace.parse(records[0].trial.config), records)
    assert kept(run) == [0, 1, 2, 3, 4, 6, 7]
    running = trial_run(run, "005")
    assert len(checkpoints.checkpoint_folders(running)) == 2


def test_no_more_weights_are_kept_than_have_room(run: Run) -> None:
    values = [0.9, 0.1, 0.3, 0.2, 0.5, 0.4, 0.7, 0.6, 0.8, 0.95]
    trials = [(i, backbone, values[i], "finished") for i, backbone in enumerate(BACKBONES)]
    records = sweep_of(run, *trials)  # type: ignore[arg-type]
    delete_unneeded(run, SearchSpace.parse(records[0].trial.config), records)
    assert len(kept(run)) == MOST_KEPT
    assert kept(run) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("criterion", ["calibrated", "raw"])
@pytest.mark.parametrize(("folds", "fold"), [(None, None), (3, None), (3, 2)])
def test_the_weights_that_the_comparison_chooses_are_kept(
    run: Run, folds: int | None, fold: int | None, criterion: str
) -> None:
    """Their validation cross-entropies, which chose the epochs, would have others kept."""
    write_dataset(run)
    config = config_of(criterion=criterion, bootstrap=100).model_copy(update={"folds": folds})
    config = with_fold(config, fold)
    numbers = [None] if folds is None else read_folds(run, config).left_out_by(config)
    space = replace(SearchSpace.parse(config), folds=tuple(numbers))
    rng = np.random.default_rng(5)
    values, records = rng.permutation(8), []
    # The first trial of each variant comes before the others of any.
    for place, number in enumerate(numbers):
        for variant in range(8):
            mine = with_fold(config, number)
            trial = len(numbers) * variant + place
            made = make_record(trial, [values[variant] / 10], variant=variant, repeat=place, config=mine)
            records.append(write(run, made))
            rows = 13 if number is None else read_folds(run, config).held_out(number).sum()
            chances = rng.dirichlet(np.ones(4), rows).astype(np.float32)
            stored = io.BytesIO()
            np.savez(stored, probabilities=chances)
            trial_run(run, made.trial.id).write_bytes(stored.getvalue(), *VAL_PROBABILITIES)
            delete_unneeded(run, space, records)
    chosen = compare(read_sweep(run, config), {}).chosen.variant
    assert chosen != values.argmin()
    first = len(numbers) * chosen
    assert kept(run) == list(range(first, first + len(numbers)))


def with_fold(config: Config, fold: int | None) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"fold": fold})})
