"""Command line of the stages: a recipe's name, then settings by their dotted names; errors in one line."""

import io
import json
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

from brain_ray import interrupts, logs
from brain_ray.config import Config
from brain_ray.errors import RunError, nearest
from brain_ray.fingerprints import flatten
from brain_ray.logs import log
from brain_ray.recipes import RECIPES
from brain_ray.runs import CONFIG, Run
from brain_ray.storage import refuse_keys, refuse_keys_in
from brain_ray.usage import OneLineParser, UsageError, print_help, read_settings


def parse(job: str, purpose: str, argv: Sequence[str], own: Sequence[str] = ("--debug",)) -> Config:
    """Parses `[RECIPE] [--setting value ...]` into a config; `--help [SECTION]` prints help and exits.

    Without a recipe, an existing run uses its stored settings, and a new one the recipe `smoke`.

    Args:
        job: the command as typed, such as `train.py` or `brain-ray train`.
        purpose: text on what the job is for.
        argv: the words after the command.
        own: options of the job that are not settings and are no longer among the words; suggested in an error
            if they are close to a wrong word.

    Raises:
        UsageError: an unknown recipe or setting, a value that is not allowed, or a URI with keys in it, which
            the text does not repeat.
        SystemExit: after `--help`.
    """
    try:
        refuse_keys_in(argv)
    except RunError as error:
        raise UsageError(str(error)) from error
    base, words = _base(list(argv))
    asked = [k for k, word in enumerate(words) if word in ("-h", "--help")]
    if asked:
        topic = next(iter(words[asked[0] + 1 :]), "")
        print_help(job, purpose, base, "" if topic.startswith("-") else topic)
        raise SystemExit(0)
    config = read_settings(Config, words, job, purpose, base, own)
    for name, value in flatten(config.model_dump(mode="json")).items():
        try:
            refuse_keys(str(value))
        except RunError as error:
            raise UsageError(f"{name} is {error}") from error
    return config


def parse_or_explain(
    job: str, purpose: str, argv: Sequence[str], own: Sequence[str] = ("--debug",)
) -> Config | int:
    """Parses like `parse`; after an error, logs it in a line and returns the process's exit code."""
    try:
        return parse(job, purpose, argv, own)
    except UsageError as error:
        complain(error)
        return 2
    except RunError as error:  # the storage, which is asked for the settings of a run that is there
        complain(error)
        return 1


def take_value(argv: Sequence[str], option: str, what: str = "") -> tuple[str | None, list[str]]:
    """Returns an option's value, None if it is not given, and the other words; `what` tells of the value.

    Raises:
        UsageError: it has no value, or is given twice.
    """
    value, words = None, list(argv)
    for k, word in reversed(list(enumerate(argv))):
        name, mark, rest = word.partition("=")
        if name != option:
            continue
        if value is not None:
            raise UsageError(f"{option} is there twice")
        following = argv[k + 1 : k + 2]
        value = rest if mark else next(iter(following), "")
        if not value or (not mark and value.startswith("-")):
            raise UsageError(f"{option} needs a value" + (f": {what}" if what else ""))
        del words[k : k + (1 if mark else 2)]
    return value, words


def complain(error: object) -> None:
    """Writes an error, which may have several lines, on standard error."""
    with logs.to_console() if not logs.on_console() else nullcontext():
        log.error(str(error))


def run_words(argv: Sequence[str], work: Callable[[], str]) -> int:
    """Does the work of a job without settings, and prints what it returns; logs an error as one line.

    Returns the process's exit code: 0, 1 after an error, 2 for keys among the words `argv`, before the work.
    """
    try:
        refuse_keys_in(argv)
    except RunError as error:
        complain(error)
        return 2
    try:
        print(work())
    except RunError as error:
        complain(error)
        return 1
    return 0


def run_job(
    job: str,
    purpose: str,
    work: Callable[[Config], None],
    instead: Mapping[str, Callable[[Config], None]] | None = None,
    argv: Sequence[str] | None = None,
    own: Sequence[str] = (),
) -> int:
    """Parses a command line, does the work, and logs an error that the user has to correct as one line.

    Args:
        job: the command as typed, such as `train.py` or `brain-ray train`.
        purpose: text on what the job is for.
        work: the function that does the work.
        instead: other functions by the option, such as --tune, that selects them.
        argv: the words after the command; None: those of this process.
        own: other options of the job, which the caller took from the words.

    Returns the process's exit code: 0, 1 after an error, 2 for a wrong command line.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # each line at once, into a log or a pipe as well
    argv = sys.argv[1:] if argv is None else argv
    debug = "--debug" in argv
    for option, other in (instead or {}).items():
        work = other if option in argv else work
    selecting = ["--debug", *(instead or {})]
    words = [word for word in argv if word not in selecting]
    config = parse_or_explain(job, purpose, words, [*selecting, *own])
    if isinstance(config, int):
        return config
    interrupted = "interrupted; the same command goes on from here"
    with logs.to_console(), interrupts.announced(interrupted) as tell:
        try:
            if debug:
                log.info(describe(config, whole=True))
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
    """Returns the text of a RunError, also if Ray brought it from a worker; else the type and first line of
    the error."""
    inner: BaseException | None = error
    while inner is not None:
        within = getattr(inner, "cause", None)  # Ray's errors pose as their cause, with a trace for a text
        if isinstance(inner, RunError) and within is None:
            return str(inner)
        inner = within or inner.__cause__
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first} (unexpected: --debug shows the trace)"


def describe(config: Config, *, whole: bool = False) -> str:
    """Returns text for a terminal on how a config differs from its recipe, or on the whole config.

    If whole, each section of the settings is a paragraph. Storage and name are not listed as differences:
    each job logs in its first line where its run is; nor is what plays no part when a bundle is scored.
    """
    settings = flatten(config.model_dump(mode="json"))
    scores = config.data.external and not whole
    if scores:
        settings = {name: each for name, each in settings.items() if name.startswith(("data.", "evaluate."))}
    recipe = flatten(RECIPES.get(config.recipe, Config)().model_dump(mode="json"))
    sections: dict[str, list[str]] = {}
    for name, value in settings.items():
        if whole or (value != recipe[name] and name not in ("storage", "name")):
            shown = value if isinstance(value, str) else json.dumps(value)
            section = name.partition(".")[0] if whole and "." in name else ""
            sections.setdefault(section, []).append(f"{name}={shown}")
    if not whole:
        recipe_line = f"recipe {config.recipe}" + (", but for" if sections else ", unchanged")
        start = "scores a bundle with" if scores else recipe_line
        sections.setdefault("", []).insert(0, start)
    wrap = textwrap.TextWrapper(
        width=110, break_long_words=False, break_on_hyphens=False, subsequent_indent="  "
    )
    return "\n".join(wrap.fill(" ".join(entries)) for entries in sections.values())


def _base(argv: list[str]) -> tuple[Config, list[str]]:
    if argv and not argv[0].startswith("-"):
        if argv[0] not in RECIPES:
            raise UsageError(f"unknown recipe {argv[0]!r}{nearest(argv[0], RECIPES)}")
        if argv[1:] and not argv[1].startswith("-"):
            what = "a second recipe" if argv[1] in RECIPES else "no setting, which begins with --"
            raise UsageError(f"{argv[1]!r} after {argv[0]} is {what}")
        return RECIPES[argv[0]](), argv[1:]
    finder = OneLineParser(add_help=False)
    for option in ("--storage", "--name"):
        finder.add_argument(option, nargs="?")  # one without its value is for `read_settings` to refuse
    known, _ = finder.parse_known_args(argv)
    run = Run(known.storage or Config().storage, known.name or "smoke")
    if known.name and run.exists(*CONFIG):
        return Config.model_validate(run.read_json(*CONFIG)["config"]), argv
    return RECIPES["smoke"](), argv
