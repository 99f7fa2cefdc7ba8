"""Finding: the result of one check, with what to do about it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from brain_ray.errors import RunError

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One check's outcome."""

    name: str
    """What was looked at, in a word or two: `storage`, `ray version`."""
    level: Level
    """`error`: the work cannot be done so; `warning`: it can, and somebody should know."""
    text: str
    """What was found, and where."""
    cure: str = ""
    """What to do; empty where all is well, or the text says it."""

    def line(self) -> str:
        """Return the finding as a line for people."""
        return f"{self.level:<8} {self.name:<14} {self.told()}"

    def told(self) -> str:
        """Return what was found and what to do."""
        return f"{self.text}: {self.cure}" if self.cure else self.text

    def to_json(self) -> dict[str, Any]:
        """Return the finding as a JSON object."""
        return asdict(self)


def refuse_errors(findings: Iterable[Finding]) -> None:
    """Stop where a check found an error.

    Raises:
        RunError: with what was found and what to do; of several errors, a line each.
    """
    errors = [found for found in findings if found.level == "error"]
    if errors:
        raise RunError("\n".join(f"{found.name}: {found.told()}" for found in errors))
