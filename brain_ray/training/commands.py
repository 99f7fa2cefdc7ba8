"""Operator commands (halt, extend, rate, ask-every) and how they change a run's state. Pure Python."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from brain_ray.errors import RunError

GRAMMAR = "status | halt | extend N | rate X | ask-every N"


@dataclass(frozen=True)
class Command:
    """A command of the operator to a running training."""

    at: str
    """When it was given: UTC, ISO 8601 with microseconds. It identifies the command."""
    verb: str
    """`halt`, `extend`, `rate` or `ask-every`."""
    value: float = 0.0
    """Epochs, or a learning rate; 0 for `halt`."""

    def __str__(self) -> str:
        """Returns the command as the operator typed it."""
        return self.verb if self.verb == "halt" else f"{self.verb} {self.value:g}"


@dataclass(frozen=True)
class ControlState:
    """What all commands so far have changed about a run."""

    heard: str = ""
    """`at` of the last command that was taken."""
    halted: bool = False
    """The run ends."""
    extra_epochs: int = 0
    """Epochs beyond `train.epochs`."""
    rate: float | None = None
    """Learning rate in place of the planned one."""
    rate_scale: float = 1.0
    """The dwell's factor when `rate` was given, by which `rate` is divided, as the dwell multiplies."""
    patience: int | None = None
    """Epochs without improvement that end the run, in place of `train.ask_epoch`; 0: never."""

    def to_json(self) -> dict[str, Any]:
        """Returns the state as a JSON object."""
        return asdict(self)


def parse_command(text: Sequence[str], at: str) -> Command:
    """Parses a command: `halt`, `extend N`, `rate X` or `ask-every N` (0: never). `at`: when it was given.

    Raises:
        RunError: it is none of these.
    """
    verb, *values = text or ("",)
    try:
        value = float(values[0]) if values else 0.0
    except ValueError:
        value = math.nan
    whole = value >= 0 and value == int(value) if math.isfinite(value) else False
    fits = {
        "halt": not values,
        "extend": len(values) == 1 and whole and value > 0,
        "rate": len(values) == 1 and math.isfinite(value) and value > 0,
        "ask-every": len(values) == 1 and whole,
    }
    if not fits.get(verb):
        raise RunError(f"{' '.join(text)!r} says nothing to a run: expected {GRAMMAR}")
    return Command(at, verb, value)


def apply_commands(control: ControlState, commands: Sequence[Command], rate_scale: float) -> ControlState:
    """Returns the state after more commands; `rate_scale` is the dwell's present factor."""
    for command in commands:
        control = replace(control, heard=command.at)
        match command.verb:
            case "halt":
                control = replace(control, halted=True)
            case "extend":
                control = replace(control, extra_epochs=control.extra_epochs + int(command.value))
            case "rate":
                control = replace(control, rate=command.value, rate_scale=rate_scale)
            case "ask-every":
                control = replace(control, patience=int(command.value))
    return control


def should_stop(control: ControlState, ask_epoch: int | None, epochs: int, best_epoch: int) -> bool:
    """Tells whether a run ends because the last epochs brought no improvement.

    `ask_epoch`: the settings' limit of such epochs; `epochs`: finished ones; `best_epoch`: the best, from 1.
    """
    patience = ask_epoch if control.patience is None else control.patience
    return patience is not None and 0 < patience <= epochs - best_epoch
