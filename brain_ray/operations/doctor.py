"""Looks for what is wrong with an installation, a cluster and a run's places, and says what to do."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from brain_ray import cluster
from brain_ray.cli import UsageError, parse
from brain_ray.config import PHANTOMS, Config
from brain_ray.data.index import find_files
from brain_ray.operations import machine, nodes
from brain_ray.operations.client import check_dashboard
from brain_ray.operations.findings import Finding
from brain_ray.operations.upload import check_upload
from brain_ray.runs import Run, RunError, resolve

ROOT = Path(__file__).parents[2]
"""Folder that a job carries to a cluster: where jobs/ and brain_ray/ stand."""


def main(purpose: str, argv: Sequence[str]) -> int:
    """Check what a recipe and its settings need, and print a line for each finding, or JSON with --json.

    Returns the exit code: 0, 1 with an error among the findings, 2 for a wrong command line.
    """
    words = list(argv)
    as_json = _take(words, "--json")
    address = _take_value(words, "--address")
    if address:
        os.environ["RAY_API_SERVER_ADDRESS" if "://" in address else "RAY_ADDRESS"] = address
    try:
        config = parse("doctor.py", purpose, words)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found: list[Finding] = []
    for finding in findings(config, address):
        found.append(finding)
        if not as_json:
            print(finding.line(), flush=True)
    levels = Counter(finding.level for finding in found)
    if as_json:
        print(json.dumps([finding.to_json() for finding in found], indent=1))
    else:
        print(
            f"\n{len(found)} checks: {levels['ok']} ok, {levels['warning']} warning(s), "
            f"{levels['error']} error(s)"
        )
    return 1 if levels["error"] else 0


def findings(config: Config, address: str | None) -> Iterator[Finding]:
    """Yield what the checks find, the cheap ones first; what needs a cluster only if there is one."""
    yield machine.check_python()
    yield from machine.check_packages()
    if (ROOT / "jobs").is_dir():
        yield check_upload(ROOT)
    if address and "://" in address:
        over_http = check_dashboard(address)
        yield from over_http
        if any(found.level == "error" for found in over_http):
            return
        yield Finding(
            "nodes",
            "warning",
            f"{address} takes jobs, and only a job sees its nodes",
            f"python jobs/submit.py doctor {config.recipe} --address {address}",
        )
        return
    try:
        cluster.connect()
    except RunError as error:
        yield Finding(
            "ray", "error", str(error), "start it, or unset RAY_ADDRESS to check this machine alone"
        )
        return
    yield from _on_cluster(config)


def _on_cluster(config: Config) -> Iterator[Finding]:
    import ray

    where = os.environ.get("RAY_ADDRESS", "started for this check, on this machine")
    yield Finding("ray", "ok", f"{ray.__version__}, {where}")
    token = cluster.find_token()
    yield Finding(
        "token", "ok", f"found in {token}" if token else "none: Ray makes one where it starts itself"
    )
    run = Run(config.storage, config.name)
    existed = run.exists()
    problems, visits = nodes.visit_nodes(run, config, gpus=True)
    yield from problems
    if visits:
        yield from nodes.check_nodes(visits)
        places = nodes.check_places(run, config, visits)
        yield from places
        if any(found.name == "data" and found.level == "ok" for found in places):
            yield from _checked("data", lambda: _count_files(config))
        yield from nodes.check_cluster(config.train)
        yield nodes.check_scoring(config.evaluate)
        yield from nodes.check_gpus(config, visits)
    if not existed:
        run.fs.delete_dir(run.path())


def _count_files(config: Config) -> Iterable[Finding]:
    if config.data.source == PHANTOMS:
        drawn = config.data.phantoms
        number = len(config.data.classes) * (drawn.train_per_class + drawn.test_per_class)
        return [Finding("files", "ok", f"about {number} phantoms are drawn when preparation starts")]
    index = find_files(resolve(config.data.source), config.data)
    counts = index.groupby("source_split").size()
    text = ", ".join(f"{count} for {split}" for split, count in counts.sort_index(ascending=False).items())
    return [Finding("files", "ok", f"{text}, in {len(config.data.classes)} classes")]


def _checked(name: str, check: Callable[[], Iterable[Finding]]) -> Iterable[Finding]:
    try:
        return check()
    except RunError as error:
        return [Finding(name, "error", str(error), "mend what it says")]


def _take(words: list[str], option: str) -> bool:
    """Remove an option from a command line; tell whether it was there."""
    found = option in words
    while option in words:
        words.remove(option)
    return found


def _take_value(words: list[str], option: str) -> str | None:
    """Remove an option with its value from a command line, and return the value."""
    for position, word in enumerate(words):
        if word == option and position + 1 < len(words):
            value = words[position + 1]
            del words[position : position + 2]
            return value
        if word.startswith(f"{option}="):
            del words[position]
            return word.partition("=")[2]
    return None
