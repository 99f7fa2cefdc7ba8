"""The decisions after an epoch are those of the notebooks' callback, with an answer to NaN."""

import json
import math

import pytest

from brain_ray.training.dwell import Decision, DwellState, decide


def run(values: list[float], *, dwell: bool = True, losses: list[float] | None = None) -> list[Decision]:
    state, decisions = DwellState(), []
    for value, loss in zip(values, losses or [1.0] * len(values), strict=True):
        state, decision = decide(state, value, loss, dwell=dwell, factor=0.4)
        decisions.append(decision)
    return decisions


@pytest.mark.parametrize(
    ("values", "dwell", "best", "rolled_back", "scale"),
    [
        ([2.0, 1.0, 0.5], True, [1, 1, 1], [0, 0, 0], 1.0),
        ([2.0, 2.5, 1.0], True, [1, 0, 1], [0, 1, 0], 0.4),
        ([2.0, 2.0], True, [1, 0], [0, 1], 0.4),  # equal is not below
        ([2.0, 3.0, 2.5], True, [1, 0, 0], [0, 1, 1], 0.16),  # 2.5 is compared with the best, not with 3
        ([2.0, 2.5, 1.0], False, [1, 0, 1], [0, 0, 0], 1.0),
        ([2.0, math.nan, 1.0], False, [1, 0, 1], [0, 1, 0], 0.4),
        ([math.nan, 3.0], True, [0, 1], [1, 0], 0.4),
        ([math.inf, -math.inf, 3.0], True, [0, 0, 1], [1, 1, 0], 0.16),
        ([0.0, 1.0], True, [1, 0], [0, 1], 0.4),  # no per cent of nothing
    ],
)
def test_decisions(
    values: list[float], dwell: bool, best: list[int], rolled_back: list[int], scale: float
) -> None:
    decisions = run(values, dwell=dwell)
    assert [decision.best for decision in decisions] == best
    assert [decision.roll_back for decision in decisions] == rolled_back
    assert decisions[-1].rate_scale == pytest.approx(scale)


def test_improvements_are_per_cents_of_the_lowest_before() -> None:
    state = DwellState()
    for value, loss in [(2.0, 1.0), (1.0, 3.0), (1.5, 0.5), (math.nan, 0.1), (0.5, 0.4)]:
        state, _ = decide(state, value, loss, dwell=True, factor=0.4)
    assert state.improvements == (None, 50.0, -50.0, None, 50.0)
    # The loss of an epoch that diverged is no measure of progress, but a finite one is still the lowest.
    assert state.loss_improvements == (None, -200.0, 50.0, None, pytest.approx(-300.0))
    assert (state.best_epoch, state.lowest) == (5, 0.5)


def test_a_loss_that_is_not_finite_is_never_the_best() -> None:
    first, second = run([2.0, 1.0], losses=[1.0, math.nan])
    assert first.best
    assert (second.best, second.roll_back, second.diverged) == (False, True, True)


def test_the_last_epoch_with_a_finite_loss_is_kept_if_it_is_to_be() -> None:
    state, kept, messages = DwellState(), [], []
    for value in (2.0, 1.0, 1.5, math.nan, 1.2):
        state, decision = decide(state, value, value, dwell=False, factor=0.4, last=True)
        kept.append(state.best_epoch)
        messages.append(decision.message)
    assert kept == [1, 2, 3, 3, 5]
    assert state.lowest == 1.0
    assert messages == ["best", "best (-50.0 %)", "+50.0 %", "not finite, back to epoch 3", "+20.0 %"]


def test_the_third_epoch_in_a_row_that_diverges_ends_the_run() -> None:
    nan = math.nan
    assert [d.halt for d in run([1.0, nan, nan, nan])] == [False, False, False, True]
    assert not any(d.halt for d in run([nan, nan, 1.0, nan, nan]))


def test_messages_are_for_people() -> None:
    messages = [d.message for d in run([2.0, 1.0, 1.5, math.nan, math.nan, math.nan])]
    assert messages == [
        "best",
        "best (-50.0 %)",
        "+50.0 %, back to epoch 2",
        "not finite, back to epoch 2",
        "not finite, back to epoch 2",
        "not finite, back to epoch 2, ends: 3 in a row",
    ]


def test_a_state_survives_strict_json() -> None:
    state = DwellState()
    for value in (2.0, math.nan, 1.0, 3.0):
        text = json.dumps(state.to_json(), allow_nan=False)
        assert DwellState.from_json(json.loads(text)) == state
        state, _ = decide(state, value, value, dwell=True, factor=0.4)
