"""Command line of jobs/submit.py: its own options, and the job's words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from brain_ray.checks.finding import Finding
from brain_ray.cli import parse, take_value
from brain_ray.config import PHANTOMS, Config
from brain_ray.recipes import RECIPES
from brain_ray.usage import UsageError

STAGES = ("prepare", "train", "tune", "export", "evaluate", "pipeline", "doctor")
"""Jobs whose command line is a recipe and settings."""

JOBS = (*STAGES, "control", "predict")

JOBS_OWN = {"pipeline": {"--tune"}, "doctor": {"--json"}}
"""Options of a job that are not settings."""

ENVIRONMENTS = ("auto", "image", "pip", "uv")

VALUES = ("--address", "--environment", "--id", "--follow")
SWITCHES = ("--detach", "--debug")


@dataclass(frozen=True)
class Order:
    """Parsed command line of submit."""

    job: str = ""
    """One of `JOBS`; "" if a job is only to be followed."""
    words: tuple[str, ...] = ()
    """The job's own command line."""
    own: dict[str, str] = field(default_factory=dict)
    """Given values of the options in `VALUES`, by name."""
    detach: bool = False
    debug: bool = False

    @property
    def settings(self) -> list[str]:
        """The job's words without options that are not settings.

        Raises:
            UsageError: such an option has no value.
        """
        _, words = take_value(self.words, "--bundle") if self.job == "evaluate" else (None, self.words)
        return [word for word in words if word not in {"--debug", *JOBS_OWN.get(self.job, ())}]


def read_order(argv: Sequence[str]) -> Order:
    """Separates submit's own options from the job's words; after `--`, all words are the job's.

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
    """Parses a stage's command line like the job itself; returns None for other jobs.

    The stored settings of a run that is resumed are on the cluster; so its words are accepted if they are
    valid with any recipe.

    Raises:
        UsageError: the error that the job would report.
        SystemExit: after `--help`, which is printed here.
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
    """Returns whether a run is named and no recipe: the job then uses the run's stored settings, if there are
    any."""
    words = order.settings
    named = any(word == "--name" or word.startswith("--name=") for word in words)
    return order.job in STAGES and named and words[0].startswith("-")


def check_paths(config: Config) -> list[Finding]:
    """Returns warnings of settings with paths, which could be mistaken for paths on this machine."""
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
