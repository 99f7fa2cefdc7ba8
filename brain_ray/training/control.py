"""Job control: sends a command to a running training."""

from collections.abc import Sequence

import ray

from brain_ray.cli import complain
from brain_ray.cluster import connection
from brain_ray.errors import RunError
from brain_ray.storage import refuse_keys_in
from brain_ray.training.commands import parse_command
from brain_ray.training.run_actor import NAMESPACE, PREFIX
from brain_ray.usage import OneLineParser


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
