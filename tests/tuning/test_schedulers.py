"""Weak trials are stopped by the rules of ASHA and of the median, as if there had never been a restart."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.trial_records import EPOCHS, make_record, sweep_config

from brain_ray.tuning.schedulers import make_scheduler
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.trainable import EPOCH, VALUE
from brain_ray.tuning.trials import Reached, Status, TrialRecord

STOP, CONTINUE = "STOP", "CONTINUE"


class Sweep:
    """Trials that report to a scheduler as those of Ray Tune do: on their last epoch it does not decide."""

    controller = SimpleNamespace(get_live_trials=list)

    def __init__(self, known: Sequence[TrialRecord] = (), start: int = 0, **settings: Any) -> None:
        self.scheduler: Any = make_scheduler(SearchSpace.parse(sweep_config(**settings)))
        self.scheduler.remember(known)
        self.settings, self.start = settings, start
        self.trials: dict[int, Any] = {}
        self.values = {int(one.trial.id): [past.val_cross_entropy for past in one.history] for one in known}
        self.status: dict[int, Status] = {int(one.trial.id): one.status for one in known}

    def add(self, number: int) -> None:
        """Hand a trial out. Tune's own ids differ from start to start."""
        self.trials[number] = StandIn(f"{number}_of_start_{self.start}", f"{number:03}")
        self.values.setdefault(number, [])
        self.status[number] = "running"
        self.scheduler.on_trial_add(self.controller, self.trials[number])

    def report(self, number: int, value: float) -> str:
        """Report an epoch's value; returns the decision."""
        trial, values = self.trials[number], self.values[number]
        values.append(value)
        result = {EPOCH: len(values), VALUE: min(filter(math.isfinite, values), default=math.inf)}
        if len(values) == EPOCHS:
            self.scheduler.on_trial_complete(self.controller, trial, result)
            self.status[number] = "finished"
            return CONTINUE
        decision = str(self.scheduler.on_trial_result(self.controller, trial, result))
        if decision == STOP:
            self.status[number] = "stopped"
        return decision

    def play(self, number: int, *values: float) -> str:
        """Have a new trial report until it is stopped; returns the last decision."""
        self.add(number)
        decision = CONTINUE
        for value in values:
            if decision == CONTINUE:
                decision = self.report(number, value)
        return decision

    def restarted(self) -> "Sweep":
        """Return the same sweep in another process, where those that were running are handed out first."""
        reasons = self.scheduler.reasons
        known = [
            make_record(number, values, self.status[number], reasons.get(f"{number:03}", ""))
            for number, values in sorted(self.values.items())
        ]
        sweep = Sweep(known, self.start + 1, **self.settings)
        for number, status in sorted(self.status.items()):
            if status == "running":
                sweep.add(number)
        return sweep

    def rungs(self) -> dict[int, list[Reached]]:
        return {rung.epoch: list(rung.reached) for rung in self.scheduler.rungs()}


class StandIn:
    """What a scheduler knows of a trial of Ray Tune."""

    def __init__(self, trial_id: str, name: str, repeat: int = 0) -> None:
        self.trial_id = trial_id
        self.config = {"trial": name, "repeat": repeat}


def decisions(sweep: Sweep, values: Sequence[float]) -> list[str]:
    """Decide on new trials after their first epoch, one after another."""
    first = len(sweep.values)
    return ["stop" if sweep.play(first + i, value) == STOP else "keep" for i, value in enumerate(values)]


# --- known answers


def test_asha_keeps_the_best_third_of_those_that_came_before() -> None:
    found = decisions(Sweep(reduction_factor=3), [0.5, 0.6, 0.4, 0.52, 0.45, 0.5])
    # The limits are the values at a third from the best one, between neighbours in proportion: none, 0.5,
    # 0.5333, 0.4667, 0.5, 0.4667.
    assert found == ["keep", "stop", "keep", "stop", "keep", "stop"]


def test_asha_keeps_the_better_half_and_one_that_is_as_good_as_its_limit() -> None:
    # The limits are medians: none, 0.5, 0.625, 0.625, 0.5625.
    found = decisions(Sweep(reduction_factor=2), [0.5, 0.75, 0.625, 0.25, 0.6])
    assert found == ["keep", "stop", "keep", "keep", "stop"]


@pytest.mark.parametrize(
    ("factor", "grace", "epochs"),
    [(3, 1, [1, 3, 9]), (2, 1, [1, 2, 4, 8]), (3, 2, [2, 6]), (4, 1, [1, 4]), (3, 9, [9]), (3, 20, [])],
)
def test_rungs_grow_by_the_factor_from_the_grace_epochs(factor: float, grace: int, epochs: list[int]) -> None:
    sweep = Sweep(reduction_factor=factor, grace_epochs=grace)
    sweep.play(0, *[0.5] * EPOCHS)
    assert list(sweep.rungs()) == epochs


def test_a_rung_between_two_epochs_is_told_as_the_one_at_which_trials_come_to_it() -> None:
    sweep = Sweep(reduction_factor=2.5)
    sweep.play(0, 0.9, 0.8, 0.7, 0.6)
    assert sweep.rungs() == {1: [Reached("000", 0.9, False)], 3: [Reached("000", 0.7, False)]}


def test_between_rungs_and_at_the_last_epoch_nothing_is_stopped() -> None:
    sweep = Sweep(reduction_factor=3)
    sweep.play(0, *[0.5] * EPOCHS)
    assert sweep.play(1, 0.4, 0.4) == CONTINUE
    assert sweep.report(1, 0.4) == CONTINUE
    for _ in range(EPOCHS - 3):
        assert sweep.report(1, 5.0) == CONTINUE
    assert sweep.status == {0: "finished", 1: "finished"}


def test_a_trial_is_judged_by_the_best_value_that_it_has_reached() -> None:
    sweep = Sweep(reduction_factor=3)
    sweep.play(0, 0.5, 0.5, 0.5)
    assert sweep.play(1, 0.4, 0.9, 0.8) == CONTINUE
    assert sweep.play(2, 0.3, 0.2, math.nan) == CONTINUE
    expected = [Reached("000", 0.5, False), Reached("001", 0.4, False), Reached("002", 0.2, False)]
    assert sweep.rungs()[3] == sweep.restarted().rungs()[3] == expected


def test_the_monitored_value_is_what_is_remembered() -> None:
    config = sweep_config()
    config = config.model_copy(update={"train": config.train.model_copy(update={"monitor": "val_loss"})})
    sweep = Sweep([make_record(0, [0.5, 0.4], "failed", config=config)])
    assert sweep.rungs() == {1: [Reached("000", 1.5, False)]}


def test_rungs_rise_hold_trials_as_they_came_and_say_which_ended_there() -> None:
    sweep = Sweep(reduction_factor=3)
    sweep.play(2, *[0.5] * EPOCHS)
    sweep.play(0, 0.45, 0.45, 0.6)
    sweep.play(1, 0.9)
    sweep.play(3, 0.44, 0.44, 0.44, 0.44)
    sweep.play(4, 0.43, 0.43, 0.44)
    assert list(sweep.rungs().items()) == [
        (
            1,
            [
                Reached("002", 0.5, False),
                Reached("000", 0.45, False),
                Reached("001", 0.9, True),
                Reached("003", 0.44, False),
                Reached("004", 0.43, False),
            ],
        ),
        (
            3,
            [
                Reached("002", 0.5, False),
                Reached("000", 0.45, False),
                Reached("003", 0.44, False),
                Reached("004", 0.43, False),
            ],
        ),
        (9, [Reached("002", 0.5, False)]),
    ]


def test_the_flag_of_a_stopped_trial_is_at_the_rung_where_it_ended() -> None:
    sweep = Sweep(reduction_factor=3)
    sweep.play(0, 0.5, 0.4, 0.3)
    assert sweep.play(1, 0.5, 0.45, 0.42) == STOP
    assert sweep.rungs() == {
        1: [Reached("000", 0.5, False), Reached("001", 0.5, False)],
        3: [Reached("000", 0.3, False), Reached("001", 0.42, True)],
    }


def test_asha_gives_its_reason_with_the_limit() -> None:
    sweep = Sweep(reduction_factor=3)
    decisions(sweep, [0.5, 0.6, 0.4, 0.52])
    sweep.report(2, 0.3)
    sweep.report(2, 0.3)
    assert sweep.play(4, 0.35, 0.35, 0.35) == STOP
    assert sweep.scheduler.reasons == {
        "001": "epoch 1: 0.6000 is above 0.5000, the limit of rung 1",
        "003": "epoch 1: 0.5200 is above 0.4667, the limit of rung 1",
        "004": "epoch 3: 0.3500 is above 0.3000, the limit of rung 3",
    }


@pytest.mark.filterwarnings("error")
def test_trials_without_a_finite_value_are_stopped_and_sound_ones_are_not() -> None:
    sweep = Sweep(reduction_factor=3)
    found = decisions(sweep, [math.nan, math.nan, 0.5, math.nan, 0.4, math.nan])
    assert found == ["keep", "keep", "keep", "stop", "keep", "stop"]
    assert [reached.value for reached in sweep.rungs()[1]][:3] == [math.inf, math.inf, 0.5]


def test_the_median_rule_compares_the_best_value_with_running_means() -> None:
    sweep = Sweep(scheduler="median")
    assert sweep.play(0, 0.5, 0.4) == CONTINUE
    assert sweep.play(1, 0.6, 0.5) == CONTINUE  # one other is no median
    assert sweep.play(2, 0.56) == STOP  # of 0.5 and 0.6
    assert sweep.play(3, 0.54) == CONTINUE  # of 0.5, 0.6 and 0.56
    assert sweep.report(3, 0.51) == STOP  # of 0.45 and 0.55, of the two that came to epoch 2
    assert sweep.scheduler.reasons == {
        "002": "epoch 1: 0.5600 is worse than the median of the trials before it",
        "003": "epoch 2: 0.5100 is worse than the median of the trials before it",
    }
    assert sweep.scheduler.rungs() == []


def test_the_median_rule_leaves_trials_their_grace_epochs() -> None:
    sweep = Sweep(scheduler="median", grace_epochs=3)
    sweep.play(0, 0.5, 0.4, 0.3)
    sweep.play(1, 0.5, 0.4, 0.3)
    assert sweep.play(2, 5.0, 5.0) == CONTINUE
    assert sweep.report(2, 5.0) == STOP


def test_the_median_rule_never_makes_a_trial_wait_for_others() -> None:
    sweep = Sweep(scheduler="median")
    sweep.controller = SimpleNamespace(get_live_trials=lambda: [SimpleNamespace(status="PENDING")])
    assert sweep.play(0, 0.5) == CONTINUE


@pytest.mark.parametrize("scheduler", ["asha", "median", "none"])
def test_further_repeats_are_neither_stopped_nor_compared_with(scheduler: str) -> None:
    """Stopping the weaker ones of a variant would leave a mean of survivors."""
    sweep = Sweep(scheduler=scheduler, reduction_factor=2, grace_epochs=1)
    for number in range(3):
        sweep.play(number, 0.5, 0.4, 0.3)
    before = sweep.rungs()
    repeat = StandIn("repeat", "009", repeat=1)
    sweep.scheduler.on_trial_add(sweep.controller, repeat)
    for epoch in range(1, EPOCHS):
        report = {EPOCH: epoch, VALUE: 99.0}
        assert sweep.scheduler.on_trial_result(sweep.controller, repeat, report) == CONTINUE
    sweep.scheduler.on_trial_complete(sweep.controller, repeat, {EPOCH: EPOCHS, VALUE: 0.001})
    waiting = StandIn("waiting", "010", repeat=1)
    sweep.scheduler.on_trial_add(sweep.controller, waiting)
    sweep.scheduler.on_trial_remove(sweep.controller, waiting)
    assert sweep.rungs() == before
    assert sweep.scheduler.reasons == {}


def test_further_repeats_of_before_a_restart_are_not_remembered() -> None:
    known = [make_record(0, [0.5, 0.4, 0.3]), make_record(1, [9.0, 9.0, 9.0], variant=0, repeat=1)]
    assert [reached.trial for reached in Sweep(known).rungs()[1]] == ["000"]


def test_without_a_scheduler_nothing_is_stopped() -> None:
    sweep = Sweep(scheduler="none")
    for number, value in enumerate([0.1, 0.2, 9.0, math.nan]):
        assert sweep.play(number, *[value] * EPOCHS) == CONTINUE
    later = sweep.restarted()
    assert later.play(4, *[99.0] * EPOCHS) == CONTINUE
    assert (later.scheduler.rungs(), later.scheduler.reasons) == ([], {})


# --- restarts

SETTINGS = [
    {"scheduler": "asha", "reduction_factor": 3},
    {"scheduler": "asha", "reduction_factor": 2},
    {"scheduler": "asha", "reduction_factor": 4, "grace_epochs": 2},
    {"scheduler": "median"},
    {"scheduler": "median", "grace_epochs": 3},
    {"scheduler": "none"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: " ".join(map(str, settings.values())))
def test_a_restart_changes_no_decision(settings: dict[str, Any]) -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        whole, broken = Sweep(**settings), Sweep(**settings)
        for event in range(rng.integers(20, 70)):
            if event and rng.random() < 0.15:
                broken = broken.restarted()
            running = [number for number, status in sorted(whole.status.items()) if status == "running"]
            if len(running) < 3:
                running.append(len(whole.values))
                whole.add(running[-1])
                broken.add(running[-1])
            number, value = int(rng.choice(running)), float(rng.normal(1.0, 0.3))
            assert whole.report(number, value) == broken.report(number, value)
        broken = broken.restarted()
        assert broken.status == whole.status
        assert broken.scheduler.reasons == whole.scheduler.reasons
        by_trial = [
            {epoch: sorted(reached, key=lambda one: one.trial) for epoch, reached in sweep.rungs().items()}
            for sweep in (whole, broken)
        ]
        assert by_trial[0] == by_trial[1]
        first = len(whole.values)
        for number, value in enumerate(rng.normal(1.0, 0.3, 10), first):
            assert whole.play(number, value) == broken.play(number, value)


def test_a_restart_keeps_the_order_of_trials_that_came_one_after_another() -> None:
    sweep = Sweep(reduction_factor=2)
    for number, value in enumerate([0.5, 0.75, 0.625, 0.25, 0.6]):
        sweep.play(number, *[value] * EPOCHS)
    assert sweep.restarted().scheduler.rungs() == sweep.scheduler.rungs()


def test_a_trial_that_failed_without_an_epoch_is_no_trouble() -> None:
    for scheduler in ("asha", "median", "none"):
        sweep = Sweep([make_record(0, [], "failed"), make_record(1, [], "running")], scheduler=scheduler)
        assert sweep.play(1, 0.5) == CONTINUE
