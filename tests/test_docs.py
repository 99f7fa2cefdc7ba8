"""The commands of the documentation are ones that the jobs take."""

import re
import shlex
from pathlib import Path

import pytest

from brain_ray.submission.command import STAGES, Order, read_order, read_settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

OTHERS = ("...", "--help", "--train.epoch 3")
"""What is in commands that are not whole, that ask for help, or that stand there to show an error."""


def commands() -> list[tuple[str, str]]:
    """Return all whole commands with their page: job and words."""
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for command in re.findall(r"python jobs/(\w+\.py [^`\n]*)", text):
            if not any(other in command for other in OTHERS):
                found.append((page.name, command))
    return sorted(set(found))


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_documented_command_is_taken(page: str, command: str) -> None:
    job, *words = shlex.split(command, comments=True)
    name = job.removesuffix(".py")
    order = read_order(words) if name == "submit" else Order(name, tuple(words))
    if order.job in STAGES:
        read_settings(order)
    elif order.job == "control":
        run, word, *values = order.words
        assert not any(each.startswith("-") for each in (run, word))
        assert len(values) == (word in ("extend", "rate", "ask-every"))


def test_there_are_some() -> None:
    assert len(commands()) > 25
