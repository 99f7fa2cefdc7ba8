"""Old session folders of Ray: deletes those of ended local jobs; Ray itself keeps all forever."""

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

SESSION_MARK = "brain_ray.json"
"""File in a session's folder that names the process of brain_ray that made it."""

SESSION_KEPT_S = 24 * 3600.0
"""Seconds for which the logs of a session are kept after their last line: an error may have named them."""


def mark_session(session: Path) -> None:
    """Marks a session's folder as made by this process."""
    with suppress(OSError):
        own = {"pid": os.getpid(), "started": psutil.Process().create_time(), "pids_of": _namespace()}
        (session / SESSION_MARK).write_text(json.dumps(own))


def remove_old_sessions(parent: Path) -> list[Path]:
    """Deletes session folders of this user's ended local jobs from Ray's temporary folder; returns their
    paths.

    Deletes only a folder that `mark_session` has marked, of this user and this container, whose process has
    ended, which no other process names on its command line (as Ray's own do), and whose logs have not changed
    for `SESSION_KEPT_S`. Folders that cannot be read or deleted stay.
    """
    removed = []
    for mark in parent.glob(f"session_*/{SESSION_MARK}"):
        session = mark.parent
        with suppress(OSError, ValueError, KeyError, TypeError):
            own = not session.is_symlink() and session.stat().st_uid == os.getuid()
            if own and _is_old(session) and _has_ended(json.loads(mark.read_text()), session.name):
                shutil.rmtree(session)
                removed.append(session)
    return removed


def _is_old(session: Path) -> bool:
    files = [session / SESSION_MARK, *(session / "logs").glob("*")]
    return time.time() - max(file.lstat().st_mtime for file in files) > SESSION_KEPT_S


def _has_ended(made_by: dict[str, Any], session: str) -> bool:
    """Returns whether the process that made a session is gone, and all processes that name the session."""
    if made_by["pids_of"] != _namespace():
        return False  # of a container with the same /tmp, whose processes are not visible here
    with suppress(psutil.NoSuchProcess):
        # Another process may have the same number by now.
        if abs(psutil.Process(made_by["pid"]).create_time() - made_by["started"]) < 1.0:
            return False
    lines = (process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"]))
    return not any(session in word for line in lines for word in line)


def _namespace() -> str:
    """Returns the name of the namespace of this process's number; "" if Linux does not give it."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""
