"""Pictures of copies and labels are read from the source, for data sets of this and an earlier version."""

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from support.slices import slice_of
from support.volumes import heads, nifti

from brain_ray.config import Config, DataConfig
from brain_ray.data.copies.placement import TRANSFORMS, reverse, turn
from brain_ray.evaluation.copy_pictures import describe_move, read_copies
from brain_ray.runs import Run

EARLIER = Path(__file__).parents[1] / "support/earlier/prepared.zip"
PAIR_COLUMNS = (
    *("a", "b", "similarity", "transform", "view", "shift", "angle", "zoom", "chain", "kind"),
    *("path_a", "path_b", "class_a", "class_b", "split_a", "split_b"),
)


class Made:
    """A data set made by hand: images in a folder, and the tables that preparation would write of them."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.source.mkdir()
        self.run = Run(str(folder), "run")
        self.images: list[dict[str, object]] = []
        self.pairs: list[dict[str, object]] = []
        self.audit: dict[str, object] = {"copies": {"label_conflicts": []}}

    def add(self, image: np.ndarray, cluster: int, **columns: object) -> int:
        number = len(self.images)
        path = f"{number}.png"
        cv2.imwrite(str(self.source / path), image)
        row = {"image_id": number, "path": path, "class_name": "glioma", "source_split": "train"}
        row |= {"split": "train", "reason": "", "cluster": cluster, "frame": -1, "chain": False}
        self.images.append(row | columns)
        return number

    def join(self, a: int, b: int, transform: str = "identity", **columns: object) -> None:
        row: dict[str, object] = {"a": a, "b": b, "transform": transform, "similarity": 0.98}
        row |= {"view": "head", "shift": 0.03, "angle": -2.0, "zoom": 1.0, "chain": False, "kind": "near"}
        for side, number in (("a", a), ("b", b)):
            names = {"path": "path", "class": "class_name", "split": "source_split"}
            row |= {f"{name}_{side}": self.images[number][column] for name, column in names.items()}
        self.pairs.append(row | columns)

    def read(self, *, without: tuple[str, ...] = (), source: str = ""):  # type: ignore[no-untyped-def]
        manifest = pd.DataFrame(self.images)
        manifest["cluster_size"] = manifest.groupby("cluster")["cluster"].transform("size")
        Path(self.run.path("dataset")).mkdir(parents=True, exist_ok=True)
        for name, table in (
            ("manifest", manifest),
            ("pairs", pd.DataFrame(self.pairs, columns=PAIR_COLUMNS)),
        ):
            kept = table.drop(columns=[column for column in without if column in table])
            kept.to_parquet(self.run.path("dataset", f"{name}.parquet"))
        Path(self.run.path("dataset", "audit.json")).write_text(json.dumps(self.audit))
        return read_copies(self.run, Config(data=DataConfig(source=source or str(self.source))))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def turned(image: np.ndarray, transform: str) -> np.ndarray:
    """The image from which a transform makes the given one."""
    return turn(image, reverse(TRANSFORMS.index(transform)))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_second_image_turned_back_equals_the_first(made: Made, transform: str) -> None:
    first = slice_of(3)[:, 20:]
    a = made.add(first, 0)
    b = made.add(turned(first, transform), 0, source_split="test", class_name="pituitary")
    made.join(a, b, transform)
    (pair,) = made.read().pairs
    assert np.array_equal(pair.turned_back, pair.first.image)
    assert np.array_equal(pair.turned_back, pair.second.image) == (transform == "identity")
    assert (pair.second.split, pair.second.class_name) == ("test", "pituitary")
    assert pair.facts == "near, similarity 0.9800, heads alike, moved by 3.0 %, turned by 2.0°"


def test_the_images_of_a_cluster_are_turned_as_the_first_one_lies(made: Made) -> None:
    image = slice_of(4)
    numbers = [made.add(turned(image, name), 0) for name in TRANSFORMS]
    for number, name in zip(numbers[1:], TRANSFORMS[1:], strict=True):
        made.join(0, number, name)
    (row,) = made.read().largest
    assert row.cluster.images == len(row.pictures) == 8
    assert len({picture.image.tobytes() for picture in row.pictures}) == 1
    assert len({picture.transform for picture in row.pictures}) == 8


def test_a_large_image_is_shrunk_as_soon_as_it_is_read(made: Made) -> None:
    made.join(made.add(slice_of(5, side=900)[:, :600], 0), made.add(slice_of(5, side=100), 0))
    (pair,) = made.read().pairs
    assert (pair.first.image.shape, pair.second.image.shape) == ((256, 171), (100, 100))


def test_an_image_that_is_gone_is_left_out(made: Made) -> None:
    for seed in range(4):
        made.add(slice_of(seed), 0)
    for number in range(1, 4):
        made.join(0, number)
    (made.source / "2.png").unlink()
    (made.source / "3.png").write_bytes(b"no image any more")
    found = made.read()
    assert [pair.second.path for pair in found.pairs] == ["1.png"]
    assert [len(row.pictures) for row in found.largest] == [2]
    (made.source / "0.png").unlink()
    found = made.read()
    assert (found.pairs, found.largest) == ([], [])


def test_labels_are_shown_beside_the_published_ones_and_each_other(made: Made) -> None:
    image = slice_of(6)
    known = {"known_set": "set", "known_file": "x", "known_label": "glioma"}
    none = dict.fromkeys((*known, "known_orientation"), "")
    made.add(image, 0, class_name="pituitary", **known, known_orientation="identity")
    made.add(image.T, 0, **known, known_orientation="transposed")
    made.join(0, 1, "transposed")
    for name in ("pituitary", "notumor"):
        made.add(slice_of(7), 1, class_name=name, **none)
    made.join(2, 3)
    rejected = {"class_name": "notumor", "split": "rejected"}
    made.add(image, 2, **(none | rejected))
    told = [{"path": "0.png", "given": "pituitary", "source": "glioma"}]
    made.audit["known_sets"] = [{"name": "set", "title": "A set", "contradictions": told}]
    made.audit["copies"] = {"label_conflicts": [{"cluster": 0}, {"cluster": 1}]}
    found = made.read()
    (dispute,) = found.disputes
    assert (dispute.picture.class_name, dispute.published) == ("pituitary", "glioma")
    (other,) = dispute.beside
    assert np.array_equal(other.image, dispute.picture.image)
    assert other.transform == "transposed"
    (conflict,) = found.conflicts
    assert {one.class_name for one in conflict.pictures} == {"pituitary", "notumor"}


def test_a_slice_of_a_volume_is_shown(made: Made) -> None:
    made.add(slice_of(8), 0)
    made.add(slice_of(8), 0, path="head.nii", frame=4)
    (made.source / "head.nii").write_bytes(nifti(heads(), packed=False))
    made.join(0, 1)
    (pair,) = made.read().pairs
    assert pair.second.path == "head.nii[4]"
    assert pair.second.image.max() > 100


def test_images_of_a_manifest_are_read_where_it_says(made: Made, tmp_path: Path) -> None:
    made.join(made.add(slice_of(1), 0), made.add(slice_of(1), 0))
    table = made.source / "list.csv"
    table.write_text("path,label\n")
    assert len(made.read(source=str(table)).pairs) == 1


def test_a_data_set_without_copies_shows_none(made: Made) -> None:
    for seed in range(3):
        made.add(slice_of(seed), seed)
    assert [list(part) for part in vars(made.read()).values()] == [[], [], [], [], []]


def test_tables_of_an_earlier_version_show_what_they_know(made: Made) -> None:
    for seed in (1, 1, 1):
        made.add(slice_of(seed), 0)
    for number in (1, 2):
        made.join(0, number, "turned")
    found = made.read(without=("view", "shift", "angle", "zoom", "chain", "frame"))
    assert [pair.facts for pair in found.pairs] == ["near, similarity 0.9800"] * 2
    assert [row.cluster.is_chain for row in found.largest] == [False]


def test_a_data_set_that_an_earlier_version_wrote_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(EARLIER) as archive:
        archive.extractall(tmp_path / "earlier")
    found = read_copies(Run(str(tmp_path), "earlier"), Config())
    assert [list(part) for part in vars(found).values()] == [[], [], [], [], []], "it has no copies"


def test_what_is_too_small_to_be_seen_is_not_told() -> None:
    assert describe_move({}) == ""
    assert describe_move({"shift": 0.004, "angle": 0.4, "zoom": 1.004}) == ""
    assert describe_move({"shift": 0.02, "angle": -1.26, "zoom": 0.9}) == (
        "moved by 2.0 %, turned by 1.3°, zoomed by 0.90"
    )
