"""The command line of all jobs: a recipe's name, then any setting by its dotted name."""

import argparse
import contextlib
import difflib
import io
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence

import tyro
from pydantic import ValidationError

from brain_ray import interrupts, logs
from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.logs import log
from brain_ray.recipes import RECIPES
from brain_ray.runs import CONFIG, Run, flatten
from brain_ray.storage import refuse_keys, refuse_keys_in


class UsageError(ValueError):
    """A command line that says nothing usable; its text is one line."""


def parse(job: str, purpose: str, argv: Sequence[str]) -> Config:
    """Read `[RECIPE] [--setting value ...]` into a config; `--help` prints all settings and exits.

    Without a recipe, a run that exists goes on with its stored settings, a new one starts from `smoke`.

    Raises:
        UsageError: an unknown recipe or setting, a value that cannot be, or a URI with keys in it, which the
            text does not hold.
    """
    try:
        refuse_keys_in(argv)
    except RunError as error:
        raise UsageError(str(error)) from error
    base, options = _base(list(argv))
    if not {"-h", "--help"} & set(options):
        _check_names(options)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            config = tyro.cli(
                Config,
                default=base,
                args=options,
                prog=f"{job} {base.recipe}",
                description=_description(purpose),
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_one_line(stop, heard.getvalue())) from stop
    for name, value in flatten(config.model_dump(mode="json")).items():
        try:
            refuse_keys(str(value))
        except RunError as error:
            raise UsageError(f"{name} is {error}") from error
    return config


def parse_or_explain(job: str, purpose: str, argv: Sequence[str]) -> Config | int:
    """Do as `parse`; where that fails, say why in a line and return the process's exit code."""
    try:
        return parse(job, purpose, argv)
    except UsageError as error:
        complain(error)
        return 2
    except RunError as error:  # the storage, which is asked for the settings of a run that is there
        complain(error)
        return 1


def complain(error: object) -> None:
    """Writes an error, which may have several lines, on standard error."""
    with logs.to_console() if not log.handlers else contextlib.nullcontext():
        log.error(str(error))


def run_job(
    job: str,
    purpose: str,
    work: Callable[[Config], None],
    instead: Mapping[str, Callable[[Config], None]] | None = None,
) -> int:
    """Parse the process's command line, do the work, and turn what a person has to mend into one line.

    An option of `instead`, such as --tune, has other work done.

    Returns the process's exit code: 0, 1 after an error, 2 for a wrong command line.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # each line at once, into a log or a pipe as well
    argv = sys.argv[1:]
    debug = "--debug" in argv
    for option, other in (instead or {}).items():
        work = other if option in argv else work
    own = {"--debug", *(instead or {})}
    config = parse_or_explain(job, purpose, [word for word in argv if word not in own])
    if isinstance(config, int):
        return config
    words = "interrupted; the same command goes on from here"
    with logs.to_console(), interrupts.announced(words) as tell:
        try:
            work(config)
        except (KeyboardInterrupt, SystemExit):  # Ray Train answers Ctrl-C with exit code 0
            tell()
            return 1
        except Exception as error:
            if debug:
                raise
            complain(_explain(error))
            return 1
    return 0


def _explain(error: BaseException) -> str:
    """Return what a person has to mend, also where Ray brought it from a worker; else what happened."""
    inner: BaseException | None = error
    while inner is not None:
        within = getattr(inner, "cause", None)  # Ray's errors pose as their cause, with a trace for a text
        if isinstance(inner, RunError) and within is None:
            return str(inner)
        inner = within or inner.__cause__
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first} (unexpected: --debug shows the trace)"


def describe(config: Config) -> str:
    """Lay a config out for a terminal: all settings by their dotted names, a paragraph for each section."""
    sections: dict[str, list[str]] = {}
    for name, value in flatten(config.model_dump(mode="json")).items():
        shown = value if isinstance(value, str) else json.dumps(value)
        sections.setdefault(name.partition(".")[0] if "." in name else "", []).append(f"{name}={shown}")
    wrap = textwrap.TextWrapper(
        width=110, break_long_words=False, break_on_hyphens=False, subsequent_indent="  "
    )
    return "\n".join(wrap.fill(" ".join(entries)) for entries in sections.values())


def _base(argv: list[str]) -> tuple[Config, list[str]]:
    if argv and not argv[0].startswith("-"):
        if argv[0] not in RECIPES:
            raise UsageError(f"unknown recipe {argv[0]!r}{_nearest(argv[0], RECIPES)}")
        return RECIPES[argv[0]](), argv[1:]
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--storage", default=Config().storage)
    finder.add_argument("--name")
    known, _ = finder.parse_known_args(argv)
    run = Run(known.storage, known.name or "smoke")
    if known.name and run.exists(*CONFIG):
        return Config.model_validate(run.read_json(*CONFIG)["config"]), argv
    return RECIPES["smoke"](), argv


def _check_names(options: Sequence[str]) -> None:
    names = [f"--{name}" for name in _settings(Config)]
    for option in options:
        name = option.partition("=")[0].replace("_", "-")
        if option.startswith("--") and name not in names:
            raise UsageError(f"unknown setting {option.partition('=')[0]}{_nearest(name, names)}")


def _settings(model: type, prefix: str = "") -> list[str]:
    names = []
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        inner = field.annotation
        dotted = f"{prefix}{name}".replace("_", "-")
        names += _settings(inner, f"{prefix}{name}.") if hasattr(inner, "model_fields") else [dotted]
    return [name for name in names if name != "recipe"]


def _nearest(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(words)}"


def _one_line(stop: SystemExit, heard: str) -> str:
    """Say in one line what tyro found wrong: from pydantic's error where it is one, else from tyro's box."""
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__context__
    lines = [line.strip("│╭╰─╮╯|+- ") for line in heard.splitlines()]  # ASCII on plain terminals
    text = " ".join(_first_paragraph(lines[1:]))
    if cause is None:
        choice = re.search(r"invalid choice '(.*?)' for argument '(.*?)'. Expected one of \((.*?)\)", text)
        if choice:
            value, name, choices = choice.groups()
            known = re.findall(r"'(.+?)'", choices)
            return f"{name} cannot be {value!r}{_nearest(value, known)}"
        return text.removeprefix("Error parsing ")
    where = text.removeprefix("Error parsing ").partition(":")[0].strip("-")
    found = cause.errors()[0]
    name = ".".join([*([where] if where != "Config" else []), *map(str, found["loc"])])
    message = found["msg"].removeprefix("Value error, ")
    shown = "" if found["type"] == "value_error" else f", found {found['input']!r}"
    prefix = f"--{name.replace('_', '-')}: " if name else ""
    return f"{prefix}{message[0].lower()}{message[1:]}{shown}"


def _first_paragraph(lines: Sequence[str]) -> list[str]:
    started = itertools.dropwhile(lambda line: not line, lines)
    return list(itertools.takewhile(bool, started))


def _description(purpose: str) -> str:
    lines = [purpose, "", "Recipes, the first word (default: smoke, or what an existing run was made with):"]
    for name, recipe in RECIPES.items():
        lines.append(f"  {name:<10} {(recipe.__doc__ or '').splitlines()[0]}")
    lines += [
        "",
        "--debug shows the trace of an error. Any setting below can be given, such as --train.epochs 3.",
    ]
    return "\n".join(lines)
