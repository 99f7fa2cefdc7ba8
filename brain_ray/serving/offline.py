"""Offline prediction: classifies files with a bundle in this process; the answers are the endpoint's."""

import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np

from brain_ray.data.decoder import Decoder
from brain_ray.data.decoder_messages import Frames
from brain_ray.data.decoding import ImageError
from brain_ray.data.file_names import image_name
from brain_ray.data.formats import FORMATS, is_volume
from brain_ray.serving.answers import Prepared, make_answer
from brain_ray.serving.client.files import PassedOver, Source, in_order, name_of, read_image
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.serving.uploads import Upload, prepare_upload

if TYPE_CHECKING:
    from brain_ray.bundle.predictor import Predictor


def predict_offline(
    predictor: "Predictor",
    images: Iterable[Source],
    batch_size: int = 16,
    threads: int = 0,
    passed_over: PassedOver | None = None,
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
    """

    batch: list[Prepared | Failure] = []
    threads = threads or joblib.cpu_count()
    left_out = PassedOver() if passed_over is None else passed_over
    with Decoder(tuple(FORMATS.values())) as decoder:

        def prepare(source: Source) -> list[Prepared | Failure]:
            return _prepare(decoder, predictor, source, left_out)

        for prepared in chain.from_iterable(in_order(prepare, images, threads, ahead=2 * batch_size)):
            batch.append(prepared)
            if len(batch) == batch_size:
                yield from _classify(predictor, batch)
                batch = []
        yield from _classify(predictor, batch)


def _prepare(
    decoder: Decoder, predictor: "Predictor", source: Source, left_out: PassedOver
) -> list[Prepared | Failure]:
    """Returns the images of a file, ready for the model, or why they cannot be used."""
    name, start = name_of(source), time.perf_counter()
    data = read_image(source)
    if isinstance(data, Failure):
        return [data]
    try:
        if is_volume(data):
            numbers = _slices(decoder, predictor, name, data, left_out)
            if numbers is not None:
                return _prepare_slices(decoder, predictor, name, start, Frames(data, numbers))
        return [prepare_upload(decoder, predictor, Upload(name, data), predictor.max_pixels, start)]
    except ProblemError as error:
        return [Failure(name=name, problem=error.problem)]


def _slices(
    decoder: Decoder, predictor: "Predictor", name: str, data: bytes, left_out: PassedOver
) -> tuple[int, ...] | None:
    """Returns the numbers of a file's images that show something; None if it holds only one.

    Raises:
        ProblemError: the file cannot be used, or all its images are empty.
    """
    level, min_content = predictor.crop.threshold, predictor.volumes.min_content
    (found,) = decoder.describe([data], predictor.max_pixels, level, min_content, predictor.read_spec)
    if isinstance(found, ImageError):
        raise ProblemError(found.code, str(found))
    if len(found.positions) == 1:
        return None
    empty = set(found.empty)
    numbers = tuple(number for number in range(len(found.positions)) if number not in empty)
    if not numbers:
        raise ProblemError("no_image", f"each of its {len(found.positions)} images is empty")
    if empty:
        left_out.slices[name] = len(empty)
    return numbers


def _prepare_slices(
    decoder: Decoder, predictor: "Predictor", name: str, start: float, frames: Frames
) -> list[Prepared | Failure]:
    crop, spec, read = predictor.crop, predictor.spec, predictor.read_spec
    prepared: list[Prepared | Failure] = []
    found = decoder.prepare_all(frames, predictor.max_pixels, crop, spec, 0, read)
    for number, each in zip(frames.numbers, found, strict=True):
        named = image_name(name, number)
        if isinstance(each, ImageError):
            prepared.append(Failure(name=named, problem=ProblemError(each.code, str(each)).problem))
        else:
            prepared.append(Prepared(name=named, start=start, **vars(each)))
    return prepared


def _classify(predictor: "Predictor", batch: list[Prepared | Failure]) -> Iterator[Answer | Failure]:
    ready = [image for image in batch if isinstance(image, Prepared)]
    prediction: Any = predictor.predict(np.stack([image.input for image in ready])) if ready else None
    i = 0
    for image in batch:
        if isinstance(image, Failure):
            yield image
            continue
        yield make_answer(predictor, prediction, i, image)
        i += 1
