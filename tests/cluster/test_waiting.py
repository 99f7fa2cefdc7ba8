"""Waits for room: what is said, when they end, and that work which waits in vain is ended."""

import threading
import time
import weakref
from collections.abc import Callable, Sequence

import pytest
import ray
from support.messages import messages_to

from brain_ray.cluster.waiting import RoomWatch, WaitLines, give_up_without_nodes
from brain_ray.errors import RunError
from brain_ray.interrupts import announced

NO_CPU = RunError("no CPU: add nodes")
COMING = "2 node(s) can be started"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def finding(looks: Sequence[str | Exception]) -> Callable[[], str]:
    """Make a check that finds one after the other; the last stays."""
    left = list(looks)

    def check() -> str:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    return check


def lines_of(watch: RoomWatch, clock: Clock, looks: int, every_s: float = 1.0) -> list[str]:
    """Look so often, and return what each look says."""
    lines = []
    for _ in range(looks):
        lines.append(watch.look())
        clock.now += every_s
    return lines


def test_where_there_is_room_nothing_is_said() -> None:
    clock = Clock()
    watch = RoomWatch("x", finding([""]), clock=clock)
    assert lines_of(watch, clock, 1000, 60) == [""] * 1000
    assert not watch.waits


def test_a_wait_where_nothing_starts_nodes_ends_after_a_minute_with_what_is_lacking() -> None:
    clock = Clock()
    watch = RoomWatch("x", finding(["", NO_CPU]), clock=clock)
    assert lines_of(watch, clock, 61) == ["", "waits up to 60 s for nodes: no CPU: add nodes", *[""] * 59]
    assert watch.waits
    with pytest.raises(RunError) as given_up:
        watch.look()
    assert (
        str(given_up.value)
        == "no room for x within 60 s: no CPU: add nodes; the same command goes on from here"
    )


def test_nodes_that_can_be_started_are_waited_for_longer() -> None:
    clock = Clock()
    watch = RoomWatch("x", finding([COMING]), clock=clock)
    assert lines_of(watch, clock, 30, 60) == [f"waits up to 1800 s for nodes: {COMING}", *[""] * 29]
    with pytest.raises(RunError, match=r"^no room for x within 1800 s: 2 node"):
        watch.look()


def test_each_wait_has_its_own_time() -> None:
    clock = Clock()
    watch = RoomWatch("x", finding([NO_CPU] * 50 + [""] + [NO_CPU]), clock=clock)
    begins = "waits up to 60 s for nodes: no CPU: add nodes"
    assert lines_of(watch, clock, 111) == [
        begins,
        *[""] * 49,
        "there is room again for x",
        begins,
        *[""] * 59,
    ]
    with pytest.raises(RunError):
        watch.look()


def test_what_is_lacking_is_said_again_when_it_changes() -> None:
    clock = Clock()
    looks = [RunError("no CPU on 2 nodes"), RunError("no CPU on 1 node"), COMING, COMING]
    watch = RoomWatch("x", finding(looks), patience_s=5, nodes_s=9, clock=clock)
    assert lines_of(watch, clock, 4) == [
        "waits up to 5 s for nodes: no CPU on 2 nodes",
        "waits up to 5 s for nodes: no CPU on 1 node",
        f"waits up to 9 s for nodes: {COMING}",
        "",
    ]


def test_the_time_goes_by_what_may_come_now() -> None:
    clock = Clock()
    watch = RoomWatch("x", finding([COMING] * 100 + [NO_CPU]), clock=clock)
    lines_of(watch, clock, 100)
    with pytest.raises(RunError, match="within 60 s: no CPU"):
        watch.look()


def test_whoever_waits_has_lines_of_their_own() -> None:
    clock = Clock()
    lines = WaitLines("asks for {what}", "there after {waited:.0f} s", "{lacking}", "{what} did not come")
    come, never, late = (
        RoomWatch("y", finding(looks), 5, clock, nodes_s=9, lines=lines)
        for looks in ([COMING] * 3 + [""], [RunError("{no} CPU")], [COMING])
    )
    assert lines_of(come, clock, 5) == ["asks for y", "", "", "there after 3 s", ""]
    assert lines_of(never, clock, 5) == ["asks for y", *[""] * 4]
    with pytest.raises(RunError, match=r"^\{no\} CPU$"):
        never.look()
    assert lines_of(late, clock, 9) == ["asks for y", *[""] * 8]
    with pytest.raises(RunError, match=r"^y did not come$"):
        late.look()


def test_work_that_waits_in_vain_is_ended() -> None:
    said: list[str] = []
    held = threading.Lock()
    held.acquire()
    start = time.monotonic()
    with (
        pytest.raises(RunError, match=r"^no room for x within 0\.2 s: no CPU: add nodes; the same command"),
        messages_to(said.append),
        give_up_without_nodes("x", finding(["", NO_CPU]), 0.2, 0.01),
    ):
        held.acquire()
    assert time.monotonic() < start + 5
    assert said == ["waits up to 0.2 s for nodes: no CPU: add nodes"]


def test_an_interrupt_that_python_ignores_is_raised_again(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        thing = threading.Event()
        cleared = weakref.ref(thing, lambda _: time.sleep(1))
        del thing
        assert cleared() is None
        time.sleep(5)

    with announced("interrupted"):
        with (
            pytest.raises(RunError, match="no room for x"),
            give_up_without_nodes("x", finding([NO_CPU]), 0.2, 0.01),
        ):
            work()
        assert capsys.readouterr().err == ""


def test_a_node_that_comes_in_time_lets_work_go_on() -> None:
    said: list[str] = []
    again = threading.Event()

    def take(message: str) -> None:
        said.append(message)
        if message.startswith("there is room"):
            again.set()

    away = ray.exceptions.RaySystemError("the head node does not answer")
    with messages_to(take), give_up_without_nodes("x", finding([NO_CPU, away, NO_CPU, ""]), 60, 0.01):
        assert again.wait(10)
    assert said == ["waits up to 60 s for nodes: no CPU: add nodes", "there is room again for x"]


def test_what_work_itself_ends_with_passes() -> None:
    with pytest.raises(KeyboardInterrupt), give_up_without_nodes("x", finding([""]), 0.2, 0.01):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), give_up_without_nodes("x", finding([""]), 0.2, 0.01):
        print(1 / 0)
