"""Interrupts: said at once, once, and not lost."""

import hashlib
import io
import signal
import sys
import threading
import time
import weakref

import pytest
from support.jobs import wait_for

from brain_ray.interrupts import announced
from brain_ray.logs import log, log_context, to_console


class Thing:
    """Something that weak references are made to."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_said_before_work_has_unwound(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    before = signal.getsignal(number)
    with to_console(), announced("interrupted") as tell:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            wait_for(lambda: stream.getvalue() == "error: interrupted\n", 5)
        tell()
    assert stream.getvalue() == "error: interrupted\n"
    assert signal.getsignal(number) is before


def test_an_interrupt_is_said_while_a_call_keeps_the_interpreter_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[float] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            said.append(time.monotonic())
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", Stream())
    main = threading.get_ident()
    timer = threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGTERM))
    with to_console(), announced("interrupted"):
        timer.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 5_000_000)
        assert said
        assert said[0] < (start + time.monotonic()) / 2


def test_what_interrupts_another_way_is_said_by_who_catches_it(capsys: pytest.CaptureFixture[str]) -> None:
    with to_console(), announced("interrupted") as tell:
        tell()
        tell()
    assert capsys.readouterr().err == "error: interrupted\n"


def test_an_interrupt_that_python_ignores_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    with to_console(), announced("interrupted") as tell:
        thing = Thing()
        cleared = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
        del thing
        assert cleared() is None
        with pytest.raises(KeyboardInterrupt):
            time.sleep(5)
        tell()
    assert capsys.readouterr().err == "error: interrupted\n"


def test_other_exceptions_that_python_ignores_are_shown_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: shown.append(ignored.exc_type))
    with to_console(), announced("interrupted"):
        thing = Thing()
        cleared = weakref.ref(thing, lambda _: print(1 / 0))
        del thing
        assert cleared() is None
    assert shown == [ZeroDivisionError]


def test_an_interrupt_within_a_line_waits_for_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            if "a line" in text:
                super().write(text)
                signal.raise_signal(signal.SIGTERM)
            return super().write(text)

    stream = Slow()
    monkeypatch.setattr(sys, "stderr", stream)
    with to_console(), announced("interrupted"):
        with pytest.raises(KeyboardInterrupt), log_context("run"):
            log.error("a line")
        wait_for(lambda: "interrupted" in stream.getvalue(), 5)
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[-1] for line in lines] == ["error: a line", "error: interrupted"]


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with to_console(), announced("interrupted"):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
