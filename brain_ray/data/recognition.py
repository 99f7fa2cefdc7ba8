"""Recognition of known sets on Ray: the patients of scanned images that a published data set has."""

from typing import Any

import pandas as pd
import pyarrow as pa
import ray
import ray.data

from brain_ray.arrays import from_fixed_size
from brain_ray.cluster.tasks import run_tasks
from brain_ray.data.registry.match import recognise_prints
from brain_ray.data.registry.store import SIDE, shipped
from brain_ray.data.registry.summary import describe, sum_up


def find_known(scanned: ray.data.Dataset, usable: pd.Series) -> pd.DataFrame:
    """Returns what the registry tells of each image; tasks look at a block each.

    Args:
        scanned: the result of `Scan`.
        usable: whether an image can be used, by image_id.

    Returns:
        Table with the index of `usable`: the columns of `registry.summary.describe`, known_orientation and
            known_similarity.
    """
    look = ray.remote(recognise_block).options(num_cpus=1)
    found = [table for _, table in run_tasks(look.remote, scanned.to_arrow_refs())]
    table = pd.concat(found).set_index("image_id").reindex(usable.index)
    table.loc[~usable, "known"] = -1
    told = describe(table["known"], shipped())
    return told.join(table[["known_orientation", "known_similarity"]])


def recognise_block(block: pa.Table) -> pd.DataFrame:
    """Returns the result of `registry.match.recognise_prints` for a block from `Scan`, with its image_ids."""
    prints = from_fixed_size(block["fingerprint"]).reshape(-1, SIDE, SIDE)
    return recognise_prints(prints, shipped()).assign(image_id=block["image_id"].to_numpy())


def sum_up_known(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the findings of each known set in a manifest, for audit.json; [] if none was looked for."""
    if "known_set" not in manifest:
        return []
    return sum_up(manifest[manifest["split"] != "rejected"], shipped())
