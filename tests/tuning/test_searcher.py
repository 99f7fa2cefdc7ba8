"""A variant's other seeds are trained when its first one has finished, and never if it did not."""

from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher
from support.trial_records import make_history, sweep_config

from brain_ray.runs import HISTORY, RESULT, Run
from brain_ray.tracking.history import to_csv
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.searcher import TrialSearcher
from brain_ray.tuning.trial_store import read_trials, trial_run, write_trial
from brain_ray.tuning.trials import Status

GRID = "model.dropout=grid(0.1, 0.2, 0.3)"


class Trials:
    """A searcher, and trials that end as they are told to."""

    def __init__(self, run: Run, *space: str, seeds: int = 2, **sweep: Any) -> None:
        self.run, self.space = run, SearchSpace.parse(sweep_config(*(space or (GRID,)), seeds=seeds, **sweep))
        self.start()

    def start(self) -> None:
        """As the sweep does, also after an interruption."""
        records = read_trials(self.run, val_probabilities=False)
        self.searcher = TrialSearcher(self.run, self.space, records)
        self.running: dict[str, str] = {}

    def take(self) -> str | None:
        """Take the next trial; returns its id."""
        name = f"tune_{len(self.running)}"
        found = self.searcher.suggest(name)
        if isinstance(found, dict):
            self.running[found["trial"]] = name
            return str(found["trial"])
        return found

    def end(self, trial: str, status: Status = "finished") -> None:
        home = trial_run(self.run, trial)
        home.write_bytes(to_csv(make_history([0.5])), *HISTORY)
        if status == "finished":
            home.write_json({}, *RESULT)
        self.searcher.on_trial_complete(self.running[trial], error=status == "failed")
        made = next(one for one in self.searcher.trials if one.id == trial)
        write_trial(self.run, made, status)

    def play(self, **ends: Status) -> list[str]:
        """Take and end trials one after another until there are no more; returns their ids."""
        order = []
        while (trial := self.take()) != Searcher.FINISHED:
            assert trial is not None, "with nothing running it would wait for ever"
            order.append(trial)
            self.end(trial, ends.get(f"t{trial}", "finished"))
        return order


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path), "run")


def test_repeats_follow_a_first_trial_that_finished(run: Run) -> None:
    trials = Trials(run)
    assert trials.searcher.left == 6
    assert trials.play() == ["000", "001", "002", "003", "004", "005"]
    assert [one.trial.config.seed for one in read_trials(run)] == [7, 8] * 3


def test_repeats_of_a_variant_that_was_stopped_or_failed_are_never_made(run: Run) -> None:
    trials = Trials(run, seeds=3)
    assert trials.play(t000="stopped", t006="failed") == ["000", "003", "004", "005", "006"]
    assert [one.trial.id for one in read_trials(run)] == ["000", "003", "004", "005", "006"]
    assert trials.searcher.total == 5
    trials.start()
    assert trials.searcher.left == 0


def test_while_first_trials_run_other_variants_come_and_then_it_waits(run: Run) -> None:
    trials = Trials(run)
    assert [trials.take() for _ in range(3)] == ["000", "002", "004"]
    assert trials.take() is None
    trials.end("002")
    assert trials.take() == "003"
    trials.end("000", "stopped")
    trials.end("004", "stopped")
    assert trials.take() is None
    trials.end("003")
    assert trials.take() == Searcher.FINISHED
    assert trials.searcher.total == 4


def test_a_restart_goes_on_where_it_was(run: Run) -> None:
    trials = Trials(run)
    assert [trials.take(), trials.take()] == ["000", "002"]
    trials.end("000")
    assert trials.take() == "001"
    trials.start()  # 001 and 002 were interrupted
    assert trials.searcher.left == 5
    assert trials.play(t002="stopped") == ["001", "002", "004", "005"]


def test_repeats_that_an_earlier_version_made_at_once_share_their_firsts_fate(run: Run) -> None:
    space = SearchSpace.parse(sweep_config(GRID, seeds=2))
    for variant, changes in enumerate(list(space.variants())[:2]):
        for trial in space.make_trials(variant, changes):
            write_trial(run, trial, "running")
    trials = Trials(run)
    assert trials.searcher.left == 6
    assert trials.play(t000="stopped") == ["000", "002", "003", "004", "005"]
    ended = {one.trial.id: (one.status, one.reason) for one in read_trials(run)}
    assert ended["001"] == ("stopped", "trial 000, the variant's first, did not finish")


def test_optuna_makes_as_many_variants_as_it_is_asked_for(run: Run) -> None:
    trials = Trials(run, "model.dropout=uniform(0, 0.9)", sampler="optuna", num_samples=4)
    assert trials.play(t000="stopped", t002="failed") == ["000", "002", "004", "005", "006", "007"]
    trials.start()
    assert trials.searcher.left == 0
    assert trials.take() == Searcher.FINISHED
