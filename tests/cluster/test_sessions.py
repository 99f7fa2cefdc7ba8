"""Old session folders of Ray: which are deleted, and which must not be."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from brain_ray.cluster.sessions import SESSION_KEPT_S, SESSION_MARK, mark_session, remove_old_sessions

OLD = time.time() - SESSION_KEPT_S - 3600


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session that a process of ours has made two days ago, and that has ended."""
    folder = tmp_path / "session_2026-01-02_03-04-05_678901_4242"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "raylet.out").write_text("its end\n")
    maker = (
        "import sys, pathlib\n"
        "from brain_ray.cluster.sessions import mark_session\n"
        "mark_session(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", maker, str(folder)], check=True)
    age(folder)
    return folder


def age(folder: Path) -> None:
    for path in (folder / SESSION_MARK, *(folder / "logs").glob("*")):
        os.utime(path, (OLD, OLD))


def change(folder: Path, **facts: object) -> None:
    content = json.loads((folder / SESSION_MARK).read_text())
    (folder / SESSION_MARK).write_text(json.dumps({**content, **facts}))
    age(folder)


def test_an_old_session_of_ours_that_has_ended_is_deleted(session: Path) -> None:
    (session.parent / "session_latest").symlink_to(session)
    assert remove_old_sessions(session.parent) == [session]
    assert not session.exists()


def test_one_whose_number_another_process_has_by_now_is_deleted_too(session: Path) -> None:
    change(session, pid=os.getpid())
    assert remove_old_sessions(session.parent) == [session]


def marked_by_this_process(session: Path) -> None:
    mark_session(session)
    age(session)


def marked_by_nobody(session: Path) -> None:
    (session / SESSION_MARK).write_text("[]")
    age(session)


KEPT: dict[str, Callable[[Path], object]] = {
    "no mark": lambda session: (session / SESSION_MARK).unlink(),
    "a mark that is none": marked_by_nobody,
    "young": lambda session: os.utime(session / SESSION_MARK),
    "a young log": lambda session: os.utime(session / "logs" / "raylet.out"),
    "its process runs": marked_by_this_process,
    "of another container": lambda session: change(session, pids_of="pid:[1]"),
}


@pytest.mark.parametrize("case", KEPT.values(), ids=KEPT)
def test_all_others_stay(case: Callable[[Path], object], session: Path) -> None:
    case(session)
    assert remove_old_sessions(session.parent) == []
    assert (session / "logs" / "raylet.out").exists()


def test_one_that_a_process_of_ray_still_names_stays(session: Path) -> None:
    words = [sys.executable, "-c", "input()", f"--session-dir={session}"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as left:
        assert remove_old_sessions(session.parent) == []
        left.communicate(b"\n")
    assert remove_old_sessions(session.parent) == [session]


def test_what_is_only_linked_to_stays(session: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    session.rename(elsewhere)
    session.symlink_to(elsewhere)
    assert remove_old_sessions(tmp_path) == []
    assert elsewhere.exists()
