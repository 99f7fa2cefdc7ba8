"""Export of the prepared images as a tree of JPEG files (`data.export_images`)."""

import json
from functools import partial
from pathlib import PurePosixPath

import cv2
import numpy as np
import pyarrow as pa
from pyarrow import fs as pafs

from brain_ray.config import DataConfig
from brain_ray.data import augmentation, decoding
from brain_ray.data.rows import BOX, SPLITS
from brain_ray.data.transforms import Box
from brain_ray.errors import RunError
from brain_ray.runs import Run
from brain_ray.storage import filesystem, storage_errors
from brain_ray.storage_retries import patiently, read_file, retry_known, write_file

EXPORTED = "export.json"
"""File in the folder of exported images that names their run."""


def check_export(run: Run, folder: str) -> None:
    """Checks that a folder for exported images is empty, or holds an export of the same run.

    Raises:
        RunError: it holds anything else, which must not be mixed or overwritten.
    """
    with storage_errors(f"read {folder}"):
        opened, root = filesystem(folder)
        selector = pafs.FileSelector(root, allow_not_found=True)
        found = retry_known(folder, partial(opened.get_file_info, selector))
        names = {info.base_name for info in found if not info.base_name.startswith(".")}
        if EXPORTED in names:
            content = patiently()(read_file, opened, f"{root.rstrip('/')}/{EXPORTED}")
            names = set() if json.loads(content)["run"] == run.uri() else names
    if names:
        raise RunError(
            f"data.export_images: {folder} is not empty, and not an export of {run.uri()}: set "
            "--data.export-images to an empty folder"
        )


def begin_export(run: Run, folder: str) -> None:
    """Deletes an earlier export of this run from the folder for exported images, and marks the folder as this
    run's.

    Raises:
        RunError: the folder holds anything but an export of this run.
    """
    check_export(run, folder)
    with storage_errors(f"write {folder}"):
        opened, root = filesystem(folder)
        for split in SPLITS:
            path = f"{root.rstrip('/')}/{split}"
            patiently()(opened.delete_dir_contents, path, missing_dir_ok=True)
        patiently()(opened.create_dir, root, recursive=True)
        content = json.dumps({"run": run.uri()}).encode()
        patiently()(write_file, opened, f"{root.rstrip('/')}/{EXPORTED}", content)


def export_images(rows: pa.Table, data: DataConfig, split: str) -> None:
    """Writes rows as cropped (and augmented) JPEG files, one per row.

    Their paths are `<export_images>/<split>/<class>/<stem>_<image_id>.jpg`; balancing copies end in
    `_aug<row_id>`. The id is needed because a stem can occur several times: in folders of patients, with
    several suffixes, in both folders.
    """
    opened, root = filesystem(str(data.export_images))
    for row in rows.drop(["file_sha256", "pixel_sha256"]).to_pylist():
        grey = decoding.decode(row["bytes"], data.max_pixels, read=data.read_spec)
        image = Box(*(row[side] for side in BOX)).crop(grey)
        name = f"{PurePosixPath(row['path']).stem}_{row['image_id']}"
        if row["augment_seed"] >= 0:
            image = augmentation.augment(image, data.balance, np.random.default_rng(row["augment_seed"]))
            name += f"_aug{row['row_id']}"
        folder = f"{root.rstrip('/')}/{split}/{data.classes[row['label']]}"
        patiently()(opened.create_dir, folder, recursive=True)
        encoded = cv2.imencode(".jpg", image)[1].tobytes()
        patiently()(write_file, opened, f"{folder}/{name}.jpg", encoded)
