"""Schema of a prepared row, and the way from a row to a network's input."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from brain_ray.config import AugmentConfig, Config
from brain_ray.data import decoding, transforms
from brain_ray.data.decoding import ImageError
from brain_ray.data.file_names import image_name
from brain_ray.data.transforms import Box
from brain_ray.errors import RunError
from brain_ray.input_spec import WINDOW, InputSpec, ReadSpec

SPLITS = ("train", "valid", "test")

BOX = ("top", "bottom", "left", "right")

ROW_SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("image_id", pa.int64()),
        ("path", pa.string()),
        ("label", pa.int64()),
        ("bytes", pa.binary()),
        *((side, pa.int64()) for side in BOX),
        ("file_sha256", pa.string()),
        ("pixel_sha256", pa.string()),
        ("cluster", pa.int64()),
        ("augment_seed", pa.int64()),
    ]
)
"""Schema of a prepared row: an encoded image, its crop box, and the seed of its augmentation (-1: none)."""

LATER = ("artefacts", "artefact_share", "curve", "invert")
"""Settings of the balancing copies that came later: unset, they change no row and no digest."""

ROW_COLUMNS = ["row_id", "path", "label", "bytes", *BOX, "augment_seed"]
"""Columns of a prepared row that give its network input, label and name."""


def read_input(
    row: Mapping[str, Any],
    spec: InputSpec,
    max_pixels: int,
    read: ReadSpec,
    changes: Iterable[tuple[AugmentConfig, np.random.Generator]] = (),
) -> NDArray[np.uint8]:
    """Returns a row's network input, uint8 (height, width, 1): decoded, cropped, fitted and augmented.

    Args:
        row: `path`, `bytes` and the sides of its crop box.
        spec: the network's input.
        max_pixels: largest number of pixels allowed.
        read: how the pixels of its file become grey.
        changes: augmentations, applied in order: ranges, and the generator that draws from them.

    Raises:
        RunError: the row cannot be decoded any more.
    """
    try:
        grey = decoding.decode(row["bytes"], max_pixels, read=read)
    except ImageError as error:
        raise RunError(f"the data set's row of {row['path']} is damaged: {error}; prepare again") from error
    return transforms.to_input(grey, Box(*(row[side] for side in BOX)), spec, changes)


def changes_of(
    row: Mapping[str, Any], config: Config, epoch: int | None
) -> list[tuple[AugmentConfig, np.random.Generator]]:
    """Returns the augmentations of a training row: that of a balancing copy, the same in each epoch, then
    that of the epoch.

    They depend on the run's seed, the epoch (None: no augmentation of an epoch) and the row alone, not on the
    process that loads it or when.
    """
    changes = []
    if row["augment_seed"] >= 0:
        changes.append((config.data.balance, np.random.default_rng(row["augment_seed"])))
    if epoch is not None:
        changes.append((config.train.augment, np.random.default_rng([config.seed, epoch, row["row_id"]])))
    return changes


def augment_seed(seed: int, image_id: int, number: int) -> int:
    """Returns the seed of an image's balancing copy, which depends on these three numbers only."""
    state = np.random.SeedSequence([seed, image_id, number]).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


EARLIER_COPIES = ("keep_black", False)
"""What balancing copies were like before there was the setting: the same rows with and without it."""


def rows_digest(manifest: pd.DataFrame, seed: int, data: Mapping[str, Any]) -> str:
    """Returns the SHA-256 (hex) of everything that a data set's rows depend on: equal digests, equal rows.

    The source's location, its files' times and unused files have no influence. Rows of a file with several
    images are named by their numbers.

    Args:
        manifest: one row per file, with the columns of `manifest.parquet`.
        seed: the run's seed, from which the balancing copies' seeds come.
        data: the settings of its preparation, as JSON; of these, `classes`, `balance` and `window` are used.
    """
    balance = {
        name: value
        for name, value in data["balance"].items()
        if (value or name not in LATER) and (name, value) != EARLIER_COPIES
    }
    used = manifest[manifest["split"].isin(SPLITS)]
    if "frame" in used:  # a data set of an earlier version has one image a file
        names = map(image_name, used["path"], used["frame"])
        used = used.assign(path=pd.Series(list(names), index=used.index, dtype="object"))
    copied = bool(used["copies"].any())
    columns = used[["split", "path", "label", *BOX, "file_sha256", "copies"]].assign(
        cluster=pd.factorize(used["cluster"])[0],  # its number depends on files that are not used
        image_id=used["image_id"].where(used["copies"] > 0, -1),
    )
    settings: dict[str, Any] = {"seed": seed, "balance": balance} if copied else {}
    window = data.get("window", WINDOW)
    if list(window) != list(WINDOW):
        settings["window"] = list(window)
    digest = sha256(json.dumps({"classes": data["classes"], **settings}, sort_keys=True).encode())
    for row in columns.itertuples(index=False):
        digest.update(("\0".join(map(str, row)) + "\n").encode())
    return digest.hexdigest()
