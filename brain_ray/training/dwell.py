"""Reduce-on-plateau with rollback: the decision after each epoch. Pure Python."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

MAX_DIVERGED = 3
"""Epochs in a row without a finite loss that end a run."""


@dataclass(frozen=True)
class DwellState:
    """What the decisions depend on: the course of the run so far."""

    epochs: int = 0
    """Finished epochs."""
    lowest: float | None = None
    """Lowest monitored value; None before the first finite one."""
    lowest_loss: float | None = None
    """Lowest training loss."""
    best_epoch: int = 0
    """Epoch whose weights are kept, counted from 1; 0: none yet, these are the weights before training."""
    rate_scale: float = 1.0
    """What the planned learning rate is multiplied by."""
    diverged: int = 0
    """Epochs in a row, up to the last, whose loss was not finite."""
    improvements: tuple[float | None, ...] = ()
    """For each epoch: by how many per cent the monitored value was below the lowest before it."""
    loss_improvements: tuple[float | None, ...] = ()
    """The same of the training loss."""

    @property
    def halted(self) -> bool:
        """Whether the run has diverged too often to go on."""
        return self.diverged >= MAX_DIVERGED

    def to_json(self) -> dict[str, Any]:
        """Returns the state as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "DwellState":
        """Returns the state that `to_json` made an object of."""
        lists = {name: tuple(value[name]) for name in ("improvements", "loss_improvements")}
        return cls(**{**value, **lists})


@dataclass(frozen=True)
class Decision:
    """What follows from an epoch."""

    best: bool
    """Its weights are the ones that are kept now."""
    roll_back: bool
    """Go back to the best weights."""
    diverged: bool
    """Its loss was not finite: the optimizer's moments are spoilt as well."""
    halt: bool
    """End the run."""
    rate_scale: float
    """What the planned learning rate is multiplied by from now on."""
    improvement_percent: float | None
    """By how many per cent the value is below the lowest before it; None: nothing to compare with."""
    message: str
    """The decision in a few words."""


def decide(
    state: DwellState, value: float, loss: float, *, dwell: bool, factor: float, last: bool = False
) -> tuple[DwellState, Decision]:
    """Decides on an epoch from its monitored value and its training loss.

    The rules are those of the callback LR_ASK of the notebooks that this project replaces, without its
    prompt: a value below the lowest is a new best; any other multiplies the rate by `factor` and goes back
    to the best weights if `dwell`, and does nothing if not. A value or loss that is not finite is never
    a best; it goes back and lowers the rate even without `dwell`, and the third in a row ends the run. With
    `last`, each epoch that is finite takes the place of the one before it.
    """
    diverged = not (math.isfinite(value) and math.isfinite(loss))
    improvement = None if diverged else _below(value, state.lowest)
    lower = not diverged and (state.lowest is None or value < state.lowest)
    best = lower or (last and not diverged)
    roll_back = diverged or (dwell and not best)
    now = replace(
        state,
        epochs=state.epochs + 1,
        lowest=value if lower else state.lowest,
        best_epoch=state.epochs + 1 if best else state.best_epoch,
        rate_scale=state.rate_scale * factor if roll_back else state.rate_scale,
        diverged=state.diverged + 1 if diverged else 0,
        improvements=(*state.improvements, improvement),
        loss_improvements=(*state.loss_improvements, None if diverged else _below(loss, state.lowest_loss)),
        lowest_loss=_lower(loss, state.lowest_loss),
    )
    decision = Decision(
        best=best,
        roll_back=roll_back,
        diverged=diverged,
        halt=now.halted,
        rate_scale=now.rate_scale,
        improvement_percent=improvement,
        message=_message(now, lower, roll_back, diverged, improvement),
    )
    return now, decision


def _below(value: float, lowest: float | None) -> float | None:
    return 100.0 * (lowest - value) / lowest if lowest else None


def _lower(loss: float, lowest: float | None) -> float | None:
    if not math.isfinite(loss):
        return lowest
    return loss if lowest is None else min(loss, lowest)


def _message(
    state: DwellState, lower: bool, roll_back: bool, diverged: bool, improvement: float | None
) -> str:
    if lower:
        return "best" if improvement is None else f"best ({-improvement:+.1f} %)"
    change = "not finite" if diverged else "" if improvement is None else f"{-improvement:+.1f} %"
    where = f"epoch {state.best_epoch}" if state.best_epoch else "the start"
    actions = [f"back to {where}"] if roll_back else []
    if state.halted:
        actions.append(f"ends: {state.diverged} in a row")
    return ", ".join(filter(None, [change, *actions]))
