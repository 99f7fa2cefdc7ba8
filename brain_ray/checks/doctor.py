"""Job doctor: checks an installation, a cluster and the locations a recipe needs, and prints a line for each
check."""

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence

from brain_ray.checks import cluster, machine, nodes
from brain_ray.checks.dashboard import check_dashboard
from brain_ray.checks.finding import Finding
from brain_ray.checks.packages import ROOT
from brain_ray.checks.upload_size import check_upload
from brain_ray.cli import complain, parse_or_explain
from brain_ray.cluster import connection, tokens
from brain_ray.config import Config
from brain_ray.data.sources.find import Source, given_source
from brain_ray.errors import RunError
from brain_ray.records import to_json
from brain_ray.runs import Run
from brain_ray.storage import refuse_keys_in
from brain_ray.storage_retries import delete_folder
from brain_ray.usage import OneLineParser

OWN = ("--address", "--json")
"""Options of the doctor that are not settings."""


def main(purpose: str, argv: Sequence[str], prog: str = "doctor.py") -> int:
    """Checks what a recipe and its settings need, and prints a line for each finding, or JSON with --json.

    Returns the exit code: 0, 1 with an error among the findings, 2 for a wrong command line.
    """
    try:
        refuse_keys_in(argv)
    except RunError as error:
        complain(error)
        return 2
    own, words = read_own(argv)
    config = parse_or_explain(prog, purpose, words, OWN)
    if isinstance(config, int):
        return config
    found: list[Finding] = []
    for finding in findings(config, own.address):
        found.append(finding)
        if not own.json:
            print(finding.line(), flush=True)
    levels = Counter(finding.level for finding in found)
    if own.json:
        print(json.dumps(to_json(found), indent=1))
    else:
        print(
            f"\n{len(found)} checks: {levels['ok']} ok, {levels['warning']} warning(s), "
            f"{levels['error']} error(s)"
        )
    return 1 if levels["error"] else 0


def read_own(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the doctor's own options, `json` and `address`, and the remaining words."""
    finder = OneLineParser(add_help=False)
    finder.add_argument("--json", action="store_true")
    finder.add_argument("--address")
    return finder.parse_known_args(list(argv))


def findings(config: Config, address: str | None) -> Iterator[Finding]:
    """Yields the findings of all checks, the quick ones first; those of a cluster only if there is one."""
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
    if address:
        os.environ["RAY_ADDRESS"] = address
    try:
        connection.connect()
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
    token = tokens.find_token()
    yield Finding(
        "token", "ok", f"found in {token}" if token else "none: Ray makes one where it starts itself"
    )
    run = Run(config.storage, config.name)
    existed = run.exists()
    problems, visits = nodes.visit_nodes(run, config, gpus=True)
    yield from problems
    if visits:
        yield from nodes.check_nodes(visits)
        source = given_source(config.data)
        places = nodes.check_places(run, config, visits, source=source)
        yield from places
        if any(found.name == "data" and found.level == "ok" for found in places):
            yield _count_files(config, source)
        yield from cluster.check_cluster(config)
        yield cluster.check_scoring(config.evaluate)
        yield from cluster.check_gpus(config, visits)
    if not existed and run.exists():
        delete_folder(run.fs, run.path())


def _count_files(config: Config, source: Source | None) -> Finding:
    if source is None:
        drawn = config.data.phantoms
        number = len(config.data.classes) * (drawn.train_per_class + drawn.test_per_class)
        return Finding("files", "ok", f"about {number} phantoms are drawn when preparation starts")
    try:
        files = source.files().files
    except RunError as error:
        return Finding("files", "error", str(error))
    counts = files.groupby("source_split").size()
    text = ", ".join(
        f"{count} for {split or 'any split'}" for split, count in counts.sort_index(ascending=False).items()
    )
    return Finding("files", "ok", f"{text}, in {len(config.data.classes)} classes")
