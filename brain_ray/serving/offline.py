"""Offline prediction: classifies files with a bundle in this process; the answers are the endpoint's."""

import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_ray.data.decoder import Decoder
from brain_ray.data.formats import FORMATS
from brain_ray.serving.answers import Prepared, make_answer
from brain_ray.serving.client.files import Source, in_order, name_of, read_image
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.serving.uploads import Upload, prepare_upload

if TYPE_CHECKING:
    from brain_ray.bundle.predictor import Predictor


def predict_offline(
    predictor: "Predictor", images: Iterable[Source], batch_size: int = 16, threads: int = 0
) -> Iterator[Answer | Failure]:
    """Yields a result for each image, in order, a batch at a time, with the names of `Client.predict`.

    While the model runs, the next two batches are read and decoded.

    Args:
        predictor: predictor of the bundle.
        images: paths, or the bytes of images.
        batch_size: largest number of images in one run of the model.
        threads: threads that read and decode, each of which holds one image; 0: one for each CPU of this
            process.
    """

    batch: list[Prepared | Failure] = []
    threads = threads or len(os.sched_getaffinity(0))
    with Decoder(tuple(FORMATS.values())) as decoder:

        def prepare(source: Source) -> Prepared | Failure:
            return _prepare(decoder, predictor, source)

        for prepared in in_order(prepare, images, threads, ahead=2 * batch_size):
            batch.append(prepared)
            if len(batch) == batch_size:
                yield from _classify(predictor, batch)
                batch = []
        yield from _classify(predictor, batch)


def _prepare(decoder: Decoder, predictor: "Predictor", source: Source) -> Prepared | Failure:
    name, start = name_of(source), time.perf_counter()
    data = read_image(source)
    if isinstance(data, Failure):
        return data
    try:
        max_pixels = predictor.info["input"]["max_pixels"]
        return prepare_upload(decoder, predictor, Upload(name, data), max_pixels, start)
    except ProblemError as error:
        return Failure(name=name, problem=error.problem)


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
