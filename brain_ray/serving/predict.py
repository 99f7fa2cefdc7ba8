"""Job predict: classifies files by an endpoint or with a bundle; prints a table or JSON lines."""

import argparse
import io
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len, set_cell_size

from brain_ray.errors import RunError, printable
from brain_ray.serving.client import Client, EndpointError
from brain_ray.serving.client.files import PassedOver, Source, find_images, watch_doubles
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.serving.summary import Summary
from brain_ray.storage import refuse_keys_in
from brain_ray.usage import OneLineParser

KEY_VARIABLE = "BRAIN_RAY_API_KEY"

FIGURES = f"{'label':<14}{'confidence':>10}  {'decision':<8}{'ms':>8}"
NARROWEST, PIPED = 24, 48
"""Columns of a file's name: the fewest on a terminal, and those without one, where no name is cut off."""


SILENCE_S = 5.0
"""Seconds without an endpoint's first answer after which a line says so."""


def run(
    purpose: str,
    argv: Sequence[str] | None = None,
    prog: str = "predict.py",
    *,
    make_client: Callable[..., Client] = Client,
    silence_s: float = SILENCE_S,
) -> int:
    """Runs the command line; returns the process's exit code.

    `make_client` takes `Client`'s arguments.
    """
    given = _parse(purpose, argv, prog)
    for stream in (sys.stdin, sys.stdout):  # any file name can be read, and printed
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape" if stream is sys.stdin else "backslashreplace")
    try:
        summary, passed_over = Summary(), PassedOver()
        folders: set[Path] = set()
        words = watch_doubles(given.files, folders)
        found = find_images(words, watch_doubles(sys.stdin, folders), passed_over)
        results = summary.watch(_results(given, summary.begin(found), make_client, silence_s, passed_over))
        show = _lines if given.json else _table
        for line in show(results, sys.stdout):
            print(line, flush=True)
        for line in passed_over.lines():
            print(line, file=sys.stderr if given.json else sys.stdout, flush=True)
        if not summary.images:
            raise RunError(f"no image in {' '.join(given.files)}")
        if not given.json:
            print(summary, flush=True)
    except BrokenPipeError:  # the reader has closed the pipe; the interpreter must not write again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1
    except (EndpointError, RunError, OSError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1
    return 1 if summary.errors else 0


def _results(
    given: argparse.Namespace,
    images: Iterable[Source],
    make_client: Callable[..., Client],
    silence_s: float,
    passed_over: PassedOver,
) -> Iterator[Answer | Failure]:
    if given.url is not None:
        key = _api_key(given.api_key_file)
        url = given.url if "://" in given.url else f"http://{given.url}"
        with make_client(url, key, timeout_s=given.timeout, in_flight=given.in_flight) as client:
            text = f"waiting for {client.url} to answer"
            waiting = threading.Timer(silence_s, print, [text], {"file": sys.stderr})
            waiting.daemon = True
            waiting.start()
            try:
                for result in client.predict(images):
                    waiting.cancel()
                    yield result
            finally:
                waiting.cancel()
        return
    # Imported here: a client of an endpoint needs neither ONNX Runtime nor OpenCV.
    from brain_ray.bundle.predictor import Predictor
    from brain_ray.serving.offline import predict_offline

    yield from predict_offline(Predictor(given.bundle), images, given.batch_size, passed_over=passed_over)


def _lines(results: Iterable[Answer | Failure], _: TextIO) -> Iterator[str]:
    return (result.model_dump_json() for result in results)


def _table(results: Iterable[Answer | Failure], out: TextIO) -> Iterator[str]:
    """Lays out results as rows; the widths are fixed, since what is still to come is not known."""
    terminal = out.isatty()
    room = shutil.get_terminal_size().columns - len(FIGURES) - 2
    width = max(NARROWEST, room) if terminal else PIPED
    for i, result in enumerate(results):
        if i == 0:
            yield f"{'file':<{width}}  {FIGURES}"
        name = _fit(printable(result.name), width, cut=terminal)
        if isinstance(result, Failure):
            yield f"{name}  error: {printable(result.problem.detail)} ({printable(result.problem.code)})"
        else:
            label = _fit(printable(result.label), 14, cut=False)
            sure = rounded(result.confidence)
            yield f"{name}  {label}{sure:>10}  {result.decision:<8}{result.milliseconds:>8.1f}"


def rounded(confidence: float) -> str:
    """Rounds a probability to four digits, but never up to a certainty."""
    text = f"{confidence:.4f}"
    return ">0.9999" if confidence < 1 and text == "1.0000" else text


def _fit(text: str, width: int, *, cut: bool) -> str:
    """Brings a text to a width in columns; of what is too long the end is kept, which tells files apart."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    if not cut:
        return text
    while cell_len(text) > width - 1:
        text = text[1:]
    return set_cell_size(f"…{text}", width)


def _api_key(file: str | None) -> str | None:
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    text = Path(file).read_text().strip()
    number = len(text.splitlines())
    if number > 1:
        raise RunError(f"{file} holds {number} lines: expected one API key, alone in its file")
    return text


def _parse(purpose: str, argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    words = sys.argv[1:] if argv is None else argv
    parser = OneLineParser(prog=prog, description=purpose)
    parser.add_argument("files", metavar="FILES", nargs="+")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", help="URL of an endpoint, such as http://127.0.0.1:8000")
    where.add_argument("--bundle", help="path or URI of a bundle, to classify without an endpoint")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per image, in the endpoint's format"
    )
    parser.add_argument(
        "--api-key-file", metavar="FILE", help=f"file with one API key (default: the key in {KEY_VARIABLE})"
    )
    parser.add_argument(
        "--in-flight",
        type=_positive,
        default=8,
        metavar="N",
        help="number of requests at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="seconds to wait for an answer (default: %(default)g)",
    )
    parser.add_argument(
        "--batch-size",
        type=_positive,
        default=16,
        metavar="N",
        help="images per run of the model, with --bundle (default: %(default)s)",
    )
    try:
        refuse_keys_in(words, but="--url")  # the client never shows its password
    except RunError as error:
        parser.error(str(error))
    given: argparse.Namespace = parser.parse_args(words)
    return given


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return seconds
