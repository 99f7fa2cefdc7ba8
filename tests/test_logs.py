"""Messages on the console say when, of which run and in which stage."""

import logging
import re

import pytest

from brain_ray import logs
from brain_ray.logs import log, log_context

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ "


def test_each_line_is_stamped_unless_it_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    with logs.to_console(), log_context("first"), log_context("train"):
        log.info("one")
        log.info("\ntwo\nthree")
    lines = capsys.readouterr().out.split("\n")
    assert [re.sub(STAMP, "> ", line) for line in lines] == [
        "> first/train  one",
        "",
        "> first/train  two",
        "> first/train  three",
        "",
    ]


def test_warnings_and_errors_say_so_and_errors_go_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with logs.to_console():
        log.info("100 % of it")
        log.warning("careful")
        log.error("no\x1b[2J such file")
    assert capsys.readouterr() == (
        "100 % of it\nwarning: careful\n",
        "error: no\N{REPLACEMENT CHARACTER}[2J such file\n",
    )
    with logs.to_console(all_on_stderr=True):
        log.info("submitted")
    assert capsys.readouterr() == ("", "submitted\n")


def test_a_program_that_shows_no_messages_gets_none(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("a line")
    with logs.to_console():
        log.info("shown")
    log.info("a line")
    assert capsys.readouterr() == ("shown\n", "")
    assert not log.isEnabledFor(logging.INFO)


def test_the_line_that_tells_an_error_names_the_stage_that_failed() -> None:
    with pytest.raises(ValueError), log_context("first"), log_context("train"):  # noqa: PT011, PT012
        with log_context("later"):
            pass
        raise ValueError
    assert logs.stamp().endswith("first/train  ")
    with log_context("second"):
        assert logs.stamp().endswith("second  ")
    assert logs.stamp() == ""
