"""Offline prediction: classifies files with a bundle in this process; the answers are the endpoint's."""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib
import numpy as np

from brain_ray.data.decoder import Decoder
from brain_ray.data.formats import FORMATS
from brain_ray.serving.answers import Prepared, make_answer
from brain_ray.serving.client.files import PassedOver, Source, in_order, name_of, read_image
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.serving.slices import Origin, open_file, prepare_file
from brain_ray.serving.studies import Found, make_study
from brain_ray.serving.study_schemas import Study
from brain_ray.serving.uploads import Upload

if TYPE_CHECKING:
    from brain_ray.bundle.predictor import Predictor


class _Image(NamedTuple):
    """An image on its way through the model, and where it belongs."""

    content: Prepared | Failure
    origin: Origin | None = None
    position: float = 0.0
    file: int = 0


def predict_offline(
    predictor: "Predictor",
    images: Iterable[Source],
    batch_size: int = 16,
    threads: int = 0,
    passed_over: PassedOver | None = None,
    placed: list[Found] | None = None,
) -> Iterator[Answer | Failure]:
    """Yields a result for each image, in order, a batch at a time, with the names of `Client.predict`.

    Of a file with several images each has a result, named `path[number]`; empty slices have none. While the
    model runs, the next files are read and decoded.

    Args:
        predictor: predictor of the bundle.
        images: paths, or the bytes of files.
        batch_size: largest number of images in one run of the model.
        threads: threads that read and decode, each of which holds one file; 0: one for each CPU of this
            process.
        passed_over: gets the number of empty slices of each volume.
        placed: gets the results of files whose format can say whose they are, for `make_study`.
    """
    left_out = PassedOver() if passed_over is None else passed_over
    for found in _find(predictor, images, batch_size, threads, left_out):
        if placed is not None and found.origin is not None:
            placed.append(found)
        yield found.result


def predict_study(
    predictor: "Predictor",
    images: Iterable[Source],
    batch_size: int = 16,
    threads: int = 0,
    passed_over: PassedOver | None = None,
    *,
    one_patient: bool = False,
) -> Study:
    """Returns one answer for each patient and series of files, and those to their slices.

    Takes the arguments of `predict_offline`; for `one_patient` see `make_study`.
    """
    left_out = PassedOver() if passed_over is None else passed_over
    found = list(_find(predictor, images, batch_size, threads, left_out))
    return make_study(predictor, found, one_patient=one_patient, num_empty=sum(left_out.slices.values()))


def _find(
    predictor: "Predictor", images: Iterable[Source], batch_size: int, threads: int, left_out: PassedOver
) -> Iterator[Found]:
    batch: list[_Image] = []
    threads = threads or joblib.cpu_count()
    with Decoder(tuple(FORMATS.values())) as decoder:

        def prepare(numbered: tuple[int, Source]) -> list[_Image]:
            return _prepare(decoder, predictor, *numbered, left_out)

        for prepared in in_order(prepare, enumerate(images), threads, ahead=2 * batch_size):
            for image in prepared:
                batch.append(image)
                if len(batch) == batch_size:
                    yield from _classify(predictor, batch)
                    batch = []
        yield from _classify(predictor, batch)


def _prepare(
    decoder: Decoder, predictor: "Predictor", number: int, source: Source, left_out: PassedOver
) -> list[_Image]:
    """Returns the images of a file, ready for the model, or why they cannot be used."""
    name, start = name_of(source), time.perf_counter()
    data = read_image(source)
    if isinstance(data, Failure):
        return [_Image(data, file=number)]
    try:
        opened = open_file(decoder, predictor, Upload(name, data), predictor.max_pixels)
    except ProblemError as error:
        return [_Image(Failure(name=name, problem=error.problem), file=number)]
    if opened.num_empty:
        left_out.slices[name] = opened.num_empty
    prepared = prepare_file(decoder, predictor, opened, predictor.max_pixels, start)
    return [
        _Image(each, opened.origin, position, number)
        for each, position in zip(prepared, opened.positions, strict=True)
    ]


def _classify(predictor: "Predictor", batch: list[_Image]) -> Iterator[Found]:
    ready = [image.content for image in batch if isinstance(image.content, Prepared)]
    prediction: Any = predictor.predict(np.stack([image.input for image in ready])) if ready else None
    i = 0
    for content, origin, position, file in batch:
        if isinstance(content, Failure):
            yield Found(content, origin, position, file)
            continue
        yield Found(make_answer(predictor, prediction, i, content), origin, position, file)
        i += 1
