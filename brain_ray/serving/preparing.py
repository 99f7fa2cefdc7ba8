"""Preparing: uploads -> inputs of a model; a replica's in turn, and what takes long goes on apart."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from brain_ray.bundle.predictor import Predictor
from brain_ray.data.decoder import Decoder
from brain_ray.data.decoding import CheckedFile, EndedError, ImageError
from brain_ray.data.formats import FORMATS
from brain_ray.serving.answers import Prepared
from brain_ray.serving.model_runs import run_in
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.turns import Turns, due_at
from brain_ray.serving.uploads import Upload

QUICK_S = 0.05
"""Seconds of CPU after which an image is given up, and decoded anew where no other waits for it."""

TRIES = 3
"""Number of images that are tried beyond the threads of a replica: where many take long, a quick one waits
for none of them, because the system gives the processor to what has used least of it."""

QUICK_PIXELS = 4_000_000
"""Number of pixels of a checked image beyond which it is not tried."""

T = TypeVar("T")

Work = Callable[[float | None], T]
"""Work of the decoder, for so many seconds of CPU; None: for as many as the decoder allows."""


def check_upload(decoder: Decoder, upload: Upload, max_pixels: int, cpu_s: float | None = None) -> Upload:
    """Returns an upload that is decoded without a further check, or whose `data` are why it cannot be.

    Args:
        decoder: decoder whose worker checks it.
        upload: an upload whose `data` are bytes.
        max_pixels: largest number of pixels of an image.
        cpu_s: seconds of CPU; None: as many as the decoder allows.

    Raises:
        EndedError: it was not checked within `cpu_s`.
    """
    assert isinstance(upload.data, bytes)
    (found,) = decoder.check([upload.data], max_pixels, cpu_s)
    if cpu_s is not None and isinstance(found, EndedError):
        raise found
    return replace(upload, data=found)


def check_pixels(uploads: Sequence[Upload], max_request_pixels: int) -> None:
    """Counts the pixels of a request's checked images before any of them is decoded.

    Args:
        uploads: uploads as `check_upload` returns them; one that cannot be read counts no pixels, and gets an
            answer of its own.
        max_request_pixels: largest number of pixels of all together, by their headers.

    Raises:
        ProblemError: `too_many_pixels`.
    """
    files = [upload.data for upload in uploads]
    pixels = sum(file.width * file.height for file in files if isinstance(file, CheckedFile))
    if pixels > max_request_pixels:
        raise ProblemError(
            "too_many_pixels",
            f"its {len(uploads)} images have {pixels} pixels; expected at most {max_request_pixels} in a "
            "request: send them in several",
        )


def prepare_upload(
    decoder: Decoder,
    predictor: Predictor,
    upload: Upload,
    max_pixels: int,
    start: float,
    side: int = 0,
    cpu_s: float | None = None,
) -> Prepared:
    """Decodes an image and fits it to a model's input.

    Args:
        decoder: decoder whose worker does it.
        predictor: the model's predictor.
        upload: the image.
        max_pixels: largest number of pixels of an image.
        start: time when its bytes were received, in seconds of `time.perf_counter`.
        side: longest side of the crop for display, in pixels; 0: no such crop.
        cpu_s: seconds of CPU; None: as many as the decoder allows.

    Raises:
        ProblemError: a format that is not accepted, or an image that cannot be used.
        EndedError: it was not decoded within `cpu_s`.
    """
    try:
        if isinstance(upload.data, ImageError):
            raise upload.data
        crop, spec, read = predictor.crop, predictor.spec, predictor.read_spec
        found = decoder.prepare(upload.data, max_pixels, crop, spec, side, read, cpu_s)
    except ImageError as error:
        if cpu_s is not None and isinstance(error, EndedError) and error is not upload.data:
            raise
        raise ProblemError(error.code, str(error)) from error
    return Prepared(name=upload.name, start=start, **vars(found))


class Lane:
    """Threads that do first what is due first."""

    def __init__(self, threads: int, name: str) -> None:
        self._turns, self._threads = Turns(threads), ThreadPoolExecutor(threads, name)

    async def run(self, due: float, work: Callable[..., T], *args: object) -> T:
        """Runs some work in one of the threads when that is due, in seconds of `time.monotonic`."""
        async with self._turns.place(due):
            return await run_in(self._threads, work, *args)


class Preparing:
    """Threads of a replica that check, decode and draw images, those first that are due first."""

    def __init__(self, threads: int) -> None:
        """Starts the decoder; a replica has so many threads for its images, beside those tried and drawn, and
        one that takes long."""
        self.decoder = Decoder(tuple(FORMATS.values()), behind=True)
        self._quick = Lane(threads + TRIES, "pixels")
        # No header says what makes an image slow. Those that are keep each other waiting, and nobody else.
        self._slow = Lane(1, "slow-pixels")
        self._drawing = Lane(1, "drawing")
        # Each holds Python's lock most of the time: with more of them, all others would wait longer for it.
        self._parsing = Lane(2, "parsing")

    async def parse(self, due: float, work: Callable[[], T]) -> T:
        """Parses a body, in one of the threads for that, in its turn."""
        return await self._parsing.run(due, work)

    async def check(self, uploads: list[Upload], max_pixels: int, max_request_pixels: int) -> list[Upload]:
        """Checks the images of a form, each once; returns uploads that are decoded without a further check.

        Raises:
            ProblemError: `too_many_pixels`, all images together.
        """

        async def check(place: int, upload: Upload) -> Upload:
            def work(cpu_s: float | None) -> Upload:
                return check_upload(self.decoder, upload, max_pixels, cpu_s)

            return await self._twice(due_at(place, upload.num_bytes), work)

        checked = await asyncio.gather(*(check(i, upload) for i, upload in enumerate(uploads)))
        check_pixels(checked, max_request_pixels)
        return checked

    async def prepare(
        self,
        upload: Upload,
        predictor: Predictor,
        due: float,
        start: float,
        max_pixels: int,
        side: int = 0,
    ) -> Prepared:
        """Decodes an image and fits it to an input, as `prepare_upload` does.

        Args:
            upload: the image.
            predictor: the model's predictor.
            due: when it is due, in seconds of `time.monotonic`.
            start: time when its bytes were received, in seconds of `time.perf_counter`.
            max_pixels: largest number of pixels of an image.
            side: longest side of the crop for display, in pixels; 0: no such crop.

        Raises:
            ProblemError: the image cannot be used.
        """

        def work(cpu_s: float | None) -> Prepared:
            return prepare_upload(self.decoder, predictor, upload, max_pixels, start, side, cpu_s)

        file = upload.data
        if isinstance(file, CheckedFile) and file.width * file.height > QUICK_PIXELS:
            return await self._slow.run(due, work, None)
        return await self._twice(due, work)

    async def draw(self, due: float, work: Callable[[], T]) -> T:
        """Draws something, in the thread for that, in its turn."""
        return await self._drawing.run(due, work)

    async def _twice(self, due: float, work: Work[T]) -> T:
        """Runs some work of the decoder, for a short time and, if it has not ended by then, once more."""
        try:
            return await self._quick.run(due, work, QUICK_S)
        except EndedError:
            return await self._slow.run(due, work, None)
