"""Job predict: classifies files by an endpoint or with a bundle, by image, series or patient."""

import argparse
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from brain_ray.errors import RunError, printable
from brain_ray.serving import prediction_text as text
from brain_ray.serving.client import Client, EndpointError
from brain_ray.serving.client.files import PassedOver, Source, find_images, watch_doubles
from brain_ray.serving.predict_words import KEY_VARIABLE, parse
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.serving.study_schemas import Study
from brain_ray.serving.summary import Summary

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
    given = parse(purpose, argv, prog)
    for stream in (sys.stdin, sys.stdout):  # any file name can be read, and printed
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape" if stream is sys.stdin else "backslashreplace")
    try:
        summary, passed_over = Summary(), PassedOver()
        folders: set[Path] = set()
        words = watch_doubles(given.files, folders)
        found = find_images(words, watch_doubles(sys.stdin, folders), passed_over)
        images = summary.begin(found)
        for line in _texts(given, images, summary, passed_over, make_client, silence_s):
            print(line, flush=True)
        for line in passed_over.lines():
            print(line, file=sys.stderr if given.json or given.csv else sys.stdout, flush=True)
        if not summary.images:
            raise RunError(f"no image in {' '.join(given.files)}")
        if not (given.json or given.csv):
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


def _texts(
    given: argparse.Namespace,
    images: Iterable[Source],
    summary: Summary,
    passed_over: PassedOver,
    make_client: Callable[..., Client],
    silence_s: float,
) -> Iterator[str]:
    """Yields what is printed of the answers."""
    if given.per == "image":
        show = text.lines if given.json else text.rows if given.csv else text.table
        patients: list[str] = []
        results = _results(given, images, make_client, silence_s, passed_over, patients)
        yield from show(summary.watch(results), sys.stdout)
        if not (given.json or given.csv):
            yield from patients
        return
    files = list(images)
    study = _study(given, files, make_client, silence_s, passed_over)
    for _ in summary.watch([*(one.result for one in study.slices), *study.unassigned]):
        pass
    if summary.images:
        tell = text.study_lines if given.json else text.study_rows if given.csv else text.study_table
        yield from tell(study, given.per)
        if given.sr:
            from brain_ray.serving.structured_report import write_reports

            for line in write_reports(study, files, Path(given.sr)):
                print(line, file=sys.stderr, flush=True)
        if not (given.json or given.csv):
            yield ""


def _study(
    given: argparse.Namespace,
    files: Sequence[Source],
    make_client: Callable[..., Client],
    silence_s: float,
    passed_over: PassedOver,
) -> Study:
    """Returns the answers to all files as one study.

    Raises:
        RunError: there is no file.
    """
    if not files:
        raise RunError(f"no image in {' '.join(given.files)}")
    if given.url is not None:
        with _client(given, make_client) as client, _waiting_for(client, silence_s):
            return client.study(files, one_patient=given.one_patient)
    from brain_ray.bundle.predictor import Predictor
    from brain_ray.serving.offline import predict_study

    predictor = Predictor(given.bundle)
    return predict_study(
        predictor, files, given.batch_size, passed_over=passed_over, one_patient=given.one_patient
    )


def _results(
    given: argparse.Namespace,
    images: Iterable[Source],
    make_client: Callable[..., Client],
    silence_s: float,
    passed_over: PassedOver,
    patients: list[str],
) -> Iterator[Answer | Failure]:
    """Yields a result for each image; `patients` gets a table of the patients that their files name, if a
    bundle answers."""
    if given.url is not None:
        with _client(given, make_client) as client, _waiting_for(client, silence_s) as waiting:
            for result in client.predict(images):
                waiting.cancel()
                yield result
        return
    # Imported here: a client of an endpoint needs neither ONNX Runtime nor OpenCV.
    from brain_ray.bundle.predictor import Predictor
    from brain_ray.serving.offline import predict_offline
    from brain_ray.serving.studies import Found, make_study

    predictor, placed = Predictor(given.bundle), list[Found]()
    yield from predict_offline(predictor, images, given.batch_size, passed_over=passed_over, placed=placed)
    if placed:
        patients += ["", *text.study_table(make_study(predictor, placed), "patient"), ""]


def _client(given: argparse.Namespace, make_client: Callable[..., Client]) -> Client:
    key = _api_key(given.api_key_file)
    url = given.url if "://" in given.url else f"http://{given.url}"
    return make_client(url, key, timeout_s=given.timeout, in_flight=given.in_flight)


@contextmanager
def _waiting_for(client: Client, silence_s: float) -> Iterator[threading.Timer]:
    """Says so if an endpoint is silent for long; its first answer cancels the timer, and so does the end."""
    line = f"waiting for {client.url} to answer"
    waiting = threading.Timer(silence_s, print, [line], {"file": sys.stderr})
    waiting.daemon = True
    waiting.start()
    try:
        yield waiting
    finally:
        waiting.cancel()


def _api_key(file: str | None) -> str | None:
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    text = Path(file).read_text().strip()
    number = len(text.splitlines())
    if number > 1:
        raise RunError(f"{file} holds {number} lines: expected one API key, alone in its file")
    return text
