"""Range: the values of a setting that a sweep varies, and how `sweep.space` writes them."""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from brain_ray.errors import RunError

Kind = Literal["grid", "choice", "uniform", "loguniform"]


@dataclass(frozen=True)
class Range:
    """Values of one setting, or of several that change together: an entry of `sweep.space`."""

    names: tuple[str, ...]
    kind: Kind
    values: tuple[tuple[str, ...], ...] = ()
    """For a grid or choice: each of its values, with one word per name."""
    low: float = 0.0
    high: float = 0.0

    @property
    def key(self) -> str:
        """The names as they are written in the entry."""
        return " ".join(self.names)

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draws a value for each name; returns them by name."""
        match self.kind:
            case "grid" | "choice":
                return self.at(int(rng.integers(len(self.values))))
            case "uniform":
                return {self.names[0]: float(rng.uniform(self.low, self.high))}
            case "loguniform":
                return {self.names[0]: float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))}

    def at(self, index: int) -> dict[str, Any]:
        """Returns the value of each name for one index of a grid or choice."""
        return dict(zip(self.names, self.values[index], strict=True))


def parse_range(entry: str) -> Range:
    """Parses an entry of `sweep.space`.

    Raises:
        RunError: the entry is malformed.
    """
    found = re.fullmatch(r"\s*([\w. ]+?)\s*=\s*(grid|choice|uniform|loguniform)\((.*)\)\s*", entry)
    if found is None:
        raise RunError(
            f"sweep.space has {entry!r}: expected NAME=RANGE with a range such as grid(a, b), choice(a, b), "
            "uniform(low, high) or loguniform(low, high)"
        )
    names, kind = tuple(found[1].split()), found[2]
    values = tuple(tuple(value.split()) for value in found[3].split(","))
    if kind in ("grid", "choice"):
        odd = [value for value in values if len(value) != len(names)]
        if odd:
            raise RunError(
                f"sweep.space has {' '.join(odd[0])!r} for {' '.join(names)!r}: expected {len(names)} "
                "word(s), and a comma before the next value"
            )
        return Range(names, "grid" if kind == "grid" else "choice", values)
    try:
        low, high = (float(word) for (word,) in values)
    except ValueError:
        low, high = 1.0, 0.0
    if len(names) != 1 or not -math.inf < low < high < math.inf or (kind == "loguniform" and low <= 0):
        raise RunError(
            f"sweep.space has {entry!r}: expected one name and two numbers, the lower one first"
            + (", both above 0" if kind == "loguniform" else "")
        )
    return Range(names, "uniform" if kind == "uniform" else "loguniform", (), low, high)
