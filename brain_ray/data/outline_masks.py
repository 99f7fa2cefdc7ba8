"""Masks of outlined tumours for a training: cropped and fitted as the images are, and augmented alike."""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.config import PHANTOMS, Config
from brain_ray.data.augmentation import augment
from brain_ray.data.dataset import read_table
from brain_ray.data.decoding import as_grey
from brain_ray.data.file_names import image_name
from brain_ray.data.folds import DEVELOPMENT
from brain_ray.data.outline_names import match_names
from brain_ray.data.outlines import Outlines, read_outlines
from brain_ray.data.phantoms.files import OUTLINES
from brain_ray.data.transforms import Box, shrink, to_input
from brain_ray.errors import RunError, list_faults, list_names
from brain_ray.runs import DATASET_MANIFEST, PHANTOM_IMAGES, Run

if TYPE_CHECKING:
    from brain_ray.config import AugmentConfig

CROP_SIDE = 96
"""Longer side, in pixels, of a head's crop in a drawn mask."""

MASK_SIDE = 64
"""Longer side, in pixels, of a fitted mask: a network's last map has at most 19 places a side at 600 px."""


def mask_size(config: Config) -> tuple[int, int]:
    """Returns the height and width of a fitted mask, in the ratio of the network's input."""
    height, width = config.model.height, config.model.width
    scale = MASK_SIDE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def outlines_at(run: Run, location: str) -> Outlines:
    """Reads the outlines at a path or URI, or those of a run's phantoms.

    Raises:
        RunError: they are not there, or have another form than `read_outlines` knows.
    """
    return read_outlines(run.uri(PHANTOM_IMAGES, OUTLINES) if location == PHANTOMS else location)


def draw_masks(run: Run, location: str) -> pa.Table:
    """Draws the outlines of the images of training and validation, from where `train.outlines` says.

    Returns:
        A row for each image that has one: `path`, its name in the prepared rows, and `mask`, a PNG of the
        head's crop, shrunk to `CROP_SIDE`, 255 inside.

    Raises:
        RunError: the outlines cannot be read, no image has one, or one does not fit its image.
    """
    outlines = outlines_at(run, location)
    manifest = read_table(run, *DATASET_MANIFEST)
    manifest = manifest[manifest["split"] != "rejected"].reset_index(drop=True)
    paths = _names(manifest)
    matched = match_names(outlines.names, paths)
    development = manifest["split"].isin(DEVELOPMENT).to_numpy()
    masks: dict[str, bytes] = {}
    faults: list[str] = []
    for name, place in matched.images.items():
        if not development[place]:
            continue
        row = manifest.iloc[place]
        try:
            mask = outlines.load(name).mask(int(row["height"]), int(row["width"]))
        except ValueError as error:
            faults.append(f"{name}: {error}")
            continue
        box = Box(*(int(row[side]) for side in ("top", "bottom", "left", "right")))
        crop = shrink(box.crop(as_grey(mask.astype(np.uint8) * 255)), CROP_SIDE)
        masks[paths[place]] = cv2.imencode(".png", crop)[1].tobytes()
    if faults:
        raise RunError(
            f"{len(faults)} outlines of {outlines.location} (train.outlines) do not fit:{list_faults(faults)}"
        )
    if not masks:
        raise RunError(
            f"no image of training has an outline in {outlines.location} (train.outlines), which has "
            f"those of {list_names(outlines.names)}"
        )
    return pa.table({"path": list(masks), "mask": pa.array(list(masks.values()), pa.binary())})


def _names(manifest: pd.DataFrame) -> list[str]:
    if "frame" not in manifest:
        return manifest["path"].tolist()
    return [image_name(*pair) for pair in zip(manifest["path"], manifest["frame"], strict=True)]


def read_mask(
    data: bytes, config: Config, changes: Iterable[tuple["AugmentConfig", np.random.Generator]] = ()
) -> NDArray[np.uint8]:
    """Returns a mask of `draw_masks`, `mask_size`, 255 inside, fitted as the network's input is.

    It is turned, shifted, scaled and flipped as its image is by the same changes with fresh generators; what
    comes in from outside is no tumour.
    """
    crop = as_grey(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
    height, width = mask_size(config)
    spec = replace(config.model.input_spec, height=height, width=width, background="keep")
    mask: Grey = as_grey(to_input(crop, Box.whole(crop), spec)[..., 0])
    for ranges, rng in changes:
        mask = augment(mask, _moves_of(ranges), rng)
    return mask


@lru_cache(maxsize=8)  # asked for with each image
def _moves_of(ranges: "AugmentConfig") -> "AugmentConfig":
    return ranges.model_copy(update=dict.fromkeys(GREY_LEVELS, 0.0) | {"keep_black": True})


GREY_LEVELS = ("brightness", "contrast", "noise", "artefact_share", "curve", "invert")
"""Settings of `AugmentConfig` that change grey levels and move no pixel; artefacts, which move some a little,
count as such."""
