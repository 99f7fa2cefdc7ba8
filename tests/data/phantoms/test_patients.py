"""Phantoms of patients: slices of one head, alike as those of heads are, by scanners that differ."""

import zipfile
from collections import Counter
from itertools import combinations
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from brain_ray.config import DataConfig, PhantomConfig
from brain_ray.data import decoding, transforms
from brain_ray.data.patients import by_setting
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.phantoms.plants import Planted
from brain_ray.data.registry.match import normalise
from brain_ray.errors import RunError

EARLIER = Path(__file__).parents[2] / "support/earlier/prepared.zip"
CLASSES = DataConfig().classes
SLICES = PhantomConfig(slices_per_patient=4)
COUNTS = PhantomConfig(
    train_per_class=10,
    test_per_class=6,
    copies=3,
    conflicts=1,
    faults=6,
    slices_per_patient=4,
    shared_patients=3,
)


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 2 else image[..., 0]


def correlations(images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return the similarity of each two images as they are."""
    unit = normalise(np.stack([transforms.thumbnail(grey(image)) for image in images]))
    return np.asarray(unit @ unit.T, np.float32)


@pytest.fixture(scope="module")
def patients() -> list[list[NDArray[np.uint8]]]:
    """Four slices of each of 24 patients, of all classes and scanners."""
    return [[phantom.draw_slice(CLASSES[p % 4], 6, p, k, SLICES) for k in range(4)] for p in range(24)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Planted]]:
    folder = tmp_path_factory.mktemp("tree")
    return folder, phantom.write_tree(folder, COUNTS, CLASSES, seed=5)


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / phantom.PATIENTS, keep_default_na=False).set_index("path")


def test_single_slices_are_drawn_as_an_earlier_version_drew_them(tmp_path: Path) -> None:
    phantom.write_tree(tmp_path, PhantomConfig(train_per_class=6, test_per_class=2), CLASSES, seed=123)
    assert not (tmp_path / phantom.PATIENTS).exists()
    with zipfile.ZipFile(EARLIER) as archive:
        drawn = [name for name in archive.namelist() if name.endswith((".jpg", ".png"))]
        assert len(drawn) == 32
        for name in drawn:
            now = (tmp_path / PurePosixPath(name).relative_to("phantoms")).read_bytes()
            change = cv2.absdiff(decoding.decode(now), decoding.decode(archive.read(name)))
            assert change.max() <= 4, "more than another processor's rounding"


def test_neighbouring_slices_are_alike_and_no_copies(patients: list[list[NDArray[np.uint8]]]) -> None:
    alike = [correlations(slices) for slices in patients]
    neighbours = np.array([each[k, k + 1] for each in alike for k in range(3)])
    assert 0.85 < np.median(neighbours) < 0.95
    assert (neighbours < 0.97).mean() > 0.9
    assert neighbours.min() > 0.7
    assert np.median([each[0, 3] for each in alike]) < np.median(neighbours)
    assert max(each[i, j] for each in alike for i, j in combinations(range(4), 2)) < 0.99


def test_slices_of_one_head_are_more_alike_than_heads(patients: list[list[NDArray[np.uint8]]]) -> None:
    heads = correlations([slices[1] for slices in patients])
    others = heads[np.triu_indices(len(heads), 1)]
    within = [correlations(slices)[0, 3] for slices in patients]
    assert others.max() < 0.95
    assert np.median(others) + 0.2 < np.median(within)


def test_a_patient_is_scanned_by_one_source_and_sources_differ(
    patients: list[list[NDArray[np.uint8]]],
) -> None:
    by_source = [{image.shape for slices in patients[k::3] for image in slices} for k in range(3)]
    assert all(len(shapes) == 1 for shapes in by_source)
    assert len(set.union(*by_source)) == 3


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "notumor"])
def test_a_tumour_shows_in_every_slice_and_nothing_else_differs(name: str) -> None:
    many = PhantomConfig(slices_per_patient=12)
    for patient in range(4):
        for number in range(12):
            drawn, healthy = (
                grey(phantom.draw_slice(n, 6, patient, number, many)) for n in (name, "notumor")
            )
            changed = cv2.absdiff(drawn, healthy) > 15
            assert 0.0005 < changed.mean() < 0.2, (patient, number)


def test_a_slice_depends_on_its_numbers_alone() -> None:
    first = phantom.draw_slice("glioma", 1, 2, 3, SLICES)
    phantom.draw_slice("glioma", 8, 8, 0, SLICES)
    assert np.array_equal(phantom.draw_slice("glioma", 1, 2, 3, SLICES), first)
    for other in ((2, 2, 3), (1, 5, 3), (1, 2, 2)):
        drawn = phantom.draw_slice("glioma", *other, SLICES)
        assert drawn.shape != first.shape or not np.array_equal(drawn, first)


def test_the_tree_tells_the_patient_and_source_of_each_file(tree: tuple[Path, list[Planted]]) -> None:
    folder, planted = tree
    table = table_of(folder)
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    files -= {phantom.PATIENTS, phantom.OUTLINES}
    assert set(table.index) == files
    assert set(table["source"]) == {"", "s0", "s1", "s2"}
    assert table[table["patient"] != ""].groupby("patient")["source"].nunique().max() == 1
    unknown = {plant.path for plant in planted if plant.of is None}
    assert set(table.index[table["patient"] == ""]) == unknown
    drawn = table.drop([plant.path for plant in planted]).reset_index()
    drawn["folder"] = drawn["path"].map(lambda path: str(PurePosixPath(path).parent))
    assert drawn.groupby("patient")["folder"].nunique().max() == 1
    counts = drawn.groupby(["folder", "patient"]).size()
    assert Counter(counts["Training/glioma"]) == {4: 2, 2: 1}
    assert Counter(counts["Testing/glioma"]) == {4: 1, 2: 1}


def test_a_plant_shows_the_patient_of_its_original(tree: tuple[Path, list[Planted]]) -> None:
    folder, planted = tree
    table = table_of(folder)
    for plant in planted:
        if plant.of is not None:
            assert table.loc[plant.path].equals(table.loc[plant.of])


def test_shared_patients_have_another_slice_in_training(tree: tuple[Path, list[Planted]]) -> None:
    folder, planted = tree
    shared = [plant for plant in planted if plant.kind == "shared patient"]
    patients = table_of(folder)["patient"]
    assert len({patients[plant.path] for plant in shared}) == len(shared) == COUNTS.shared_patients
    for plant in shared:
        assert plant.usable
        assert plant.of is not None
        assert (plant.path.split("/")[0], plant.of.split("/")[0]) == ("Training", "Testing")
        own = patients.index[patients == patients[plant.path]].drop(plant.path)
        alike = correlations([decoding.decode((folder / path).read_bytes()) for path in [plant.path, *own]])
        assert alike[0, 1:].max() < 0.99, "a copy of another slice"


def test_the_table_is_one_for_the_setting(tree: tuple[Path, list[Planted]]) -> None:
    folder, _ = tree
    table = table_of(folder)
    listed = pd.DataFrame({"path": table.index, "class_name": "", "size": 1})
    found = by_setting(listed, f"csv:{folder / phantom.PATIENTS}")
    expected = [who if not path.endswith(".txt") else "" for path, who in table["patient"].items()]
    assert found.tolist() == expected


def test_the_tree_is_the_same_for_the_same_seed(tree: tuple[Path, list[Planted]], tmp_path: Path) -> None:
    folder, planted = tree
    assert phantom.write_tree(tmp_path, COUNTS, CLASSES, seed=5) == planted
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }


def test_more_shared_patients_than_there_are_are_refused(tmp_path: Path) -> None:
    greedy = COUNTS.model_copy(update={"shared_patients": 9})
    with pytest.raises(RunError, match="9 shared patients were asked of 8 test patients: lower"):
        phantom.write_tree(tmp_path, greedy, CLASSES, 1)
    assert not list(tmp_path.iterdir())


def test_with_one_slice_each_no_patient_is_shared_or_told(tmp_path: Path) -> None:
    single = PhantomConfig(train_per_class=2, test_per_class=1, shared_patients=9)
    assert phantom.write_tree(tmp_path, single, CLASSES, 1) == []
    assert len([path for path in tmp_path.rglob("*.*") if path.name != phantom.OUTLINES]) == 12
