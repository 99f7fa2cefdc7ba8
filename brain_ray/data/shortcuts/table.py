"""Table of the views of the images that shortcuts are measured on: whole groups, drawn with a run's seed."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from brain_ray.arrays import fixed_size, from_fixed_size
from brain_ray.data.groups import hold_out_groups
from brain_ray.data.shortcuts.views import SCANNED, VIEWS, Floats, view_size

MAX_IMAGES = 3000
"""About the largest number of images that are learned from, and of test images: of more, whole groups are
drawn, each class in its share."""


def draw_images(manifest: pd.DataFrame, seed: int, most: int = MAX_IMAGES) -> NDArray[np.int64]:
    """Draws the images whose views are kept: of training and validation about `most`, and of the test split.

    Args:
        manifest: image_id, label, group and split.
        seed: seed of the draw.
        most: number of images from which on they are drawn.

    Returns:
        Their image_ids, sorted.
    """
    drawn = []
    for splits in (["train", "valid"], ["test"]):
        images = manifest[manifest["split"].isin(splits)]
        labels, groups = (images[name].to_numpy(np.int64) for name in ("label", "group"))
        places = np.arange(len(images))
        if len(images) > most:
            places = hold_out_groups(labels, groups, most / len(images), seed)
        drawn.append(images["image_id"].to_numpy(np.int64)[places])
    return np.sort(np.concatenate(drawn))


def tabulate(images: pd.DataFrame, scanned: Floats) -> pa.Table:
    """Returns a table with image_id and a column for each view.

    Args:
        images: image_id, width, height, size (of the file, in bytes) and file_images (how many the file has),
            (n,) rows.
        scanned: their views of `SCANNED`, (n, NUM_SCANNED).
    """
    ends = np.cumsum([VIEWS[name].length for name in SCANNED])[:-1]
    found = dict(zip(SCANNED, np.split(scanned, ends, axis=1), strict=True))
    sizes = zip(images["width"].tolist(), images["height"].tolist(), strict=True)
    found["size"] = np.stack([view_size(*size) for size in sizes]) if len(images) else np.zeros((0, 3), "f4")
    pixels = images["width"] * images["height"] * images["file_images"]
    per_pixel = (images["size"] / pixels).where(images["size"] > 0)  # -1: the source does not say it
    found["compression"] = np.log(per_pixel).to_numpy(np.float32)[:, None]
    columns = {name: fixed_size(np.ascontiguousarray(found[name])) for name in VIEWS}
    return pa.table({"image_id": images["image_id"].to_numpy(np.int64), **columns})


def views_of(table: pa.Table) -> dict[str, Floats]:
    """Returns the views of a table from `tabulate`, (n, length) each, those of `VIEWS` that it has."""
    if not len(table):
        return {}
    known = [name for name in VIEWS if name in table.column_names]
    return {name: from_fixed_size(table[name]).reshape(len(table), -1) for name in known}


def kinds_of(views: Mapping[str, Floats]) -> NDArray[np.bool_]:
    """Returns, for the views side by side, which of their columns hold kinds."""
    return np.concatenate([np.full(each.shape[1], VIEWS[name].kinds) for name, each in views.items()])
