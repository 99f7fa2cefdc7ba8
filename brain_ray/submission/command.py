"""Command line of jobs/submit.py: its own options, and the job's words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from brain_ray.checks.finding import Finding
from brain_ray.cli import parse
from brain_ray.config import PHANTOMS, Config
from brain_ray.recipes import RECIPES
from brain_ray.usage import UsageError

STAGES = ("prepare", "train", "tune", "export", "evaluate", "pipeline", "doctor")
"""Jobs whose command line is a recipe and settings."""

JOBS = (*STAGES, "control", "predict")

JOBS_OWN = {"pipeline": {"--tune"}, "doctor": {"--json"}}
"""Words of a job that are no settings."""

ENVIRONMENTS = ("auto", "image", "pip", "uv")

VALUES = ("--address", "--environment", "--id", "--follow")
SWITCHES = ("--detach", "--debug")


@dataclass(frozen=True)
class Order:
    """What a command line asks for."""

    job: str = ""
    """One of `JOBS`; "" where a job is only to be followed."""
    words: tuple[str, ...] = ()
    """The job's own command line."""
    own: dict[str, str] = field(default_factory=dict)
    """Values of `VALUES` by their names, where they are given."""
    detach: bool = False
    debug: bool = False

    @property
    def settings(self) -> list[str]:
        """The job's words without those that are no settings."""
        return [word for word in self.words if word not in {"--debug", *JOBS_OWN.get(self.job, ())}]


def read_order(argv: Sequence[str]) -> Order:
    """Tell a command line's own words from the job's; after `--`, all are the job's.

    Raises:
        UsageError: no such job, an option without its value, an unknown environment or an impossible id.
    """
    own: dict[str, str] = {}
    switches: set[str] = set()
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name, mark, value = word.partition("=")
        if word == "--":
            rest += words
        elif name in VALUES:
            own[name] = value if mark else next(words, "")
            if not own[name]:
                raise UsageError(f"{name} needs a value")
        elif word in SWITCHES:
            switches.add(word)
        else:
            rest.append(word)
    _check_own(own)
    debug = "--debug" in switches
    if "--follow" in own:
        if rest:
            raise UsageError(f"--follow takes up a job that runs; {rest[0]!r} has no place there")
        return Order(own=own, debug=debug)
    job = _job(rest)
    passed = ("--debug",) if debug and job in STAGES else ()
    return Order(job, (*rest[1:], *passed), own, "--detach" in switches, debug)


def _job(rest: Sequence[str]) -> str:
    expected = f"expected {', '.join(JOBS[:-1])} or {JOBS[-1]}"
    if not rest or rest[0].startswith("-"):
        raise UsageError(f"which job? {expected}, before its own words")
    job = rest[0].removeprefix("./").removeprefix("jobs/").removesuffix(".py")
    if job not in JOBS:
        raise UsageError(f"no job is called {rest[0]!r}: {expected}")
    return job


def _check_own(own: dict[str, str]) -> None:
    chosen = own.get("--environment", "auto")
    if chosen not in ENVIRONMENTS:
        raise UsageError(f"--environment cannot be {chosen!r}: expected {', '.join(ENVIRONMENTS)}")
    if "--id" in own and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", own["--id"]):
        raise UsageError(f"--id is {own['--id']!r}: expected letters, digits, dots, dashes and underscores")


def read_settings(order: Order) -> Config | None:
    """Read a stage's command line as the job will; None of other jobs.

    A run that goes on with its stored settings has them on the cluster: its words are right if they are
    right for any recipe.

    Raises:
        UsageError: what the job would say.
        SystemExit: after `--help`, which is answered here.
    """
    words = order.settings
    if order.job not in STAGES:
        return None
    name, purpose = f"{order.job}.py", f"jobs/{order.job}.py, as it is submitted."
    if not goes_on(order):
        return parse(name, purpose, words)
    first: UsageError | None = None
    for recipe in RECIPES:
        try:
            return parse(name, purpose, [recipe, *words])
        except UsageError as error:
            first = first or error
    raise first or UsageError("there is no recipe")


def goes_on(order: Order) -> bool:
    """Tell whether a run is named and no recipe: the job takes what is stored with it, if anything."""
    words = order.settings
    named = any(word == "--name" or word.startswith("--name=") for word in words)
    return order.job in STAGES and named and words[0].startswith("-")


def check_paths(config: Config) -> list[Finding]:
    """Warn of settings that name a path where somebody may think of this machine."""
    found = []
    named = {
        "storage": config.storage,
        "data.source": "" if config.data.source == PHANTOMS else config.data.source,
        "model.weights": "" if config.model.weights in ("imagenet", "none") else config.model.weights,
    }
    for name, value in named.items():
        if not value or ("://" in value and not value.startswith("file://")):
            continue
        text = f"{value} is a path on the cluster's machines, not on this one"
        cure = "give a URI (s3://, gs://), or a folder that all of them mount"
        if not value.startswith(("/", "~", "file://")):
            text += ", in the job's folder, which Ray deletes"
        found.append(Finding(name, "warning", text, cure))
    return found
