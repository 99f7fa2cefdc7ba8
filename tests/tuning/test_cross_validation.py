"""Folds as trials of a sweep: each image answered by a model without its group, resumed after a kill."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from support.messages import messages_to
from support.numpy_learner import Numpy, blocks_of
from support.training_problem import MakeConfig, quarters, write_dataset
from support.undisturbed import undisturbed

from brain_ray.comparison.compare import compare
from brain_ray.config import Config, SweepConfig
from brain_ray.data.folds import read_folds
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.runs import Run
from brain_ray.training.train import train
from brain_ray.tuning import tune
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.trial_store import read_sweep, read_trials, trial_run

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose data set is prepared."""
    run = Run(str(tmp_path), "folds")
    write_dataset(run)
    return run


@pytest.fixture
def make(make_config: MakeConfig) -> Callable[..., Config]:
    """Give a function that makes settings of a cross-validation over the small problem."""

    def make(*space: str, train: dict[str, Any] | None = None, folds: int = 3, **changes: Any) -> Config:
        settings = {"space": space, "max_concurrent": 2, "max_failures": 1, "bootstrap": 100}
        config = make_config()
        learned = config.train.model_copy(update=train or {})
        sweep = SweepConfig(**{**settings, **changes})
        return config.model_copy(update={"sweep": sweep, "folds": folds, "train": learned})

    return make


def answer(weights: np.ndarray, images: np.ndarray) -> np.ndarray:
    """What the NumPy learner answers."""
    features = np.hstack([blocks_of(images), np.ones((len(images), 1))])
    exps = np.exp(features @ weights.astype(np.float64))
    return exps / exps.sum(axis=1, keepdims=True)


def test_every_image_is_answered_by_the_best_epoch_of_a_training_without_its_group(
    run: Run, make: Callable[..., Config]
) -> None:
    config = make(train={"epochs": 4})
    lines: list[str] = []
    with messages_to(lines.append):
        assert tune.tune(run, SearchSpace.parse(config), Numpy()) == "3 trials: 3 finished"
    assert lines[0] == "3 trials, 2 at a time"
    assert any(line.startswith("001 tiny 24x24, fold 2, seed 7  epoch 4/4") for line in lines)
    folds, trials = read_folds(run, config), read_trials(run)
    assert [record.trial.config.train.fold for record in trials] == [1, 2, 3]
    images = np.concatenate([quarters(61, 0)[0], quarters(13, 1)[0]])
    for record in trials:
        held = folds.held_out(record.trial.config.train.fold)
        # The weights of the fold's own training, which saw neither the fold nor its groups.
        with np.load(trial_run(run, record.trial.id).path("train", "best.npz")) as stored:
            expected = answer(stored["0"], images[held])
        assert_allclose(record.probabilities, expected, atol=0.05)  # stored rows are JPEG files
        assert (record.probabilities.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
        alone = undisturbed(run, record.trial.config, Numpy())
        with np.load(trial_run(run, record.trial.id).path("train", "best.npz")) as stored:
            assert_array_equal(stored["0"], alone.best[0])
    record = read_sweep(run, config)
    assert len(record.trials) == 1
    assert_array_equal(record.labels, folds.label[folds.original])
    pooled = record.trials[0].probabilities
    assert pooled.shape == (folds.original.sum(), 4)
    for one in trials:
        mine = folds.fold[folds.original] == one.trial.config.train.fold
        assert_array_equal(pooled[mine], one.probabilities)


@pytest.mark.thorough
def test_what_a_fold_leaves_out_changes_nothing_in_its_training(
    run: Run, make: Callable[..., Config], tmp_path: Path
) -> None:
    """Not one weight, not the epoch: its images are black in another copy of the data."""
    config = make(train={"epochs": 3, "fold": 2})
    train(run, config, Numpy())
    folds = read_folds(run, config)
    held = {int(image) for image in folds.image_id[folds.held_out(2)]}
    other = Run(str(tmp_path), "spoiled")
    write_dataset(other, spoil=held)
    train(other, config, Numpy())
    for name in ("best.npz", "history.csv"):
        first, second = (one.read_bytes("train", name) for one in (run, other))
        if name == "best.npz":
            assert first == second
        else:
            columns = [[line.split(b",")[1:6] for line in text.splitlines()] for text in (first, second)]
            assert columns[0] == columns[1]
    answers = OutOfFold.read(run)
    assert answers is not None
    assert set(answers.image_id) == held
    assert set(answers.fold) == {2}


def test_folds_that_were_killed_go_on_and_answer_as_if_nothing_had_happened(
    run: Run, make: Callable[..., Config], tmp_path: Path
) -> None:
    died = tmp_path / "died"

    def die(config: Config, epoch: int, step: int) -> None:
        if config.train.fold == 2 and epoch == 2 and step == 1 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    config = make(train={"epochs": 4, "frozen_epochs": 1})
    model = config.model.model_copy(update={"weights": "any.weights.h5"})
    config = config.model_copy(update={"model": model})
    tune.tune(run, SearchSpace.parse(config), Numpy(die))
    assert died.exists()
    assert not run.exists("sweep", "features"), "of all folds, until all have ended"
    whole = replace(run, name="whole")
    write_dataset(whole)
    tune.tune(whole, SearchSpace.parse(config), Numpy())
    killed, expected = (read_sweep(one, config).trials[0] for one in (run, whole))
    assert killed.attempts == 2
    assert_array_equal(killed.probabilities, expected.probabilities)


def test_a_sweep_over_folds_compares_out_of_fold_answers_and_keeps_what_can_win(
    run: Run, make: Callable[..., Config]
) -> None:
    """ASHA may stop a variant by its first fold; the others' folds are complete, for two seeds each."""
    config = make(
        "train.learning_rate=grid(0.01, 0.000001)",
        train={"epochs": 4},
        folds=2,
        seeds=2,
        scheduler="asha",
        reduction_factor=2,
        max_concurrent=1,  # or the worse one may come to the end of its first epochs before there is a better
    )
    tune.tune(run, SearchSpace.parse(config), Numpy())
    record = read_sweep(run, config)
    assert record.folds is not None
    first = [one for one in record.trials if one.trial.variant == 0]
    assert [(one.trial.id, one.trial.repeat, one.trial.config.seed) for one in first] == [
        ("000", 0, 7),
        ("002", 1, 8),
    ]
    assert all(one.status == "finished" for one in first)
    assert [len(record.members[one.trial.id]) for one in first] == [2, 2]
    assert [one.status for one in record.trials if one.trial.variant == 1] == ["stopped"]
    assert [one.probabilities for one in record.trials if one.trial.variant == 1] == [None]
    comparison = compare(record, {})
    assert comparison.winner in ("000", "002")
    assert comparison.chosen.repeats == 2
    assert "out-of-fold" in comparison.sentence
    for one in record.members[comparison.winner]:
        assert trial_run(run, one.trial.id).exists("train", "best.npz")


@pytest.mark.thorough
def test_two_workers_answer_a_fold_as_one_does(run: Run, make: Callable[..., Config], tmp_path: Path) -> None:
    answers = []
    for workers in (1, 2):
        mine = Run(str(tmp_path), f"workers-{workers}")
        write_dataset(mine)
        train(mine, make(train={"fold": 1, "num_workers": workers}), Numpy())
        answers.append(OutOfFold.read(mine))
    one, two = answers
    assert one is not None
    assert two is not None
    assert_array_equal(one.image_id, two.image_id)
    assert_allclose(one.probabilities, two.probabilities, atol=1e-5)
