"""The test split of a prepared run as a manifest: a source of labelled images for any bundle."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from brain_ray.config import PHANTOMS, Config
from brain_ray.data.dataset import read_table
from brain_ray.data.file_names import ALONE
from brain_ray.data.sources.find import root_of
from brain_ray.data.sources.manifest_names import RESERVED
from brain_ray.errors import RunError
from brain_ray.runs import CONFIG, DATASET, DATASET_MANIFEST, PHANTOM_IMAGES, Run
from brain_ray.storage import resolve

SUFFIX = "/" + "/".join(DATASET_MANIFEST)
"""End of the path of a prepared run's manifest."""

LISTED = ("source", "test.parquet")
"""File of a run that lists the test images of another one."""


@dataclass(frozen=True)
class Source:
    """Values of `data.source` and `data.root`."""

    source: str
    root: str | None


def use_test_rows(run: Run, source: str, root: str | None) -> Source:
    """Returns where labelled images are; of a prepared run's manifest, lists its test split in `run`.

    Args:
        run: the external run.
        source: `data.source`; such as `RUN/dataset/manifest.parquet` of a prepared run.
        root: `data.root`.

    Raises:
        RunError: the prepared run has no test split, or one of slices of volumes.
    """
    location = source if source == PHANTOMS else resolve(source)
    storage, _, name = location.removesuffix(SUFFIX).rpartition("/")
    if not location.endswith(SUFFIX) or not storage or Run(storage, name).finished(DATASET) is None:
        return Source(source, root)
    prepared = Run(storage, name)
    data = Config.model_validate(prepared.read_json(*CONFIG)["config"]).data
    manifest = read_table(prepared, *DATASET_MANIFEST)
    rows = manifest[manifest["split"] == "test"]
    if rows.empty:
        raise RunError(f"{location} has no test images: set --data.source to images that are labelled")
    if "frame" in rows and (rows["frame"] != ALONE).any():
        raise RunError(
            f"{location} names slices of volumes, which a manifest cannot: set --data.source to {data.source}"
        )
    listed = as_listed(rows, [name for name in ("patient", "source") if name in rows])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(listed, preserve_index=False), buffer)
    run.write_bytes(buffer.getvalue(), *LISTED)
    drawn = data.source == PHANTOMS
    images = prepared.uri(PHANTOM_IMAGES) if drawn else root_of(resolve(data.source), data)
    return Source(run.uri(*LISTED), images)


def as_listed(rows: pd.DataFrame, stated: Sequence[str]) -> pd.DataFrame:
    """Returns rows of a prepared manifest as a source lists them: path, label, what it states by these names
    of `STATED`, and its own columns."""
    own = [name for name in rows.columns if name not in RESERVED]
    listed = rows[["path", "class_name", *stated, *own]]
    return listed.rename(columns={"class_name": "label", "source_split": "split"})
