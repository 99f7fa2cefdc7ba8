"""Ray task of preparation: the images of a block -> facts, and what copies are found by."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from brain_ray.arrays import fixed_size
from brain_ray.config import DataConfig
from brain_ray.data.copies.candidates import NUM_VIEWS, index
from brain_ray.data.copies.head_view import SIDE
from brain_ray.data.decoder import Decoder, Description
from brain_ray.data.decoder_messages import Frames, Item
from brain_ray.data.decoding import ImageError
from brain_ray.data.file_names import ALONE
from brain_ray.data.formats import is_volume
from brain_ray.data.registry.match import fingerprint
from brain_ray.data.rows import BOX
from brain_ray.data.shortcuts.views import NUM_SCANNED, view_format
from brain_ray.data.sources.reader import FileReader
from brain_ray.data.transforms import THUMBNAIL_SIDE

HASHES = ("file_sha256", "pixel_sha256")

FACTS = ("image_id", "reason", "width", "height", *BOX, "has_box", "grey_levels", "looks_like", *HASHES)
"""Columns of a scan that are small enough for the driver."""

AUDITED = ("views", "heads", "embeddings", "spectra", "fingerprint", "shortcuts")
"""Columns that copies, known images and shortcuts are found by: two views of the head, (2, 64, 64) uint8,
where it lies in them (see `head_view.view_twice`), (2, 3) float32, their `candidates.Index`, the fingerprint
of `registry.match`, (24, 24) uint8, and the views of `shortcuts.views.SCANNED`."""

NUM_READERS = 16
"""Number of files that a task reads at a time: a file in a bucket takes tens of milliseconds."""

DECODER_BATCH = 16
"""Largest number of files that the decoder is given at a time."""

DECODER_BATCH_BYTES = 4_000_000
"""Bytes of files after which the decoder is given no more at a time."""


@dataclass(frozen=True)
class Scan:
    """Ray task: opens the images of a block, an Arrow table with the columns image_id, path and frame."""

    source: str
    data: DataConfig

    def __call__(self, files: pa.Table) -> pa.Table:
        """Returns a row per image: reason ("" if it can be used), size, crop box, hashes, and what copies and
        known images are found by.

        The columns are those of `FACTS` and `AUDITED`, path and frame. A file is opened once for all its
        images in the block. The files' bytes are not kept: `Write` reads the used files again, so that the
        cluster's memory holds 10 KB of each image and not all images.
        """
        cv2.setNumThreads(1)  # the cluster's other CPUs have blocks of their own
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        images = images_by_path(files)
        rows: list[dict[str, Any]] = [{}] * len(files)
        thumbnails = np.zeros((len(files), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
        views = np.zeros((len(files), NUM_VIEWS, SIDE, SIDE), np.uint8)
        heads = np.zeros((len(files), NUM_VIEWS, 3), np.float32)
        shortcuts = np.zeros((len(files), NUM_SCANNED), np.float32)
        rest = iter(images.values())
        for batch in batches(read_files(self.source, list(images))):
            named = [(next(rest), content) for content in batch]
            files_read = [(of, content) for of, content in named if isinstance(content, bytes)]
            read = [item_of(content, [number for _, number in of]) for of, content in files_read]
            told = iter(
                shared_decoder().audit(read, self.data.max_pixels, self.data.crop, self.data.read_spec)
            )
            for of, content in named:
                for row, _ in of:
                    rows[row] = {"reason": "", "file_sha256": _sha256(content)}
                    found = next(told) if isinstance(content, bytes) else content
                    if isinstance(found, OSError | ImageError):
                        rows[row] |= {"reason": _reason(found, content, self.data), **_NO_FACTS}
                    else:
                        assert isinstance(content, bytes), "what was decoded has been read"
                        facts, (views[row], thumbnails[row], around) = found
                        shortcuts[row] = np.concatenate([view_format(content), around.view(np.float32)])
                        heads[row] = np.reshape(facts.pop("heads"), (NUM_VIEWS, 3))
                        rows[row] |= facts
        table = pa.Table.from_pylist(rows, schema=_SCAN_SCHEMA)
        indexed = index(views)
        arrays: list[np.ndarray[Any, Any]] = [views, heads, indexed.embeddings, indexed.packed]
        for name, array in zip(AUDITED, [*arrays, fingerprint(thumbnails), shortcuts], strict=True):
            table = table.append_column(name, fixed_size(array))
        for name in ("image_id", "path", "frame"):
            table = table.append_column(name, files[name])
        return table


def images_by_path(images: pa.Table) -> dict[str, list[tuple[int, int]]]:
    """Returns, for each path of a table of images, the rows and the numbers of its images, in the rows'
    order."""
    found: dict[str, list[tuple[int, int]]] = {}
    for row, (path, frame) in enumerate(
        zip(images["path"].to_pylist(), images["frame"].to_pylist(), strict=True)
    ):
        found.setdefault(path, []).append((row, frame))
    return found


def item_of(content: bytes, frames: Sequence[int]) -> Item:
    """Returns what a decoder is asked for images of a file: the file, if one is alone in it, or their
    numbers."""
    return content if list(frames) == [ALONE] else Frames(content, tuple(frames))


def describe(files: Sequence[bytes], data: DataConfig) -> list[Description | ImageError]:
    """Returns what the headers of files say of their images, by the settings of a data set."""
    level, min_content = data.crop.threshold, data.volumes.min_content
    return shared_decoder().describe(files, data.max_pixels, level, min_content, data.read_spec)


def _reason(error: OSError | ImageError, content: bytes | OSError, data: DataConfig) -> str:
    """Returns why an image is rejected."""
    if isinstance(error, OSError):
        return f"cannot be read: {error}"
    if error.code == "several_images" and isinstance(content, bytes) and is_volume(content):
        # Each image that shows something has a row of its own: there is none, or the file could not be read.
        (found,) = describe([content], data)
        empty = (
            f"each of its {len(found.positions)} images is empty" if isinstance(found, Description) else ""
        )
        return f"{empty}, by data.volumes.min_content" if empty else str(found)
    return str(error)


@cache
def shared_decoder() -> Decoder:
    """Returns this process's decoder. It outlives the task: the next one does not wait for its start."""
    return Decoder()


_SCAN_SCHEMA = pa.schema(
    [
        ("reason", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        *((side, pa.int64()) for side in BOX),
        ("has_box", pa.bool_()),
        ("grey_levels", pa.int64()),
        ("looks_like", pa.string()),
        ("file_sha256", pa.string()),
        ("pixel_sha256", pa.string()),
    ]
)
_NO_BOX = {**dict.fromkeys(BOX, 0), "has_box": False}
_NO_FACTS = {"width": 0, "height": 0, **_NO_BOX, "grey_levels": 0, "looks_like": "", "pixel_sha256": ""}


def read_files(source: str, paths: Sequence[str]) -> Iterator[bytes | OSError]:
    """Yields the content of files in their order, or the error of a file that cannot be read; reads some
    ahead."""
    reader = FileReader(source)

    def read(path: str) -> bytes | OSError:
        try:
            return reader.read(path)
        except OSError as error:
            return error

    with ThreadPoolExecutor(NUM_READERS) as pool:
        waiting: deque[Future[bytes | OSError]] = deque()
        for path in paths:
            waiting.append(pool.submit(read, path))
            if len(waiting) > 2 * NUM_READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def batches(files: Iterable[bytes | OSError]) -> Iterator[list[bytes | OSError]]:
    """Groups files into batches, limited in number and bytes."""
    batch: list[bytes | OSError] = []
    for data in files:
        batch.append(data)
        if (
            len(batch) == DECODER_BATCH
            or sum(len(one) for one in batch if isinstance(one, bytes)) > DECODER_BATCH_BYTES
        ):
            yield batch
            batch = []
    if batch:
        yield batch


def hash_files(source: str, paths: Sequence[str]) -> list[tuple[str, str]]:
    """Returns each file's `file_sha256`, equal to that of a scan, and the error if it cannot be read, or
    ""."""
    files = read_files(source, paths)
    return [(_sha256(data), str(data) if isinstance(data, OSError) else "") for data in files]


def _sha256(data: bytes | OSError) -> str:
    """Returns the hash of a file's content, that of nothing if it cannot be read."""
    return sha256(b"" if isinstance(data, OSError) else data).hexdigest()
