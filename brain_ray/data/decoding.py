"""Decoding: an encoded file -> 8-bit grey images."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.data import intensity
from brain_ray.data.file_checks.limits import EndedError, ImageError, StructureError
from brain_ray.data.file_checks.unread import explain_unread
from brain_ray.data.file_checks.volume import HeaderFacts, Volume
from brain_ray.data.formats import (
    FORMATS,
    AnyFormat,
    PictureFormat,
    VolumeFormat,
    format_of,
)
from brain_ray.input_spec import ReadSpec

__all__ = [
    "CheckedFile",
    "EndedError",
    "ImageError",
    "OpenFile",
    "check_file",
    "decode",
    "decode_checked",
    "pixel_hash",
]

MIN_SIDE = 16
"""Least length of an image's shorter side, in pixels; smaller images show no brain and are refused."""


@dataclass(frozen=True)
class CheckedFile:
    """A checked encoded file: the size of its images, and the parts that their pixels need."""

    data: bytes
    format: AnyFormat
    width: int
    """Width of an image in pixels from the header, before any rotation."""
    height: int
    num_images: int = 1


def decode(
    data: bytes,
    max_pixels: int = 40_000_000,
    formats: Sequence[AnyFormat] | None = None,
    read: ReadSpec = ReadSpec(),
) -> Grey:
    """Decodes a file of one image to 8-bit grey, uint8 (height, width).

    Colour becomes luma, transparent pixels are laid on black, EXIF rotation is applied. More than 8 bits
    (16-bit, float) are scaled linearly between two percentiles of the image to 0..255; NaN is background, 0.

    Args:
        data: the encoded file.
        max_pixels: largest number of pixels allowed.
        formats: accepted formats; None: all of `FORMATS`. What a file costs is bounded
            (`brain_ray.data.file_checks`).
        read: the percentiles.

    Raises:
        ImageError: not an image, damaged, too costly, several images, fewer than 16 px on a side, more than
            `max_pixels`, or not finite.
        MemoryError: there is too little memory.
    """
    return decode_checked(check_file(data, max_pixels, formats, read), max_pixels, read)


def check_file(
    data: bytes,
    max_pixels: int,
    formats: Sequence[AnyFormat] | None = None,
    read: ReadSpec = ReadSpec(),
) -> CheckedFile:
    """Finds an encoded file's format, drops the parts that its pixels do not need, and reads its size in the
    header.

    Args:
        data: the encoded file.
        max_pixels: largest number of pixels that the file's structure may need; its size is not compared with
            it.
        formats: accepted formats; None: all of `FORMATS`.
        read: the plane into which a volume is cut.

    Raises:
        ImageError: not an image, not of an accepted format, damaged, or too costly to decode.
    """
    if not data:
        raise ImageError("empty file", "not_an_image")
    found = format_of(data, FORMATS.values() if formats is None else formats)
    if found is None:
        raise _not_an_image(data, formats)
    try:
        data = found.check(data, max_pixels)
        if isinstance(found, PictureFormat):
            return CheckedFile(data, found, *found.header_size(data))
        volume = found.read(data, read.plane)
        return CheckedFile(data, found, volume.width, volume.height, len(volume.positions))
    except StructureError as error:
        raise ImageError(f"refused: {error}") from error
    except ImageError as error:
        if str(error) == "not an image":
            raise _not_an_image(data, formats) from error
        raise


def decode_checked(file: CheckedFile, max_pixels: int, read: ReadSpec = ReadSpec()) -> Grey:
    """Decodes a checked file of one image to 8-bit grey, uint8 (height, width); errors are those of
    `decode`."""
    check_one(file)
    return OpenFile(file, max_pixels, read).image(0)


def check_one(file: CheckedFile) -> None:
    """Raises ImageError if a file does not hold exactly one image."""
    if file.num_images != 1:
        raise ImageError(f"{file.format.title} with {file.num_images} images, expected one", "several_images")


class OpenFile:
    """The images of a checked file."""

    def __init__(self, file: CheckedFile, max_pixels: int, read: ReadSpec) -> None:
        """Reads the header.

        Args:
            file: the checked file.
            max_pixels: largest number of pixels of an image.
            read: how pixels become grey.

        Raises:
            ImageError: images too large or too small, or a damaged header.
        """
        width, height = file.width, file.height
        if width * height > max_pixels:
            raise ImageError(
                f"too large: {width}x{height} px, more than {max_pixels} pixels", "too_many_pixels"
            )
        if min(width, height) < MIN_SIDE:
            raise ImageError(f"too small: {width}x{height} px, a side needs {MIN_SIDE}", "too_small")
        self._file, self._read = file, read
        self._volume: Volume | None = None
        if isinstance(file.format, VolumeFormat):
            self._volume = file.format.read(file.data, read.plane)
        self._range: tuple[float, float] | None = None

    @property
    def facts(self) -> HeaderFacts:
        """Facts of the header."""
        return HeaderFacts() if self._volume is None else self._volume.facts

    @property
    def positions(self) -> Sequence[float]:
        """Position of each image in its series."""
        return (0.0,) if self._volume is None else self._volume.positions

    def image(self, number: int) -> Grey:
        """Decodes an image to 8-bit grey, uint8 (height, width).

        The percentiles are those of all images of the file together.

        Args:
            number: number of the image, from 0 on.

        Raises:
            ImageError: it is damaged, not finite, or there is no such image.
            MemoryError: there is too little memory.
        """
        if not 0 <= number < len(self.positions):
            raise ImageError(
                f"no image {number}: {self._file.format.title} with {len(self.positions)} images"
            )
        if isinstance(self._file.format, PictureFormat):
            pixels = self._file.format.decode(self._file.data, self._file.width, self._file.height)
            grey = intensity.to_grey(pixels, self._read.window)
        else:
            assert self._volume is not None
            pixels = self._volume.pixels(number)
            if pixels.dtype == np.uint8:
                return pixels
            self._range = self._range or self._find_range(self._volume)
            grey = None if self._range is None else intensity.scale(pixels, *self._range)
        if grey is None:
            raise ImageError(f"not finite: {pixels.dtype} pixels, all of them NaN or infinity")
        return grey

    def _find_range(self, volume: Volume) -> tuple[float, float] | None:
        def deep() -> Iterator[NDArray[Any]]:
            for number in range(len(volume.positions)):
                with suppress(ImageError):  # told when that image is asked for
                    pixels = volume.pixels(number)
                    if pixels.dtype != np.uint8:
                        yield pixels

        count = volume.width * volume.height * len(volume.positions)
        return intensity.find_range(deep(), count, self._read.window)


def _not_an_image(data: bytes, formats: Sequence[AnyFormat] | None) -> ImageError:
    expected = f": expected one of {', '.join(row.name for row in formats)}" if formats else ""
    return ImageError(explain_unread(data) or f"not an image{expected}", "not_an_image")


def pixel_hash(image: Grey) -> str:
    """Returns the SHA-256 (hex) of an image's size and pixels: the same for equal pictures in different
    files."""
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def as_grey(image: object) -> Grey:
    return np.asarray(image, np.uint8)
