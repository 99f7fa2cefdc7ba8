"""Optuna's proposals learn from what they are told, and go on after a restart."""

import sys
from collections.abc import Mapping
from typing import Any

import pytest
from support.trial_records import sweep_config

from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.tuning.optuna_search import OptunaProposer
from brain_ray.tuning.search_space import SearchSpace

DROPOUT = "model.dropout"


def config_of(*space: str, seed: int = 7) -> Config:
    return sweep_config(
        *(space or (f"{DROPOUT}=uniform(0, 0.9)",)), seed=seed, sampler="optuna", num_samples=40
    )


def value_of(changes: Mapping[str, Any]) -> float:
    return abs(float(changes[DROPOUT]) - 0.2)


def played(config: Config, number: int) -> tuple[OptunaProposer, list[dict[str, Any]]]:
    """A proposer that has been told of its first proposals."""
    proposer, tried = OptunaProposer(SearchSpace.parse(config), []), []
    for variant in range(number):
        tried.append(proposer.propose())
        proposer.tell(variant, value_of(tried[-1]))
    return proposer, tried


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_better_half_is_proposed_more_often_than_chance(seed: int) -> None:
    proposer, _ = played(config_of(seed=seed), 30)
    later = [value_of(proposer.propose()) for _ in range(20)]
    # Half of all values are within 0.25 of the best one; of 20 by chance, 15 or more once in 48.
    assert sum(value < 0.25 for value in later) >= 15


def test_the_better_of_two_choices_is_proposed_more_often_than_chance() -> None:
    better, worse = {DROPOUT: "0.2", "train.batch_size": "8"}, {DROPOUT: "0.8", "train.batch_size": "16"}
    _, tried = played(config_of(f"{DROPOUT} train.batch_size=choice(0.2 8, 0.8 16)"), 50)
    assert all(changes in (better, worse) for changes in tried)
    assert tried[30:].count(better) >= 15


def test_the_same_seed_proposes_the_same() -> None:
    first, again, other = (played(config_of(seed=seed), 15)[1] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_proposals_lie_within_their_ranges() -> None:
    config = config_of("train.learning_rate=loguniform(1e-4, 1e-2)", "train.ema=grid(None, 0.9)")
    proposer = OptunaProposer(SearchSpace.parse(config), [])
    for variant in range(25):
        changes = proposer.propose()
        assert list(changes) == ["train.learning_rate", "train.ema"]
        assert 1e-4 <= changes["train.learning_rate"] <= 1e-2
        assert changes["train.ema"] in ("None", "0.9")
        proposer.tell(variant, changes["train.learning_rate"])


def test_those_that_are_still_being_tried_count() -> None:
    proposer = OptunaProposer(SearchSpace.parse(config_of()), [])
    tried = [proposer.propose()[DROPOUT] for _ in range(20)]
    assert len(set(tried)) == 20
    proposer.tell(17, 0.1)  # in whatever order they end
    proposer.tell(3, 0.2)
    assert proposer.propose()[DROPOUT] not in tried


def test_those_that_failed_break_nothing() -> None:
    proposer = OptunaProposer(SearchSpace.parse(config_of()), [])
    for variant in range(30):
        value = value_of(proposer.propose())
        proposer.tell(variant, None if variant % 3 == 0 else value)
    assert value_of(proposer.propose()) <= 0.7
    all_failed = OptunaProposer(SearchSpace.parse(config_of()), [])
    for variant in range(15):
        all_failed.propose()
        all_failed.tell(variant, None)
    assert 0 <= all_failed.propose()[DROPOUT] <= 0.9


@pytest.mark.parametrize("number", [1, 5, 12])
def test_a_restart_proposes_what_is_new(number: int) -> None:
    config = config_of()
    _, tried = played(config, number)
    restarted = OptunaProposer(SearchSpace.parse(config), [(changes, value_of(changes)) for changes in tried])
    later = [restarted.propose()[DROPOUT] for _ in range(5)]
    assert not set(later) & {changes[DROPOUT] for changes in tried}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_restart_knows_what_was_told(seed: int) -> None:
    config = config_of(seed=seed)
    _, tried = played(config, 30)
    restarted = OptunaProposer(SearchSpace.parse(config), [(changes, value_of(changes)) for changes in tried])
    assert sum(value_of(restarted.propose()) < 0.25 for _ in range(20)) >= 15


def test_what_was_being_tried_before_a_restart_can_be_told_of_after_it() -> None:
    config = config_of()
    _, tried = played(config, 4)
    restarted = OptunaProposer(SearchSpace.parse(config), [(changes, None) for changes in tried])
    for variant, changes in enumerate(tried):
        restarted.tell(variant, value_of(changes))
    restarted.propose()
    restarted.tell(4, 0.3)


@pytest.mark.parametrize(
    "entry",
    [
        "model.backbone=choice(tiny, EfficientNetB0)",
        "train.batch_size=choice(8, 16)",
        "train.learning_rate=grid(1e-3, 1e-4)",
        "train.ema=choice(None, 0.9)",
        "train.dwell=choice(True, False)",
        "model.backbone train.learning_rate=choice(tiny 1e-3, EfficientNetB0 1e-4)",
        "train.batch_size=uniform(8, 64)",
        "train.batch_size=uniform(7.6, 7.9)",
        "train.learning_rate=loguniform(1e-4, 1e-2)",
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_restart_knows_variants_by_the_changes_of_their_trials(entry: str) -> None:
    space = SearchSpace.parse(config_of(entry))
    proposer = OptunaProposer(space, [])
    changes = [space.make_trials(variant, proposer.propose())[0].changes for variant in range(4)]
    restarted = OptunaProposer(space, [(each, float(value)) for value, each in enumerate(changes)])
    assert space.make_trials(4, restarted.propose())


def test_without_optuna_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RunError, match=r"not installed: pip install 'optuna>=5\.0,<6', or set it to random"):
        OptunaProposer(SearchSpace.parse(config_of()), [])
