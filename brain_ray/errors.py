"""RunError, and functions that turn errors and unknown words into lines of text."""

import difflib
import textwrap
from collections.abc import Iterable, Sequence

MAX_NAMES = 5
"""Largest number of files, folders or the like that a message names."""


class RunError(RuntimeError):
    """Error that the user has to correct; its text says what was found, where, and what to do."""


def printable(text: str, keep: str = "") -> str:
    """Replaces characters that control a terminal (control and format characters, line breaks) by U+FFFD.

    For texts that may come from elsewhere: file names, an endpoint's errors.

    Args:
        text: the text to print.
        keep: characters that are not replaced, such as line breaks.
    """
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def list_names(names: Sequence[str], number: int = 0) -> str:
    """Returns the first few of some names, and how many others there are, as text.

    Args:
        names: all of the names, or the first of them.
        number: how many there are, if `names` are not all.
    """
    others = max(number, len(names)) - len(names[:MAX_NAMES])
    return printable(", ".join(names[:MAX_NAMES])) + (f" and {others} more" if others else "")


def list_faults(faults: Sequence[str]) -> str:
    """Returns the first few of some faults, each on a line of its own, and how many others there are."""
    more = [f"and {len(faults) - MAX_NAMES} more"] if len(faults) > MAX_NAMES else []
    return "".join(f"\n  {line}" for line in [*map(printable, faults[:MAX_NAMES]), *more])


def first_line(error: Exception) -> str:
    """Returns the first line of an error's text; Keras' errors have pages."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def last_line(error: BaseException) -> str:
    """Returns the start of the last line; Ray ends it with a long list of possible causes."""
    return short_line((str(error).strip().splitlines() or ["no message"])[-1])


def short_line(line: str) -> str:
    return textwrap.shorten(line, 200, placeholder=" ...")


def nearest(word: str, words: Iterable[str]) -> str:
    """Returns the end of a sentence about an unknown word: the most similar known word, else all known
    words."""
    words = list(words)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(words)}"
