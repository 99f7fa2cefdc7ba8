"""The table of a sweep: it fits the terminal, counts what has no room, and shows texts as they are."""

import math
import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from brain_ray import logs
from brain_ray.logs import log
from brain_ray.tuning.trial_table import STYLES, Line, TrialTable

NAMES = "trial backbone size settings epoch val_loss val_acc best rate img/s status left"


def line(number: int, status: str = "running", **changes: Any) -> Line:
    values: dict[str, Any] = {
        "trial": f"{number:03}",
        "backbone": "EfficientNetV2B0",
        "size": "224x224",
        "changes": "learning_rate 0.001",
        "seed": 1,
        "epoch": 3,
        "epochs": 12,
        "val_loss": 0.25,
        "val_accuracy": 0.9,
        "best": 0.125,
        "learning_rate": 1e-3,
        "images_per_second": 38.4,
        "status": status,
        "seconds_left": 3725.0 if status in ("running", "retried") else None,
    }
    return Line(**values | changes)


class Screen:
    """A terminal of a size, and what a table last wrote to it."""

    def __init__(self, width: int = 120, height: int = 40, terminal: bool = True) -> None:
        self._text = StringIO()
        self.console = Console(
            file=self._text, force_terminal=terminal, width=width, height=height, color_system="standard"
        )

    def read(self) -> str:
        """Return what was written since, as it was."""
        found = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return found

    def lines(self) -> list[str]:
        """Return what was written since, without the terminal's commands."""
        return [row.rstrip() for row in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.read()).splitlines()]


def shown(screen: Screen, lines: list[Line], total: int | None = None, elapsed: float = 60.0) -> list[str]:
    """Return the rows of a table of these lines."""
    with TrialTable(total or len(lines), screen.console) as table:
        screen.read()
        table.show(lines, elapsed)
        return screen.lines()


def test_a_wide_terminal_shows_everything() -> None:
    header, row, caption = shown(Screen(160), [line(7)])
    assert header.split() == NAMES.split()
    who, what = "007 EfficientNetV2B0 224x224 learning_rate 0.001", "3/12 0.2500 0.9000 0.1250 1.0e-03 38"
    assert row.split() == [*who.split(), *what.split(), "running", "1:02:05"]
    assert caption == "0/1 trials done | 0:01:00 elapsed"


@pytest.mark.parametrize(
    ("width", "missing"),
    [
        (160, ""),
        (114, ""),
        (113, "settings"),
        (100, "settings"),
        (99, "settings img/s"),
        (90, "settings img/s size"),
        (80, "settings img/s size rate"),
        (60, "settings img/s size rate left best"),
        (30, "settings img/s size rate left best val_loss backbone"),
    ],
)
def test_a_narrow_one_goes_without_what_matters_least(width: int, missing: str) -> None:
    rows = shown(Screen(width), [line(0, changes="x" * 40), line(1)])
    assert rows[0].split() == [name for name in NAMES.split() if name not in missing.split()]
    assert ("xxxxxxxxxxx…" in rows[1]) == (width == 114)  # settings are cut before they are left out
    assert max(map(len, rows)) <= width
    assert len(rows) == 4


def test_what_no_trial_has_takes_no_room() -> None:
    rows = shown(Screen(), [line(0, changes=""), line(1, changes="")])
    assert "settings" not in rows[0]
    rows = shown(Screen(), [line(0, changes=""), line(1, changes="", seed=2)])
    assert "settings" in rows[0]
    assert "seed 2" in rows[2]


def test_what_is_not_known_yet_is_a_dash() -> None:
    names = ("val_loss", "val_accuracy", "best", "learning_rate", "images_per_second")
    waiting = line(0, "waiting", epoch=0, **dict.fromkeys(names))
    assert shown(Screen(160), [waiting])[1].split()[-8:] == ["0/12", "-", "-", "-", "-", "-", "waiting", "-"]
    wild = line(0, val_loss=math.nan, best=123456.0)
    assert {"nan", "1.2e+05"} < set(shown(Screen(160), [wild])[1].split())


def test_a_low_terminal_shows_what_runs_then_what_ended_last_and_counts_the_rest() -> None:
    statuses = ["finished", "stopped", "stopped", "failed"] * 8 + ["running"] * 2 + ["retried"]
    lines = [line(k, status) for k, status in enumerate(statuses)]
    lines += [line(k, "waiting") for k in range(35, 40)]
    screen = Screen(80, 12)
    before = [line(k, "running") if k == 5 else each for k, each in enumerate(lines)]
    with TrialTable(40, screen.console) as table:
        table.show(before, 100.0)
        screen.read()
        table.show(lines, 200.0)  # 005 was the last to end
        rows = screen.lines()
    assert len(rows) == 11
    assert [row[:3] for row in rows[1:-2]] == ["032", "033", "034", "005", "031", "030", "029", "028"]
    assert rows[-2] == "and 32 more: 7 finished, 13 stopped, 7 failed, 5 waiting"
    assert rows[-1].startswith("32/40 trials done")


def test_where_all_have_room_they_keep_their_places() -> None:
    lines = [line(k, status) for k, status in enumerate(STYLES)]
    rows = shown(Screen(80, 9), lines)
    assert [row[:3] for row in rows[1:-1]] == ["000", "001", "002", "003", "004", "005"]
    assert len(shown(Screen(80, 8), lines)) == 7


def test_the_time_left_follows_from_the_pace_since_the_first_look() -> None:
    screen = Screen()
    with TrialTable(4, screen.console) as table:
        table.show([line(0, "finished"), line(1, epoch=0)], 0.0)  # a resumed sweep: a quarter is done
        assert "left" not in screen.lines()[-1]
        table.show([line(0, "finished"), line(1, "stopped"), line(2, seconds_left=30.0, epoch=0)], 600.0)
        assert screen.lines()[-1] == "2/4 trials done | 0:10:00 elapsed | about 0:20:00 left"
        table.show([line(0, "finished"), line(1, "stopped"), line(2, epoch=0)], 600.0)
        assert screen.lines()[-1].endswith("about 1:02:05 left")  # 002 alone takes longer


def test_texts_are_shown_as_they_are() -> None:
    screen = Screen(160)
    rows = shown(screen, [line(0, changes="head [bold]gap[/bold] :smile:\n\x1b[2J")])
    assert "head [bold]gap[/bold] :smile: �[2J" in rows[1]
    assert len(rows) == 3
    with logs.to_console(), TrialTable(1, screen.console):
        log.info("trial 000: [red]lost[/red] \x1b[2J")
    assert "trial 000: [red]lost[/red] �[2J" in screen.lines()


def test_a_status_has_its_colour() -> None:
    screen = Screen(80)
    with TrialTable(1, screen.console) as table:
        table.show([line(0, "failed")], 1.0)
    assert re.search(r"\x1b\[31mfailed", screen.read())


def test_what_is_said_stands_above_and_the_table_goes_when_it_is_left() -> None:
    screen = Screen(80)
    with logs.to_console(), TrialTable(1, screen.console) as table:
        table.show([line(0)], 1.0)
        screen.read()
        log.info("trial 001 ended")
        said, header, *_ = screen.lines()
        assert said == "trial 001 ended"
        assert header.startswith("trial  backbone")
    assert screen.read().endswith("\r" + 3 * "\x1b[1A\x1b[2K")  # its lines are erased


def test_elsewhere_than_on_a_terminal_only_what_is_said_appears() -> None:
    screen = Screen(80, terminal=False)
    with logs.to_console(), TrialTable(1, screen.console) as table:
        table.show([line(0)], 1.0)
        log.info("trial 001 ended")
    assert screen.lines() == ["trial 001 ended"]
