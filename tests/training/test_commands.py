"""What an operator can say, and what a run makes of it."""

import pytest

from brain_ray.errors import RunError
from brain_ray.training.commands import Command, ControlState, apply_commands, parse_command, should_stop


@pytest.mark.parametrize(
    ("text", "verb", "value"),
    [
        ("halt", "halt", 0),
        ("extend 3", "extend", 3),
        ("rate 2e-4", "rate", 2e-4),
        ("ask-every 0", "ask-every", 0),
    ],
)
def test_words_are_read(text: str, verb: str, value: float) -> None:
    word = parse_command(text.split(), "now")
    assert word == Command("now", verb, value)
    assert parse_command(str(word).split(), "now") == word


@pytest.mark.parametrize(
    "text",
    [
        *("", "stop", "status now", "halt 3", "rate", "rate 0", "rate nan", "rate fast"),
        *("extend", "extend 0", "extend -1", "extend 1.5", "extend 1 2", "extend inf"),
        *("ask-every", "ask-every -1"),
    ],
)
def test_what_is_no_word_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(RunError, match=r"expected status \| halt \| extend N \| rate X \| ask-every N"):
        parse_command(text.split(), "now")


def test_words_add_up() -> None:
    said = [
        Command("1", "extend", 2),
        Command("2", "rate", 0.1),
        Command("3", "extend", 3),
        Command("4", "ask-every", 7),
    ]
    control = apply_commands(ControlState(), said, rate_scale=0.4)
    assert control == ControlState(heard="4", extra_epochs=5, rate=0.1, rate_scale=0.4, patience=7)
    assert apply_commands(control, [], rate_scale=0.1) == control
    assert apply_commands(control, [Command("5", "halt")], rate_scale=0.1).halted


@pytest.mark.parametrize(
    ("said", "configured", "ends"),
    [(None, None, False), (None, 3, True), (None, 4, False), (0, 3, False), (3, None, True), (4, 3, False)],
)
def test_patience_is_the_operators_before_the_settings(
    said: int | None, configured: int | None, ends: bool
) -> None:
    assert should_stop(ControlState(patience=said), configured, epochs=5, best_epoch=2) is ends
