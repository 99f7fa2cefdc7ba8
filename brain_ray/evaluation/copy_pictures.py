"""Pictures of copies, contradicting labels and flagged images in a report; reads only what it shows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from brain_ray.arrays import Grey
from brain_ray.config import PHANTOMS, Config
from brain_ray.data import decoding
from brain_ray.data.copies.placement import TRANSFORMS, turn
from brain_ray.data.dataset import read_table
from brain_ray.data.decoding import ImageError
from brain_ray.data.file_names import ALONE, image_name
from brain_ray.data.sources.find import root_of
from brain_ray.data.sources.reader import FileReader
from brain_ray.evaluation.copy_choice import (
    ChosenCluster,
    Turned,
    choose_clusters,
    choose_contradictions,
    choose_flagged,
    choose_largest,
    choose_pairs,
    conflicts_beyond,
)
from brain_ray.evaluation.copy_plates import ClusterRow, CopyPair, LabelDispute, Picture
from brain_ray.evaluation.image_plates import shrink
from brain_ray.runs import AUDIT, DATASET, DATASET_MANIFEST, PHANTOM_IMAGES, Run
from brain_ray.storage import resolve
from brain_ray.storage_retries import patiently

SIDE = 256
"""Longest side, in pixels, to which images are shrunk as soon as they are read."""

MAX_CONFLICT_ROWS = 12
"""Clusters with several labels that are shown."""

CONFLICT_IMAGES = 4
"""Images that are shown of each."""

MAX_FLAGGED = 24
"""Images that are shown of those flagged for a look."""

ALWAYS = ("image_id", "path", "class_name", "source_split", "split", "cluster", "cluster_size")
"""Columns of every manifest that are read."""

SOMETIMES: Mapping[str, Any] = {
    "frame": ALONE, "chain": False,
    **dict.fromkeys(("known_set", "known_file", "known_label", "known_orientation", "looks_like"), ""),
}  # fmt: skip
"""Columns that a manifest of an earlier version, or without a known set, lacks; and what they are then."""


@dataclass(frozen=True)
class CopyPictures:
    """What the report shows of copies and labels; without images that are gone or no longer decode.

    pairs: across splits first; largest: the largest clusters; disputes: labels that contradict a published
    set's; conflicts: other clusters whose copies carry several labels; flagged: images that look like CT.
    """

    pairs: Sequence[CopyPair] = ()
    largest: Sequence[ClusterRow] = ()
    disputes: Sequence[LabelDispute] = ()
    conflicts: Sequence[ClusterRow] = ()
    flagged: Sequence[Picture] = ()


def read_copies(run: Run, config: Config) -> CopyPictures:
    """Chooses and reads the images to show of a run's data set, of this or an earlier version."""
    pairs = read_table(run, DATASET, "pairs.parquet")
    images = read_images(run)
    audit = run.read_json(*AUDIT)
    read = PictureReader(run, config, images)
    told = choose_contradictions(images, audit.get("known_sets", []))
    numbers = [conflict["cluster"] for conflict in audit["copies"]["label_conflicts"]]
    others = conflicts_beyond(images, numbers, told)[:MAX_CONFLICT_ROWS]
    disputes = []
    for one in told:
        for picture in read.pictures([Turned(one.image_id)]):
            beside = read.pictures(one.beside)
            disputes.append(LabelDispute(picture, one.title, one.published, beside))
    return CopyPictures(
        pairs=[pair for row in choose_pairs(pairs).to_dict("records") if (pair := read.pair(row))],
        largest=read.rows(choose_largest(images, pairs)),
        disputes=disputes,
        conflicts=read.rows(choose_clusters(images, pairs, others, CONFLICT_IMAGES)),
        flagged=read.pictures(map(Turned, choose_flagged(images, MAX_FLAGGED))),
    )


def read_images(run: Run) -> pd.DataFrame:
    """Returns what a data set's manifest says of its usable images, by image_id; see `SOMETIMES`."""
    names = patiently()(pq.read_schema, run.path(*DATASET_MANIFEST), filesystem=run.fs).names
    columns = [*ALWAYS, *(name for name in SOMETIMES if name in names)]
    table = read_table(run, *DATASET_MANIFEST, columns=columns).set_index("image_id")
    table = table[table["split"] != "rejected"]
    return table.assign(**{name: value for name, value in SOMETIMES.items() if name not in names})


class PictureReader:
    """Reads images of a run's source that are to be shown."""

    def __init__(self, run: Run, config: Config, images: pd.DataFrame) -> None:
        """Takes what `read_images` returned."""
        data = config.data
        drawn = data.source == PHANTOMS
        root = run.uri(PHANTOM_IMAGES) if drawn else root_of(resolve(data.source), data)
        self._files, self._config, self._images = FileReader(root), config, images

    def pictures(self, chosen: Iterable[Turned]) -> list[Picture]:
        """Returns those of some images that can be read."""
        found = []
        for one in chosen:
            row: dict[Any, Any] = self._images.loc[one.image_id].to_dict()
            try:
                image = self._decode(self._files.read(row["path"]), row["frame"])
            except (OSError, ImageError):
                continue
            name = image_name(row["path"], row["frame"])
            image = turn(shrink(image, SIDE), TRANSFORMS.index(one.transform))
            found.append(Picture(name, row["class_name"], row["source_split"], image, one.transform))
        return found

    def rows(self, clusters: Iterable[ChosenCluster]) -> list[ClusterRow]:
        """Returns those of some clusters of which two images can be read."""
        rows = [ClusterRow(cluster, self.pictures(cluster.members)) for cluster in clusters]
        return [row for row in rows if len(row.pictures) > 1]

    def pair(self, row: Mapping[Any, Any]) -> CopyPair | None:
        """Returns the pair of a row of pairs.parquet, if both images can be read."""
        found = self.pictures([Turned(int(row["a"])), Turned(int(row["b"]))])
        if len(found) < 2:
            return None
        first, second = found
        facts = (float(row["similarity"]), row["transform"], row["kind"])
        more = (row.get("view", ""), describe_move(row), bool(row.get("chain", False)))
        return CopyPair(first, second, *facts, *more)

    def _decode(self, data: bytes, frame: int) -> Grey:
        max_pixels, read = self._config.data.max_pixels, self._config.data.read_spec
        file = decoding.check_file(data, max_pixels, read=read)
        if frame == ALONE:
            decoding.check_one(file)
        return decoding.OpenFile(file, max_pixels, read).image(max(0, frame))


def describe_move(row: Mapping[Any, Any]) -> str:
    """Returns how the second image of a pair lies beyond its transform: shift, angle and zoom (see
    `placement.Placement`), but for what is not known or too small to be seen."""
    told = []
    if row.get("shift", 0) >= 0.005:
        told.append(f"moved by {row['shift']:.1%}".replace("%", " %"))
    if abs(row.get("angle", 0)) >= 0.5:
        told.append(f"turned by {abs(row['angle']):.1f}°")
    if abs(row.get("zoom", 1) - 1) >= 0.005:
        told.append(f"zoomed by {row['zoom']:.2f}")
    return ", ".join(told)
