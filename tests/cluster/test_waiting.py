"""Work that waits for nodes is ended in time, and work that does not is left alone."""

import threading
import time
import weakref
from collections.abc import Sequence

import pytest
from support.messages import messages_to

from brain_ray.cluster import waiting
from brain_ray.cluster.waiting import bounded
from brain_ray.errors import RunError
from brain_ray.interrupts import announced


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 0.01)
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.2)


def cluster_of(monkeypatch: pytest.MonkeyPatch, looks: Sequence[str | RunError]) -> None:
    """Have looks at the cluster find one after the other; the last stays."""
    left = list(looks)

    def look(*_: object) -> str:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, RunError):
            raise found
        return found

    monkeypatch.setattr(waiting, "check_now_or_later", look)


def test_work_that_waits_in_vain_ends_with_what_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_of(monkeypatch, ["", RunError("no CPU: add nodes")])
    said: list[str] = []
    held = threading.Lock()
    held.acquire()
    start = time.monotonic()
    with (
        pytest.raises(RunError, match=r"^no room for x within 0\.2 s: no CPU: add nodes; the same command"),
        messages_to(said.append),
        bounded("x", lambda _: None),
    ):
        held.acquire()
    assert time.monotonic() < start + 5
    assert said == ["waits up to 0.2 s for nodes: no CPU: add nodes"]


def test_an_interrupt_that_python_ignores_is_raised_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster_of(monkeypatch, [RunError("no CPU")])

    def work() -> None:
        thing = threading.Event()
        cleared = weakref.ref(thing, lambda _: time.sleep(1))
        del thing
        assert cleared() is None
        time.sleep(5)

    with announced("interrupted"):
        with pytest.raises(RunError, match="no room for x"), bounded("x", lambda _: None):
            work()
        assert capsys.readouterr().err == ""


def test_a_node_that_comes_in_time_lets_work_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_of(monkeypatch, [RunError("no CPU")] * 3 + [""])
    said: list[str] = []
    with messages_to(said.append), bounded("x", lambda _: None):
        time.sleep(0.5)
    assert said == ["waits up to 0.2 s for nodes: no CPU", "there is room again for x"]


def test_nodes_that_an_autoscaler_starts_are_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_of(monkeypatch, ["2 node(s) can be started"])
    said: list[str] = []
    with messages_to(said.append), bounded("x", lambda _: None):
        time.sleep(0.5)
    assert said == ["waits up to 1800 s for nodes: 2 node(s) can be started"]


def test_what_work_itself_ends_with_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_of(monkeypatch, [""])
    with pytest.raises(KeyboardInterrupt), bounded("x", lambda _: None):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), bounded("x", lambda _: None):
        print(1 / 0)
