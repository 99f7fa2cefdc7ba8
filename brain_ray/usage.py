"""Parses command lines: errors of one line, and help on the settings in pages."""

import argparse
import contextlib
import io
import itertools
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import tyro
from pydantic import BaseModel, ValidationError, create_model

from brain_ray.config import Config, Settings
from brain_ray.errors import nearest, printable
from brain_ray.recipes import RECIPES

Model = TypeVar("Model", bound=BaseModel)

OFTEN = ("data.source", "storage", "name", "model.backbone", "model.weights", "train.epochs",
         "train.batch_size", "train.num_workers", "train.use_gpu")  # fmt: skip
"""Settings that the first page of help shows."""

WIDTH = 110
"""Columns of the first page of help."""


class UsageError(ValueError):
    """A wrong command line; its text is one line."""


class OneLineParser(argparse.ArgumentParser):
    """ArgumentParser without abbreviations; its errors are one line and name the closest option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._words: Sequence[str] = ()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses arguments like the base class, and keeps them for `error`."""
        self._words = list(args or ())
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Prints one line, of an unknown option before other errors, and ends with exit code 2."""
        known = re.findall(r"--[\w-]+", self.format_usage())
        words = itertools.takewhile(lambda word: word != "--", self._words)
        unknown = [word.partition("=")[0] for word in words if re.match("--[a-zA-Z]", word)]
        unknown = [option for option in unknown if option not in (*known, "--help")]
        if unknown and known:
            message = f"unknown option {unknown[0]}{nearest(unknown[0], known)}"
        self.exit(2, f"error: {printable(message)}\n")


def read_settings(
    model: type[Model],
    words: Sequence[str],
    prog: str,
    description: str,
    default: Model | None = None,
    more: Sequence[str] = (),
) -> Model:
    """Reads `--setting value ...` into a model; `--help` prints all of its settings and exits.

    Args:
        model: a tree of settings.
        words: the command line.
        prog: the command as typed, before the words.
        description: first paragraph of the help.
        default: values of settings that are not given; None: the model's own.
        more: other options of the job, to suggest if one is misspelt.

    Raises:
        UsageError: an unknown setting, a missing one, or a value that is not allowed.
        SystemExit: after `--help`.
    """
    if not {"-h", "--help"} & set(words):
        _check_names(words, [*(f"--{name}" for name in setting_names(model)), *more])
    tyro._experimental_options["ansi_codes"] = not os.environ.get("NO_COLOR")  # no-color.org
    _join_lines(model)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            return tyro.cli(
                model,
                args=words,
                prog=prog,
                description=description,
                config=(tyro.conf.FlagConversionOff,),
                default=tyro.MISSING_NONPROP if default is None else default,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_one_line(stop, heard.getvalue(), model.__name__)) from stop


def setting_names(model: type[BaseModel]) -> list[str]:
    """Returns the dotted names of a model's settings, written with dashes."""
    return [name.replace("_", "-") for name, _ in _fields(model) if name != "recipe"]


def print_help(prog: str, purpose: str, base: Config, topic: str) -> None:
    """Prints a page of help on the settings of `Config`, with the default values of `base`.

    `topic` is "" for the first page, a section's name for its settings, or `all`.

    Raises:
        UsageError: the topic is unknown.
    """
    sections = _sections()
    if not topic:
        print(_first_page(prog, purpose, base))
        return
    if topic not in (*sections, "all"):
        raise UsageError(f"--help knows no section {topic!r}{nearest(topic, [*sections, 'all'])}")
    model: type[BaseModel] = Config
    values: BaseModel = base
    if topic != "all":
        field: Any = (sections[topic], getattr(base, topic))
        model = create_model("Config", __base__=Settings, **{topic: field})
        values = model()
    with contextlib.suppress(SystemExit):
        text = f"{purpose.partition(chr(10))[0]}\n\nSettings; the defaults are those of {base.recipe}:"
        read_settings(model, ["--help"], f"{prog} [RECIPE]", text, values)


def _first_page(prog: str, purpose: str, base: Config) -> str:
    lines = [f"usage: {prog} [RECIPE] [--setting VALUE ...]", "", purpose, ""]
    lines.append("Recipes, as the first word (default: smoke, or the settings of the existing run):")
    lines += _table((name, str(recipe.__doc__).partition("\n")[0]) for name, recipe in RECIPES.items())
    lines += ["", f"Often used settings, with their values in {base.recipe}:"]
    texts = dict(_fields(Config))
    lines += _table((_option(name, base), _sentence(texts[name])) for name in OFTEN)
    lines += ["", "All settings, by section:"]
    pages = [
        (f"--help {name}", f"{_sentence(model.__doc__ or '')} ({len(setting_names(model))} settings)")
        for name, model in _sections().items()
    ]
    lines += _table([*pages, ("--help all", "All of them")])
    lines += ["", "--debug prints all settings at the start, and the trace of an error."]
    return "\n".join(lines)


def _option(name: str, base: Config) -> str:
    value: Any = base
    for part in name.split("."):
        value = getattr(value, part)
    return f"--{name.replace('_', '-')} {value}"


def _table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yields lines with names and texts in two columns."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        start = f"  {name:<{width}}  "
        yield textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def _sentence(text: str) -> str:
    """Returns a docstring's first sentence as one line; it ends at the first period, colon or semicolon."""
    return re.split(r"(?<=\.) |: |; ", " ".join(text.split()))[0].rstrip(".")


def _sections() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the dotted name and the description of each setting of a model."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description or ""


def _join_lines(model: type[BaseModel]) -> None:
    """Joins the lines of the settings' descriptions: tyro would keep the line breaks of the source."""
    for field in model.model_fields.values():
        field.description = " ".join((field.description or "").split()) or None
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            _join_lines(inner)


def _check_names(words: Sequence[str], names: Sequence[str]) -> None:
    for word in words:
        name = word.partition("=")[0].replace("_", "-")
        if word.startswith("--") and name not in names:
            raise UsageError(f"unknown setting {word.partition('=')[0]}{nearest(name, names)}")


def _one_line(stop: SystemExit, heard: str, root: str) -> str:
    """Returns tyro's error as one line, from pydantic's error if there is one, else from tyro's box.

    Args:
        stop: the exception that tyro raised.
        heard: the text of tyro's box.
        root: name of the whole tree of settings in that box.
    """
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__context__
    lines = [line.strip("│╭╰─╮╯|+- ") for line in heard.splitlines()]  # ASCII on plain terminals
    text = " ".join(_first_paragraph(lines[1:]))
    if cause is None:
        return _of_box(text)
    where = text.removeprefix("Error parsing ").partition(":")[0].strip("-")
    found = cause.errors()[0]
    name = ".".join([*([where] if where != root else []), *map(str, found["loc"])])
    message = found["msg"].removeprefix("Value error, ")
    shown = "" if found["type"] == "value_error" else f", found {found['input']!r}"
    prefix = f"--{name.replace('_', '-')}: " if name else ""
    return f"{prefix}{message[0].lower()}{message[1:]}{shown}"


def _of_box(text: str) -> str:
    """Returns the text of tyro's box as an error of one line."""
    choice = re.search(r"invalid choice '(.*?)' for argument '(.*?)'. Expected one of \((.*?)\)", text)
    if choice:
        value, name, choices = choice.groups()
        known = re.findall(r"'(.+?)'", choices)
        return f"{name} cannot be {value!r}{nearest(value, known)}"
    missing = re.match(r"Missing from .*?: (\S+)", text)
    if missing:
        return f"--{missing[1]} is missing; --help says more"
    alone = re.match(r"Missing value for argument '(.*?)'", text)
    if alone:
        return f"{alone[1]} needs a value"
    text = text.removeprefix("Error parsing ").rstrip(".")
    found = re.fullmatch(r"(--\S+): no type matching (.+) could be instantiated from \[(.*)\]", text)
    if found:
        return f"{found[1]}: expected {found[2].replace('|', ' or ')}, found {found[3]}"
    text = re.sub(r"invalid literal for int\(\) with base \d+: ", "expected a whole number, found ", text)
    return re.sub("could not convert string to float: ", "expected a number, found ", text)


def _first_paragraph(lines: Sequence[str]) -> list[str]:
    started = itertools.dropwhile(lambda line: not line, lines)
    return list(itertools.takewhile(bool, started))
