"""Lines of a log say when, of which run and in which stage."""

import io
import re

import pytest

from brain_ray import logs


def test_each_line_is_stamped_once_however_it_is_written() -> None:
    heard = io.StringIO()
    stream = logs.Stamped(heard, lambda: "> ")
    for piece in ("one", " and a half\n", "\n", "two\nthree", "\n"):
        stream.write(piece)
    assert heard.getvalue() == "> one and a half\n\n> two\n> three\n"


def test_a_stamp_names_run_and_stage_and_nothing_outside_of_them() -> None:
    with logs.within("first"), logs.within("train"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ first/train  ", logs.stamp())
    assert logs.stamp() == ""


def test_the_line_that_tells_an_error_names_the_stage_that_failed() -> None:
    with pytest.raises(ValueError), logs.within("first"), logs.within("train"):  # noqa: PT011, PT012
        with logs.within("later"):
            pass
        raise ValueError
    assert logs.stamp().endswith("first/train  ")
    with logs.within("second"):
        assert logs.stamp().endswith("second  ")
    assert logs.stamp() == ""
