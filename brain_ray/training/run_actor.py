"""The actor beside a training: it keeps the operator's commands, and passes messages to the driver."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import ray

from brain_ray.cluster.capacity import on_this_node
from brain_ray.runs import OPERATOR, Run
from brain_ray.training.commands import Command, parse_command
from brain_ray.training.messages import Message

NAMESPACE = "brain_ray"
PREFIX = "operator of "


class RunActor:
    """Actor that keeps the operator's commands to a run until its first worker takes them, and the messages
    of workers and of Ray Train's controller until the driver takes them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        given = run.read_json(*OPERATOR)["words"] if run.exists(*OPERATOR) else []
        self._commands = [Command(**command) for command in given]
        self._status = "no epoch has ended yet"
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()

    def say(self, text: Sequence[str]) -> str:
        """Keeps a command, also in operator.json; returns the answer for the operator.

        Raises:
            RunError: it is no known command.
        """
        command = parse_command(text, datetime.now(UTC).isoformat(timespec="microseconds"))
        self._commands.append(command)
        self._run.write_json({"words": [asdict(command) for command in self._commands]}, *OPERATOR)
        return f"{command}: said, and heard at the end of this epoch"

    def commands_since(self, heard: str) -> list[Command]:
        """Returns the commands given after a time, in order."""
        return [command for command in self._commands if command.at > heard]

    def note(self, status: str) -> None:
        """Keeps the line of the last epoch."""
        self._status = status

    def status(self) -> str:
        """Returns the line of the last epoch, and a line for each command with its time."""
        return "\n".join([self._status, *(f"{command.at[:19]}Z  {command}" for command in self._commands)])

    def put(self, message: Message | None) -> None:
        """Keeps a message for the driver; None: there will be no more."""
        self._messages.put_nowait(message)

    async def get(self) -> Message | None:
        """Returns the next message, when there is one."""
        return await self._messages.get()


@dataclass(frozen=True)
class Outbox:
    """Where workers and Ray Train's controller put messages to the driver."""

    actor: Any
    """Handle of a `RunActor`."""

    def put(self, message: Message | None) -> None:
        """Returns when the actor has the message."""
        ray.get(self.actor.put.remote(message))


@contextmanager
def run_actor(run: Run, take: Callable[[Message], None]) -> Iterator[Any]:
    """Starts a run's `RunActor`, which `send_command` finds by the run's name; yields its handle.

    `take` gets the messages in this process, in a thread, without Ray's log prefixes. Those that came before
    the end are taken before this returns.
    """
    options = {"name": f"{PREFIX}{run.uri()}", "namespace": NAMESPACE, "num_cpus": 0, "max_restarts": -1}
    actor = ray.remote(RunActor).options(scheduling_strategy=on_this_node(), **options).remote(run)

    def take_messages() -> None:
        while (message := ray.get(actor.get.options(max_task_retries=-1).remote())) is not None:
            take(message)

    thread = threading.Thread(target=take_messages, daemon=True)
    thread.start()
    try:
        yield actor
    finally:
        Outbox(actor).put(None)
        thread.join()
        ray.kill(actor)
