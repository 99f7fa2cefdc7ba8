"""Job control: sends a command to a running training; the actor that keeps commands."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import ray

from brain_ray.cli import complain
from brain_ray.cluster import connection
from brain_ray.cluster.capacity import on_this_node
from brain_ray.errors import RunError
from brain_ray.runs import OPERATOR, Run
from brain_ray.storage import refuse_keys_in
from brain_ray.training.commands import Command, parse_command
from brain_ray.usage import OneLineParser

NAMESPACE = "brain_ray"
PREFIX = "operator of "


class ControlActor:
    """Actor that keeps the operator's commands to a run until its first worker takes them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        said = run.read_json(*OPERATOR)["words"] if run.exists(*OPERATOR) else []
        self._words = [Command(**word) for word in said]
        self._status = "no epoch has ended yet"

    def say(self, text: Sequence[str]) -> str:
        """Keeps a command, also in operator.json; returns the answer for the operator.

        Raises:
            RunError: it is no known command.
        """
        word = parse_command(text, datetime.now(UTC).isoformat(timespec="microseconds"))
        self._words.append(word)
        self._run.write_json({"words": [asdict(word) for word in self._words]}, *OPERATOR)
        return f"{word}: said, and heard at the end of this epoch"

    def commands_since(self, heard: str) -> list[Command]:
        """Returns the commands given after a time, in order."""
        return [word for word in self._words if word.at > heard]

    def note(self, status: str) -> None:
        """Keeps the line of the last epoch."""
        self._status = status

    def status(self) -> str:
        """Returns the line of the last epoch, and a line for each command with its time."""
        return "\n".join([self._status, *(f"{word.at[:19]}Z  {word}" for word in self._words)])


@contextmanager
def control_actor(run: Run) -> Iterator[Any]:
    """Starts a run's `ControlActor`, which `send_command` finds by the run's name; yields its handle."""
    options = {"name": f"{PREFIX}{run.uri()}", "namespace": NAMESPACE, "num_cpus": 0, "max_restarts": -1}
    operator = ray.remote(ControlActor).options(scheduling_strategy=on_this_node(), **options).remote(run)
    try:
        yield operator
    finally:
        ray.kill(operator)


def main(purpose: str, argv: Sequence[str], prog: str = "control.py") -> int:
    """Sends the command of a command line to a run, and prints the answer.

    Returns the exit code: 0, 1 where nothing was sent, 2 for a wrong command line.
    """
    parser = OneLineParser(prog=prog, description=purpose)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("word", metavar="WORD", nargs="+")
    given = parser.parse_args(argv)
    try:
        refuse_keys_in(argv)
        if given.word != ["status"]:
            parse_command(given.word, "")
    except RunError as error:
        complain(error)
        return 2
    try:
        connection.join()
        print(send_command(given.run, given.word))
    except RunError as error:
        complain(error)
        return 1
    return 0


def send_command(name: str, text: Sequence[str]) -> str:
    """Sends a command to the training of a run, named by name, path or URI; returns the answer.

    Raises:
        RunError: no such run is training, or several are, or it is no known command.
    """
    training = [
        actor["name"].removeprefix(PREFIX)
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["namespace"] == NAMESPACE and actor["name"].startswith(PREFIX)
    ]
    found = [uri for uri in training if uri == name or uri.partition("?")[0].endswith(f"/{name}")]
    if len(found) != 1:
        there = ", ".join(training) or "none"
        what = f"no run named {name} is" if not found else f"{len(found)} runs named {name} are"
        raise RunError(f"{what} training on this cluster; those that are: {there}")
    operator = ray.get_actor(f"{PREFIX}{found[0]}", namespace=NAMESPACE)
    if list(text) == ["status"]:
        return str(ray.get(operator.status.remote()))
    parse_command(text, "")  # refused here, and not with a worker's trace
    return str(ray.get(operator.say.remote(list(text))))
