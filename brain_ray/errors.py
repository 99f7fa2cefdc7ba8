"""Errors that a person has to set right, and texts of others as lines for people."""

import difflib
import textwrap
from collections.abc import Iterable


class RunError(RuntimeError):
    """Something a person has to set right; its text says what was found, where, and what to do."""


def printable(text: str, keep: str = "") -> str:
    """Replace what steers a terminal (control and format characters, line breaks) by U+FFFD.

    For texts that may come from elsewhere: file names, an endpoint's errors.

    Args:
        text: what is to be printed.
        keep: characters that stay as they are, such as line breaks.
    """
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text: Keras' own go on for pages."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def last_line(error: BaseException) -> str:
    """Return the start of the last line: Ray ends with what may have been the causes, at length."""
    return short_line((str(error).strip().splitlines() or ["no message"])[-1])


def short_line(line: str) -> str:
    return textwrap.shorten(line, 200, placeholder=" ...")


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown word: the most similar known one, else all of them."""
    words = list(words)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(words)}"
