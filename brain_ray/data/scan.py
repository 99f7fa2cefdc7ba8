"""What preparation does to one block of files, in a worker: scan them into rows, write rows as Parquet."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from brain_ray.config import DataConfig
from brain_ray.data import similarity
from brain_ray.data.decoder_process import Decoder
from brain_ray.data.image_export import export_images
from brain_ray.data.rows import BOX, ROW_SCHEMA, SPLITS, augment_seed
from brain_ray.data.transforms import THUMBNAIL_SIDE, ImageError
from brain_ray.runs import Run, RunError, filesystem

FACTS = ("image_id", "reason", "width", "height", *BOX, "has_box", "file_sha256", "pixel_sha256")
"""Columns of a scan that are small enough for the driver."""

READERS = 16
"""Files that a task reads at a time: each one in a bucket keeps it waiting for tens of milliseconds."""

BATCH = 16
"""Most files that the decoder is given at a time."""

BATCH_BYTES = 4_000_000
"""Bytes after which it is given fewer."""

FILE_IMAGES = 1024
"""Most images in one Parquet file: what a writing task holds in memory."""


@dataclass(frozen=True)
class Scan:
    """Opens files and takes their facts: from an Arrow table of image_id and path, one row a file."""

    source: str
    data: DataConfig

    def __call__(self, files: pa.Table) -> pa.Table:
        """Add the files' sizes, crop boxes, hashes and thumbnails; a file of no use has a reason.

        The files' bytes are not kept: `Write` reads those again that are used, so that the cluster's memory
        holds a thumbnail of each image and not all images.
        """
        cv2.setNumThreads(1)  # the cluster's other CPUs have blocks of their own
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        rows = []
        thumbnails = np.zeros((len(files), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
        for batch in _batches(_read_files(self.source, files["path"].to_pylist())):
            read = [data for data in batch if isinstance(data, bytes)]
            found = iter(_decoder().audit(read, self.data.max_pixels, self.data.crop))
            for data in batch:
                if isinstance(data, OSError):
                    rows.append(
                        {"reason": f"cannot be read: {data}", **_NO_FACTS, "file_sha256": _sha256(b"")}
                    )
                    continue
                told = next(found)
                if isinstance(told, ImageError):
                    rows.append({"reason": str(told), **_NO_FACTS, "file_sha256": _sha256(data)})
                else:
                    facts, (thumbnails[len(rows)],) = told
                    rows.append({"reason": "", "file_sha256": _sha256(data), **facts})
        table = pa.Table.from_pylist(rows, schema=_SCAN_SCHEMA)
        for name, array in (("thumbnail", thumbnails), ("embedding", similarity.embed(thumbnails))):
            table = table.append_column(name, fixed_size(array))
        return table.append_column("image_id", files["image_id"]).append_column("path", files["path"])


@cache
def _decoder() -> Decoder:
    """Return this process's decoder. It outlives the task: the next one does not wait for its start."""
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


def _read_files(source: str, paths: Sequence[str]) -> Iterator[bytes | OSError]:
    """Yield the content of files in their order, or what kept one from being read; some are read ahead."""
    opened, root = filesystem(source)

    def read(path: str) -> bytes | OSError:
        try:
            with opened.open_input_stream(f"{root.rstrip('/')}/{path}") as stream:
                return bytes(stream.read())
        except OSError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[Future[bytes | OSError]] = deque()
        for path in paths:
            waiting.append(pool.submit(read, path))
            if len(waiting) > 2 * READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _batches(files: Iterable[bytes | OSError]) -> Iterator[list[bytes | OSError]]:
    """Yield files some at a time."""
    batch: list[bytes | OSError] = []
    for data in files:
        batch.append(data)
        if len(batch) == BATCH or sum(len(one) for one in batch if isinstance(one, bytes)) > BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _sha256(data: bytes) -> str:
    return sha256(data).hexdigest()


def hash_files(source: str, paths: Sequence[str]) -> list[tuple[str, str]]:
    """Return each file's `file_sha256`, as in a scan, and why it cannot be read, or ""."""
    return [
        (_sha256(b""), str(data)) if isinstance(data, OSError) else (_sha256(data), "")
        for data in _read_files(source, paths)
    ]


def fixed_size(array: np.ndarray[Any, Any]) -> pa.FixedSizeListArray:
    flat = array.reshape(len(array), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])


@dataclass(frozen=True)
class Write:
    """Writes a block's rows into the splits of a run's data set, as files named `part-<first image>`.

    Names and contents depend on the block alone, so that a task that Ray runs a second time writes the same
    files again and no row twice.
    """

    run: Run
    source: str
    data: DataConfig
    seed: int
    plan: pd.DataFrame
    """Indexed by image_id: split, label, cluster, copies, first_row (row_id of the image itself)."""

    def __call__(self, block: pa.Table) -> dict[str, int]:
        """Write a scanned block; return how many rows went into each split.

        Raises:
            RunError: a file is gone, or is not the one that was scanned.
        """
        plan = self.plan.loc[block["image_id"].to_numpy()]
        counts = {}
        for split in SPLITS:
            chosen = np.flatnonzero((plan["split"] == split).to_numpy())
            counts[split] = int((plan["copies"].to_numpy()[chosen] + 1).sum())
            for k in range(0, len(chosen), FILE_IMAGES):
                part = chosen[k : k + FILE_IMAGES]
                self._write(self._rows(self._with_bytes(block.take(part)), plan.iloc[part]), split)
        return counts

    def _write(self, rows: pa.Table, split: str) -> None:
        pq.write_table(
            rows,
            self.run.path("dataset", split, f"part-{rows['image_id'][0].as_py():09d}.parquet"),
            filesystem=self.run.fs,
            compression="none",  # the images are compressed already
            use_dictionary=False,  # and none is there twice
        )
        if self.data.export_images:
            export_images(rows, self.data, split)

    def _with_bytes(self, block: pa.Table) -> pa.Table:
        paths, hashes = block["path"].to_pylist(), block["file_sha256"].to_pylist()
        found = []
        for path, expected, data in zip(paths, hashes, _read_files(self.source, paths), strict=True):
            if isinstance(data, OSError):
                raise RunError(f"{path} cannot be read any more: {data}; prepare again") from data
            if _sha256(data) != expected:
                raise RunError(
                    f"{path} changed while it was prepared: its SHA-256 is {_sha256(data)}, "
                    f"was {expected}; prepare again"
                )
            found.append(data)
        return block.append_column("bytes", pa.array(found, pa.binary()))

    def _rows(self, block: pa.Table, plan: pd.DataFrame) -> pa.Table:
        repeats = plan["copies"].to_numpy() + 1
        source = np.repeat(np.arange(len(plan)), repeats)
        number = np.concatenate([np.arange(count) for count in repeats])
        ids = plan.index.to_numpy()[source]
        columns = {name: block[name].take(source) for name in ("image_id", "path", "bytes", *BOX)}
        columns |= {name: block[name].take(source) for name in ("file_sha256", "pixel_sha256")}
        columns["row_id"] = pa.array(plan["first_row"].to_numpy()[source] + number)
        columns["label"] = pa.array(plan["label"].to_numpy()[source])
        columns["cluster"] = pa.array(plan["cluster"].to_numpy()[source])
        seeds = [
            augment_seed(self.seed, int(i), int(k)) if k else -1 for i, k in zip(ids, number, strict=True)
        ]
        columns["augment_seed"] = pa.array(seeds, pa.int64())
        return pa.table({name: columns[name] for name in ROW_SCHEMA.names}).cast(ROW_SCHEMA)
