"""Ray task of preparation: the files of a block -> facts and thumbnails."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import cv2
import numpy as np
import pyarrow as pa

from brain_ray.arrays import fixed_size
from brain_ray.config import DataConfig
from brain_ray.data import similarity
from brain_ray.data.decoder import Decoder
from brain_ray.data.decoding import ImageError
from brain_ray.data.rows import BOX
from brain_ray.data.sources.reader import FileReader
from brain_ray.data.transforms import THUMBNAIL_SIDE

FACTS = ("image_id", "reason", "width", "height", *BOX, "has_box", "file_sha256", "pixel_sha256")
"""Columns of a scan that are small enough for the driver."""

NUM_READERS = 16
"""Number of files that a task reads at a time: a file in a bucket takes tens of milliseconds."""

DECODER_BATCH = 16
"""Largest number of files that the decoder is given at a time."""

DECODER_BATCH_BYTES = 4_000_000
"""Bytes of files after which the decoder is given no more at a time."""


@dataclass(frozen=True)
class Scan:
    """Ray task: opens the files of a block, an Arrow table with the columns image_id and path."""

    source: str
    data: DataConfig

    def __call__(self, files: pa.Table) -> pa.Table:
        """Returns a row per file: reason ("" if it can be used), size, crop box, hashes, thumbnail and
        embedding.

        The columns are those of `FACTS`, thumbnail, embedding and path. The files' bytes are not kept:
        `Write` reads the used files again, so that the cluster's memory holds a thumbnail of each image and
        not all images.
        """
        cv2.setNumThreads(1)  # the cluster's other CPUs have blocks of their own
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        rows = []
        thumbnails = np.zeros((len(files), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
        for batch in _batches(read_files(self.source, files["path"].to_pylist())):
            read = [data for data in batch if isinstance(data, bytes)]
            found = iter(_decoder().audit(read, self.data.max_pixels, self.data.crop))
            for data in batch:
                if isinstance(data, OSError):
                    rows.append(
                        {
                            "reason": f"cannot be read: {data}",
                            **_NO_FACTS,
                            "file_sha256": sha256(b"").hexdigest(),
                        }
                    )
                    continue
                told = next(found)
                if isinstance(told, ImageError):
                    rows.append({"reason": str(told), **_NO_FACTS, "file_sha256": sha256(data).hexdigest()})
                else:
                    facts, (thumbnails[len(rows)],) = told
                    rows.append({"reason": "", "file_sha256": sha256(data).hexdigest(), **facts})
        table = pa.Table.from_pylist(rows, schema=_SCAN_SCHEMA)
        for name, array in (("thumbnail", thumbnails), ("embedding", similarity.embed(thumbnails))):
            table = table.append_column(name, fixed_size(array))
        return table.append_column("image_id", files["image_id"]).append_column("path", files["path"])


@cache
def _decoder() -> Decoder:
    """Returns this process's decoder. It outlives the task: the next one does not wait for its start."""
    return Decoder()


_SCAN_SCHEMA = pa.schema(
    [
        ("reason", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        *((side, pa.int64()) for side in BOX),
        ("has_box", pa.bool_()),
        ("file_sha256", pa.string()),
        ("pixel_sha256", pa.string()),
    ]
)
_NO_FACTS = {"width": 0, "height": 0, **dict.fromkeys(BOX, 0), "has_box": False, "pixel_sha256": ""}


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


def _batches(files: Iterable[bytes | OSError]) -> Iterator[list[bytes | OSError]]:
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
    return [
        (sha256(b"").hexdigest(), str(data)) if isinstance(data, OSError) else (sha256(data).hexdigest(), "")
        for data in read_files(source, paths)
    ]
