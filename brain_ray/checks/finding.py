"""Finding: the result of one check, with what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from brain_ray.errors import RunError

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    name: str
    """Name of the check, in a word or two: `storage`, `ray version`."""
    level: Level
    """`error`: the work cannot be done like this; `warning`: it can, but somebody should know."""
    text: str
    """Text that says what was found, and where."""
    cure: str = ""
    """Text that says what to do; empty if all is well, or if `text` says it."""

    def line(self) -> str:
        """Returns the finding as a line of text."""
        return f"{self.level:<8} {self.name:<14} {self.message()}"

    def message(self) -> str:
        """Returns what was found and what to do, as text."""
        return f"{self.text}: {self.cure}" if self.cure else self.text


def refuse_errors(findings: Iterable[Finding]) -> None:
    """Raises an error if there is an error among the findings.

    Raises:
        RunError: its text says what was found and what to do, with a line for each error.
    """
    errors = [found for found in findings if found.level == "error"]
    if errors:
        raise RunError("\n".join(f"{found.name}: {found.message()}" for found in errors))
