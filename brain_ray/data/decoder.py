"""Decoder of images in processes of its own: what is asked of a file that nobody has looked at yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.data import decoder_process
from brain_ray.data.decoder_messages import Facts, FileLook, Item
from brain_ray.data.decoder_pool import WorkerPool
from brain_ray.data.decoding import CheckedFile, ImageError
from brain_ray.data.formats import FORMATS
from brain_ray.data.transforms import Box
from brain_ray.input_spec import InputSpec, ReadSpec

if TYPE_CHECKING:
    from brain_ray.config import CropConfig


@dataclass(frozen=True)
class FittedImage:
    """A network input made of an image, and facts about the image for an answer."""

    input: NDArray[np.uint8]
    """(height, width, 1)."""
    crop: Grey | None
    """(height, width) uint8, the content of the box, shrunk for display; None unless it was asked for."""
    box: Box
    has_box: bool
    width: int
    height: int
    grey: dict[str, float]
    """Quantities of the input's grey levels: `grey_levels.measure_grey`."""


@dataclass(frozen=True)
class Description:
    """What a file's header says, with the file's own ids."""

    format: str
    width: int
    """Of each of its images, in pixels."""
    height: int
    positions: list[float]
    """Position of each image in its series."""
    empty: list[int]
    """Numbers of images that show nothing."""
    patient: str
    study: str
    series: str
    modality: str
    class_name: str
    tumour: list[int] | None


class Decoder(WorkerPool):
    """Pool of workers that decode images, one for each concurrent thread."""

    def check(
        self, images: Sequence[bytes], max_pixels: int, cpu_s: float | None = None
    ) -> list[CheckedFile | ImageError]:
        """Checks structure, format and size of files of one image each; those that it returns are decoded
        without another check.

        Args:
            images: the encoded files.
            max_pixels: largest number of pixels that an image's structure may need; it also bounds a worker's
                memory.
            cpu_s: seconds of CPU for each, fewer than those of the pool.

        Returns:
            For each image, in order, the checked file or the error.
        """
        rows = {row.name: row for row in (FORMATS.values() if self._formats is None else self._formats)}
        checked: list[CheckedFile | ImageError] = []
        for found in self.ask(images, max_pixels, FileLook(decoder_process.facts_of), cpu_s=cpu_s):
            if isinstance(found, ImageError):
                checked.append(found)
                continue
            facts, (data,) = found
            row = rows[facts["format"]]
            checked.append(CheckedFile(data.tobytes(), row, facts["width"], facts["height"]))
        return checked

    def prepare(
        self,
        data: bytes | CheckedFile,
        max_pixels: int,
        crop: "CropConfig",
        spec: InputSpec,
        side: int = 0,
        read: ReadSpec = ReadSpec(),
        cpu_s: float | None = None,
    ) -> FittedImage:
        """Decodes the image of a file, finds the head, and fits it to a network's input.

        Args:
            data: the encoded file, or the result of `check` for it.
            max_pixels: largest number of pixels of an image; it also bounds a worker's memory.
            crop: settings of the head's detection.
            spec: the network's input.
            side: longest side of the crop for display, in pixels; 0: no such crop.
            read: how pixels become grey.
            cpu_s: seconds of CPU, fewer than those of the pool.

        Raises:
            ImageError: the image cannot be used.
            EndedError: the worker ended on it.
        """
        (found,) = self.prepare_all(data, max_pixels, crop, spec, side, read, cpu_s)
        if isinstance(found, ImageError):
            raise found
        return found

    def prepare_all(
        self,
        data: Item,
        max_pixels: int,
        crop: "CropConfig",
        spec: InputSpec,
        side: int = 0,
        read: ReadSpec = ReadSpec(),
        cpu_s: float | None = None,
    ) -> list[FittedImage | ImageError]:
        """Returns the results of `prepare`, or the error, for each image of an item."""
        prepared: list[FittedImage | ImageError] = []
        look = decoder_process.prepare
        for found in self.ask(
            [data], max_pixels, look, crop.model_dump(), spec, side, read=read, cpu_s=cpu_s
        ):
            if isinstance(found, ImageError):
                prepared.append(found)
                continue
            facts, arrays = found
            box = Box(*facts.pop("box"))
            crop_shown = arrays[1] if side else None
            prepared.append(FittedImage(input=arrays[0], crop=crop_shown, box=box, **facts))
        return prepared

    def audit(
        self,
        items: Sequence[Item],
        max_pixels: int,
        crop: "CropConfig",
        read: ReadSpec = ReadSpec(),
    ) -> list[tuple[Facts, Sequence[Grey]] | ImageError]:
        """Decodes images; returns the facts of each, by their names in a scan, and its views, or its error.

        Batches of 16 took 20 to 40 % more CPU than decoding in this process, single images 60 % more.
        """
        return self.ask(items, max_pixels, decoder_process.audit, crop.model_dump(), read=read)

    def describe(
        self,
        files: Sequence[bytes],
        max_pixels: int,
        level: int,
        min_content: float,
        read: ReadSpec = ReadSpec(),
    ) -> list[Description | ImageError]:
        """Reads the headers of files; returns what they say, or their errors.

        Args:
            files: the encoded files. max_pixels: largest number of pixels of an image. level: grey level of
            the background. min_content: least share of an image's pixels above that level, if a file has
            several; with less it is
                empty.
            read: how pixels become grey.
        """
        look = FileLook(decoder_process.describe)
        found = self.ask(files, max_pixels, look, level, min_content, read=read)
        return [each if isinstance(each, ImageError) else Description(**each[0]) for each in found]

    def encode(self, item: Item, max_pixels: int, read: ReadSpec = ReadSpec()) -> list[bytes | ImageError]:
        """Decodes images; returns each as a PNG, or its error."""
        found = self.ask([item], max_pixels, decoder_process.encode, read=read)
        return [each if isinstance(each, ImageError) else each[1][0].tobytes() for each in found]
