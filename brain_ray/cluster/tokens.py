"""Tokens of Ray clusters: finds, makes and sends them, and explains why one is refused."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from brain_ray.cluster import private
from brain_ray.errors import RunError

TOKEN_CURE = (
    "copy ~/.ray/auth_token from the head node (`ray get-auth-token` prints it), or set RAY_AUTH_TOKEN"
)
"""Advice if a cluster's token is missing or differs."""


def explain_refusal(address: str) -> tuple[str, str]:
    """Returns why a cluster that requires a token refuses this process, and what to do."""
    where, mode = find_token(), os.environ.get("RAY_AUTH_MODE", "token")
    if where is None:
        return f"{address} wants a token, and there is none here", TOKEN_CURE
    if mode.lower() != "token":
        text = f"{address} wants a token, and RAY_AUTH_MODE is {mode} here"
        return text, "unset RAY_AUTH_MODE, or set it to token"
    return f"{address} refuses the token of {where}, which is another cluster's", TOKEN_CURE


def find_token() -> str | None:
    """Returns the source of this machine's token for Ray, in Ray's own order; never the token itself."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    try:
        path = Path(named) if named else _token_file()
        found = bool(path.read_text().strip())
    except (OSError, ValueError):
        return None
    return (named or "~/.ray/auth_token") if found else None


def _token_file() -> Path:
    """Returns the default path of Ray's token.

    Raises:
        FileNotFoundError: this user has no home folder.
    """
    try:
        return Path.home() / ".ray" / "auth_token"
    except RuntimeError as error:
        raise FileNotFoundError("no home folder") from error


def make_token() -> None:
    """Makes a token for a Ray that is started here, if there is none; only its owner can read it.

    Ray makes the file readable for all who may enter the folder, and a token gives the right to run code on
    the cluster. Without a writable home folder, the token is only in the environment of this process and of
    Ray: no other process of the user can join.

    Raises:
        RunError: RAY_AUTH_TOKEN_PATH names a file without a token.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    where = _find_named_token()
    try:
        if where is None:
            write_token(_token_file())
        elif where == "~/.ray/auth_token":
            with suppress(OSError):  # e.g. one that is mounted, or another user's
                _token_file().chmod(0o600)
    except OSError:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def write_token(path: Path) -> None:
    """Writes a new token, unless another process is faster, whose token is then valid."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Such a file is readable by its owner only from the beginning.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix="auth_token-") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        with suppress(FileExistsError):
            os.link(file.name, path)
    path.chmod(0o600)


def _find_named_token() -> str | None:
    """Returns the source of this machine's token for Ray; never the token itself.

    Raises:
        RunError: RAY_AUTH_TOKEN_PATH names a file without a token.
    """
    where, named = find_token(), os.environ.get("RAY_AUTH_TOKEN_PATH")
    if where is None and named:
        raise RunError(f"RAY_AUTH_TOKEN_PATH is {named}, where there is no token: correct it, or unset it")
    return where


def use_token() -> None:
    """Makes this process, and those that it starts, send the token of this machine, unless RAY_AUTH_MODE is
    set.

    Ray itself does so only for a cluster on this machine. A cluster that requires no token ignores it.

    Raises:
        RunError: RAY_AUTH_TOKEN_PATH names a file without a token.
    """
    if _find_named_token() is None or "RAY_AUTH_MODE" in os.environ:
        return
    private.show_token()
