"""Command line of the job predict."""

import argparse
import sys
from collections.abc import Sequence

from brain_ray.errors import RunError
from brain_ray.storage import refuse_keys_in
from brain_ray.usage import OneLineParser

KEY_VARIABLE = "BRAIN_RAY_API_KEY"
"""Environment variable with the endpoint's API key."""


def parse(purpose: str, argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    """Parses the words after the command; None: those of this process.

    Raises:
        SystemExit: after `--help`, or for a wrong command line.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = OneLineParser(prog=prog, description=purpose)
    parser.add_argument("files", metavar="FILES", nargs="+")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", help="URL of an endpoint, such as http://127.0.0.1:8000")
    where.add_argument("--bundle", help="path or URI of a bundle, to classify without an endpoint")
    parser.add_argument(
        "--per",
        choices=("image", "series", "patient"),
        default="image",
        help="what gets an answer; series and patients are those that DICOM and other files name",
    )
    parser.add_argument(
        "--one-patient",
        action="store_true",
        help="with --per patient: take all files for one patient's, pictures too, whatever they say",
    )
    parser.add_argument(
        "--sr",
        metavar="FOLDER",
        help="with --bundle and --per patient: write a DICOM structured report for each patient (research)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print one JSON object per answer, in the endpoint's format"
    )
    form.add_argument("--csv", action="store_true", help="print a table for programs")
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
    if given.sr and not (given.bundle and given.per == "patient"):
        parser.error("--sr needs --bundle and --per patient")
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
