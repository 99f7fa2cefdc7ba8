"""API keys of an endpoint: read from a file and the environment, and hashed."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from brain_ray.errors import RunError

KEYS_VARIABLE = "BRAIN_RAY_API_KEYS"
"""Environment variable with API keys, separated by commas, spaces or line breaks."""


def hash_keys(file: str | None) -> tuple[str, ...]:
    """Returns the SHA-256 of each key of a file and of the environment, and deletes the variable from the
    environment.

    Otherwise all processes of Ray, which inherit it, would have the keys.

    Raises:
        RunError: a file or a variable without a key, or a malformed key.
    """
    keys: list[str] = []
    named = os.environ.pop(KEYS_VARIABLE, None)
    if named is not None:
        words = [word for word in re.split(r"[,\s]+", named, flags=re.ASCII) if word]
        keys += _checked(((f"key {i} of {KEYS_VARIABLE}", word) for i, word in enumerate(words, 1)))
        if not keys:
            raise RunError(f"{KEYS_VARIABLE} is set, and holds no API key: set one, or unset it")
    if file is not None:
        keys += _read_keys(Path(file))
    return tuple(hashlib.sha256(key.encode()).hexdigest() for key in keys)


def _read_keys(file: Path) -> list[str]:
    """Reads API keys, one per line; skips empty lines and those that begin with `#`."""
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RunError(f"cannot read the API keys of {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise RunError(f"cannot read the API keys of {file}: expected text in UTF-8") from None
    lines = ((f"line {i} of {file}", line.strip(" \t\r")) for i, line in enumerate(content.split("\n"), 1))
    keys = _checked((where, line) for where, line in lines if line and not line.startswith("#"))
    if not keys:
        raise RunError(f"{file} holds no API key: expected one a line")
    return keys


def _checked(named: Iterable[tuple[str, str]]) -> list[str]:
    """Returns keys that can be sent in a header; no error shows one.

    Raises:
        RunError: a malformed key.
    """
    keys = []
    for where, key in named:
        if not key.isascii() or not key.isprintable() or " " in key:
            raise RunError(
                f"{where} is no API key: expected one key, of printable ASCII characters without a space "
                "(a comment begins with #, on a line of its own)"
            )
        keys.append(key)
    return keys
