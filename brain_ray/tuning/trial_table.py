"""Live table of a sweep's trials on a terminal."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from rich import get_console
from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from brain_ray import logs
from brain_ray.errors import printable

TrialStatus = Literal["waiting", "running", "finished", "stopped", "failed", "retried"]

STYLES: dict[TrialStatus, str] = {
    "running": "cyan",
    "retried": "magenta",
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
    "waiting": "dim",
}
"""Colours by status, in the order in which trials are counted."""

ENDED: tuple[TrialStatus, ...] = ("finished", "stopped", "failed")

LEAST_FIRST = ("settings", "img/s", "size", "rate", "left", "best", "val_loss", "backbone")
"""Columns in the order in which they are left out on a narrow terminal."""

GAP = 2
"""Width between columns, in characters."""

SHORTEST_SETTINGS = 12
"""Least width of the column of settings, in characters; it is left out rather than narrower."""


@dataclass(frozen=True)
class Line:
    """A trial's row in the table; None: not known yet."""

    trial: str
    backbone: str
    size: str
    """Size of the input: "224x224"."""
    changes: str
    """Other settings that the sweep changed, in short."""
    seed: int
    """Seed; shown if trials differ in it."""
    epoch: int
    """Number of finished epochs."""
    epochs: int
    val_loss: float | None
    """Validation loss of the last epoch; `val_accuracy` is of the same epoch."""
    val_accuracy: float | None
    best: float | None
    """Best value so far of the monitored quantity."""
    learning_rate: float | None
    images_per_second: float | None
    status: TrialStatus
    """`retried`: the trial failed and runs again."""
    seconds_left: float | None


class TrialTable:
    """Context manager: shows a sweep's trials on a terminal, below the lines that are logged.

    Fits the terminal: a narrow one lacks columns of `LEAST_FIRST`; a low one shows the running trials and
    those that ended last, and counts the others. Texts are shown without markup.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        """Makes a table of `total` trials, including those that have not started yet."""
        self._total = total
        self._console = console or get_console()
        self._lines: Sequence[Line] = ()
        self._elapsed = 0.0
        self._ended: dict[str, None] = {}
        """Ended trials, in the order in which they were found ended."""
        self._first: tuple[float, float] | None = None
        """Elapsed seconds and finished share at the first `show`; the share is not 0 in a resumed sweep."""
        self._above = ExitStack()
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, get_renderable=self._render
        )

    def __enter__(self) -> "TrialTable":
        self._above.enter_context(logs.above(self._console))
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        self._above.close()

    def show(self, lines: Sequence[Line], elapsed: float, total: int | None = None) -> None:
        """Shows the trials, in the order of their ids, `elapsed` seconds after the sweep's start.

        `total` is how many there will be, if that has changed.
        """
        self._total = total or self._total
        self._lines, self._elapsed = tuple(lines), elapsed
        for line in lines:
            if line.status in ENDED:
                self._ended.setdefault(line.trial)
            else:
                self._ended.pop(line.trial, None)
        if self._first is None:
            self._first = (elapsed, self._done())
        self._live.refresh()

    def _render(self) -> Group:
        width, height = self._console.size
        if not self._lines:
            return Group()
        shown, hidden = self._choose(height - 3)  # rows of the header, the caption, and the cursor
        several = len({line.seed for line in self._lines}) > 1
        parts: list[Table | Text] = [_table(shown, width, several)]
        if hidden:
            more = f"and {len(hidden)} more: {_count(line.status for line in hidden)}"
            parts.append(Text(more, "dim", no_wrap=True, overflow="ellipsis"))
        return Group(*parts, Text(self._caption(), "bold", no_wrap=True, overflow="ellipsis"))

    def _choose(self, room: int) -> tuple[list[Line], list[Line]]:
        """Returns the lines that fit into `room` rows, of which one may count the others; and the others."""
        if len(self._lines) <= room:
            return list(self._lines), []
        places = {trial: place for place, trial in enumerate(self._ended)}

        def rank(line: Line) -> tuple[int, int]:
            if line.status in ENDED:
                return 1, -places[line.trial]
            return (2, 0) if line.status == "waiting" else (0, 0)

        ranked = sorted(self._lines, key=rank)
        rows = max(1, room - 1)
        return ranked[:rows], ranked[rows:]

    def _caption(self) -> str:
        done = sum(line.status in ENDED for line in self._lines)
        parts = [f"{done}/{self._total} trials done", f"{_clock(self._elapsed)} elapsed"]
        left = self._seconds_left()
        return " | ".join(parts if left is None else [*parts, f"about {_clock(left)} left"])

    def _seconds_left(self) -> float | None:
        """Estimated seconds to the end of the sweep: at the pace so far, and no less than the slowest running
        trial needs."""
        known = [line.seconds_left or 0.0 for line in self._lines if line.status in ("running", "retried")]
        done = self._done()
        since, before = self._first or (0.0, 0.0)
        if done <= before:
            return None
        return max((1 - done) / (done - before) * (self._elapsed - since), *known, 0.0)

    def _done(self) -> float:
        """Finished share of the sweep, 0..1: an ended trial counts as 1, another by its share of epochs."""
        shares = [1.0 if line.status in ENDED else line.epoch / max(1, line.epochs) for line in self._lines]
        return min(1.0, sum(shares) / max(1, self._total))


def _table(lines: Sequence[Line], width: int, several_seeds: bool) -> Table:
    cells: dict[str, list[str]] = {
        "trial": [line.trial for line in lines],
        "backbone": [line.backbone for line in lines],
        "size": [line.size for line in lines],
        "settings": [_settings(line, several_seeds) for line in lines],
        "epoch": [f"{line.epoch}/{line.epochs}" for line in lines],
        "val_loss": [_number(line.val_loss) for line in lines],
        "val_acc": [_number(line.val_accuracy) for line in lines],
        "best": [_number(line.best) for line in lines],
        "rate": ["-" if line.learning_rate is None else f"{line.learning_rate:.1e}" for line in lines],
        "img/s": [
            "-" if line.images_per_second is None else f"{line.images_per_second:.0f}" for line in lines
        ],
        "status": [line.status for line in lines],
        "left": ["-" if line.seconds_left is None else _clock(line.seconds_left) for line in lines],
    }
    cells = {
        name: [" ".join(printable(text, keep="\n\t").split()) for text in texts]
        for name, texts in cells.items()
    }
    if not any(cells["settings"]):
        del cells["settings"]
    widths = {name: max(map(cell_len, [name, *texts])) for name, texts in cells.items()}
    for name in LEAST_FIRST:
        spare = width - sum(widths.values()) - GAP * (len(widths) - 1)
        if spare >= 0:
            break
        if name == "settings" and name in widths and widths[name] + spare >= SHORTEST_SETTINGS:
            widths[name] += spare
        else:
            widths.pop(name, None)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    left = ("trial", "backbone", "size", "settings", "status")
    for name, size in widths.items():
        justify: Literal["left", "right"] = "left" if name in left else "right"
        table.add_column(name, justify=justify, width=size, no_wrap=True, overflow="ellipsis")
    for row, line in enumerate(lines):
        styles = {"status": STYLES[line.status]}
        dim = "dim" if line.status == "waiting" else ""
        table.add_row(*(Text(cells[name][row], styles.get(name, "")) for name in widths), style=dim)
    return table


def _settings(line: Line, several_seeds: bool) -> str:
    seed = f"seed {line.seed}" if several_seeds else ""
    return ", ".join(filter(None, [line.changes, seed]))


def _count(statuses: Iterable[TrialStatus]) -> str:
    """Returns the number of trials by status: "12 finished, 3 waiting"."""
    counts = Counter(statuses)
    return ", ".join(f"{counts[status]} {status}" for status in STYLES if counts[status])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if not abs(value) >= 1000 else f"{value:.1e}"


def _clock(seconds: float) -> str:
    """Formats seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
