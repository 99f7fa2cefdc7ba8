"""Slices: a file -> its images, ready for the model, and what its header says of whose they are."""

from collections.abc import Sequence
from dataclasses import dataclass

from brain_ray.bundle.predictor import Predictor
from brain_ray.data.decoder import Decoder
from brain_ray.data.decoder_messages import Frames
from brain_ray.data.decoding import CheckedFile, ImageError
from brain_ray.data.file_names import image_name
from brain_ray.data.formats import is_volume
from brain_ray.serving.answers import Prepared
from brain_ray.serving.preparing import prepare_upload
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.schemas import Failure
from brain_ray.serving.uploads import Upload


@dataclass(frozen=True)
class Origin:
    """Whose images a file's are, by its own ids, which are compared and never told; all are "" where it does
    not say."""

    patient: str = ""
    study: str = ""
    series: str = ""
    modality: str = ""


@dataclass(frozen=True)
class OpenedFile:
    """A file whose header was read."""

    upload: Upload
    origin: Origin | None = None
    """None: a picture, whose format has no header for it."""
    numbers: tuple[int, ...] = (0,)
    """Those of its images that show something."""
    positions: Sequence[float] = (0.0,)
    """Position of each of them in its series."""
    alone: bool = True
    """Whether the file has one image only."""
    num_empty: int = 0
    """Number of its images that show nothing."""
    pixels: int = 0
    """Number of pixels of all its images together, by the header; 0: a picture that was not checked."""


def open_file(decoder: Decoder, predictor: Predictor, upload: Upload, max_pixels: int) -> OpenedFile:
    """Reads the header of a file of one or several images; decodes those of a volume, to find empty ones.

    Args:
        decoder: decoder whose worker does it.
        predictor: the model's predictor, whose settings tell what is empty.
        upload: the file, or the result of its check.
        max_pixels: largest number of pixels of an image.

    Raises:
        ProblemError: the file cannot be used, or all its images are empty.
    """
    data = upload.data
    if isinstance(data, ImageError):
        raise ProblemError(data.code, str(data))
    if isinstance(data, CheckedFile):
        return OpenedFile(upload, pixels=data.width * data.height)
    if not is_volume(data):
        return OpenedFile(upload)
    level, min_content = predictor.crop.threshold, predictor.volumes.min_content
    (found,) = decoder.describe([data], max_pixels, level, min_content, predictor.read_spec)
    if isinstance(found, ImageError):
        raise ProblemError(found.code, str(found))
    empty = set(found.empty)
    numbers = tuple(number for number in range(len(found.positions)) if number not in empty)
    if not numbers:
        raise ProblemError("no_image", f"each of its {len(found.positions)} images is empty")
    return OpenedFile(
        upload,
        Origin(found.patient, found.study, found.series, found.modality),
        numbers,
        [found.positions[number] for number in numbers],
        alone=len(found.positions) == 1,
        num_empty=len(empty),
        pixels=found.width * found.height * len(found.positions),
    )


def prepare_file(
    decoder: Decoder, predictor: Predictor, file: OpenedFile, max_pixels: int, start: float, side: int = 0
) -> list[Prepared | Failure]:
    """Returns the images of a file, fitted to the model's input, or why one cannot be used; in the order of
    its numbers.

    Args:
        decoder: decoder whose worker does it.
        predictor: the model's predictor.
        file: the file.
        max_pixels: largest number of pixels of an image.
        start: time when its bytes were received, in seconds of `time.perf_counter`.
        side: longest side of the crop for display, in pixels; 0: no such crop.
    """
    name, data = file.upload.name, file.upload.data
    if file.alone:
        try:
            return [prepare_upload(decoder, predictor, file.upload, max_pixels, start, side)]
        except ProblemError as error:
            return [Failure(name=name, problem=error.problem)]
    assert isinstance(data, bytes)
    crop, spec, read = predictor.crop, predictor.spec, predictor.read_spec
    prepared: list[Prepared | Failure] = []
    found = decoder.prepare_all(Frames(data, file.numbers), max_pixels, crop, spec, side, read)
    for number, each in zip(file.numbers, found, strict=True):
        named = image_name(name, number)
        if isinstance(each, ImageError):
            prepared.append(Failure(name=named, problem=ProblemError(each.code, str(each)).problem))
        else:
            prepared.append(Prepared(name=named, start=start, **vars(each)))
    return prepared
