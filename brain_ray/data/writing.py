"""Ray task of preparation: writes a scanned block as Parquet files, and exports its images."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from brain_ray.config import DataConfig
from brain_ray.data.decoding import ImageError
from brain_ray.data.file_names import image_name
from brain_ray.data.formats import is_volume
from brain_ray.data.image_export import export_images
from brain_ray.data.rows import BOX, ROW_SCHEMA, SPLITS, augment_seed
from brain_ray.data.scan import images_by_path, item_of, read_files, shared_decoder
from brain_ray.errors import RunError
from brain_ray.runs import DATASET, Run
from brain_ray.storage_retries import patiently

FILE_IMAGES = 1024
"""Largest number of images in one Parquet file: a writing task holds them in memory."""


class Written(NamedTuple):
    """A file of rows, as `DATASET_PARTS` lists it."""

    split: str
    file: str
    """Its name in the split's folder."""
    num_rows: int
    num_bytes: int
    """Of the rows in memory."""
    labels: list[int]
    """Rows of each class, in the order of `data.classes`."""


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
    """Table indexed by image_id: split, label, cluster, copies, first_row (row_id of the image itself)."""
    file_images: int = FILE_IMAGES
    """Largest number of images in one file."""

    def __call__(self, block: pa.Table) -> list[Written]:
        """Writes a scanned block; returns the files.

        Raises:
            RunError: a file is gone, or is not the one that was scanned.
        """
        plan = self.plan.loc[block["image_id"].to_numpy()]
        written = []
        for split in SPLITS:
            chosen = np.flatnonzero((plan["split"] == split).to_numpy())
            for k in range(0, len(chosen), self.file_images):
                part = chosen[k : k + self.file_images]
                rows = self._rows(self._with_bytes(block.take(part)), plan.iloc[part])
                written.append(self._write(rows, split))
        return written

    def _write(self, rows: pa.Table, split: str) -> Written:
        file = f"part-{rows['image_id'][0].as_py():09d}.parquet"
        patiently()(
            pq.write_table,
            rows,
            self.run.path(DATASET, split, file),
            filesystem=self.run.fs,
            compression="none",  # the images are compressed already
            use_dictionary=False,  # and all are different
        )
        if self.data.export_images:
            export_images(rows, self.data, split)
        labels = np.bincount(rows["label"].to_numpy(), minlength=len(self.data.classes))
        return Written(split, file, len(rows), rows.nbytes, labels.tolist())

    def _with_bytes(self, block: pa.Table) -> pa.Table:
        """Returns a block with the column `bytes`: a picture's file as it is, an image of several as a
        PNG."""
        hashes, images = block["file_sha256"].to_pylist(), images_by_path(block)
        found: list[bytes] = [b""] * len(block)
        for (path, of), data in zip(images.items(), read_files(self.source, list(images)), strict=True):
            if isinstance(data, OSError):
                raise RunError(f"{path} cannot be read any more: {data}; prepare again") from data
            expected = hashes[of[0][0]]
            if sha256(data).hexdigest() != expected:
                raise RunError(
                    f"{path} changed while it was prepared: its SHA-256 is {sha256(data).hexdigest()}, "
                    f"was {expected}; prepare again"
                )
            for (row, _), encoded in zip(of, self._encoded(path, data, [n for _, n in of]), strict=True):
                found[row] = encoded
        return block.append_column("bytes", pa.array(found, pa.binary()))

    def _encoded(self, path: str, data: bytes, frames: Sequence[int]) -> list[bytes]:
        if not is_volume(data):
            return [data]
        encoded = shared_decoder().encode(item_of(data, frames), self.data.max_pixels, self.data.read_spec)
        for each in encoded:
            if isinstance(each, ImageError):
                raise RunError(f"{path} cannot be decoded any more: {each}; prepare again") from each
        return [each for each in encoded if isinstance(each, bytes)]

    def _rows(self, block: pa.Table, plan: pd.DataFrame) -> pa.Table:
        repeats = plan["copies"].to_numpy() + 1
        source = np.repeat(np.arange(len(plan)), repeats)
        number = np.concatenate([np.arange(count) for count in repeats])
        ids = plan.index.to_numpy()[source]
        columns = {name: block[name].take(source) for name in ("image_id", "bytes", *BOX)}
        names = [
            image_name(path, frame)
            for path, frame in zip(block["path"].to_pylist(), block["frame"].to_pylist(), strict=True)
        ]
        columns["path"] = pa.array(names, pa.string()).take(source)
        columns |= {name: block[name].take(source) for name in ("file_sha256", "pixel_sha256")}
        columns["row_id"] = pa.array(plan["first_row"].to_numpy()[source] + number)
        columns["label"] = pa.array(plan["label"].to_numpy()[source])
        columns["cluster"] = pa.array(plan["cluster"].to_numpy()[source])
        seeds = [
            augment_seed(self.seed, int(i), int(k)) if k else -1 for i, k in zip(ids, number, strict=True)
        ]
        columns["augment_seed"] = pa.array(seeds, pa.int64())
        return pa.table({name: columns[name] for name in ROW_SCHEMA.names}).cast(ROW_SCHEMA)
