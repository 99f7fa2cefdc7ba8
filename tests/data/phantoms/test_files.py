"""Phantoms: the same for the same seed, unlike one another, honest about what is planted among them."""

from collections import Counter
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from brain_ray.config import CropConfig, DataConfig, PhantomConfig
from brain_ray.data import decoding, transforms
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.phantoms import plants
from brain_ray.data.registry.match import normalise
from brain_ray.errors import RunError

CLASSES = DataConfig().classes
TUMOURS = tuple(name for name in CLASSES if name != "notumor")
COUNTS = PhantomConfig(train_per_class=8, test_per_class=3, copies=12, conflicts=4, faults=12)
BACK = {"mirrored": np.s_[:, ::-1], "flipped": np.s_[::-1], "turned": np.s_[::-1, ::-1]}


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 2 else image[..., 0]


def similarity(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    a, b = normalise(np.stack([transforms.thumbnail(first), transforms.thumbnail(second)]))
    return float(a @ b)


def lesion(name: str, index: int) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Where a tumour changes the head of this index, and the healthy head."""
    healthy = grey(phantom.draw("notumor", 4, index))
    change = cv2.absdiff(grey(phantom.draw(name, 4, index)), healthy)
    return change > 15, healthy


@pytest.fixture(scope="module")
def drawn() -> list[NDArray[np.uint8]]:
    return [phantom.draw(CLASSES[i % 4], 3, i) for i in range(400)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[phantom.Planted]]:
    folder = tmp_path_factory.mktemp("tree")
    return folder, phantom.write_tree(folder, COUNTS, CLASSES, seed=5)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", CLASSES)
def test_a_phantom_depends_on_seed_and_index_alone(name: str) -> None:
    first = phantom.draw(name, 1, 2)
    phantom.draw(name, 8, 8)
    assert np.array_equal(phantom.draw(name, 1, 2), first)
    for other in (phantom.draw(name, 2, 2), phantom.draw(name, 1, 3)):
        assert other.shape != first.shape or not np.array_equal(other, first)


def test_an_unknown_class_is_refused_with_those_there_are() -> None:
    with pytest.raises(RunError, match=r"'schwannoma'.*'glioma'.*data\.source"):
        phantom.draw("schwannoma", 1, 1)


def test_sizes_and_channels_vary(drawn: list[NDArray[np.uint8]]) -> None:
    sides = np.array([image.shape[:2] for image in drawn])
    assert sides.min() >= 128
    assert sides.max() <= 512
    assert len({tuple(side) for side in sides.tolist()}) > 200
    assert (sides[:, 0] == sides[:, 1]).any()
    assert (sides[:, 0] < sides[:, 1]).any()
    assert (sides[:, 0] > sides[:, 1]).any()
    assert {image.ndim for image in drawn} == {2, 3}
    for image in drawn:
        assert image.dtype == np.uint8
        assert image.ndim == 2 or (image == image[..., :1]).all()


def test_distinct_phantoms_never_look_like_copies(drawn: list[NDArray[np.uint8]]) -> None:
    thumbnails = np.stack([transforms.thumbnail(grey(image)) for image in drawn])
    unit = normalise(thumbnails)
    for view in (thumbnails, *(np.stack([t[back] for t in thumbnails]) for back in BACK.values())):
        similarities = unit @ normalise(view).T
        np.fill_diagonal(similarities, 0)
        assert similarities.max() < 0.95


def test_no_phantom_is_its_own_mirror_image(drawn: list[NDArray[np.uint8]]) -> None:
    for image in drawn[:100]:
        for back in BACK.values():
            assert similarity(grey(image), np.ascontiguousarray(grey(image)[back])) < 0.95


def test_the_crop_rule_finds_the_whole_head(drawn: list[NDArray[np.uint8]]) -> None:
    for image in map(grey, drawn):
        box = transforms.find_box(image, CropConfig())
        assert box is not None
        bright = cv2.GaussianBlur(image, (5, 5), 0) > 45
        rows, columns = np.flatnonzero(bright.sum(axis=1) > 2), np.flatnonzero(bright.sum(axis=0) > 2)
        head = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert box.crop(image).size > 0.9 * head
        assert 0.25 * image.size < box.crop(image).size


@pytest.mark.parametrize("name", TUMOURS)
def test_a_tumour_changes_a_part_of_the_head_and_nothing_else(name: str) -> None:
    for index in range(30):
        changed, healthy = lesion(name, index)
        box = transforms.find_box(healthy, CropConfig())
        assert box is not None
        share = changed.sum() / box.crop(healthy).size
        assert 0.003 < share < 0.35, index
        assert changed.sum() == box.crop(changed).sum(), index


def test_each_tumour_has_its_place_and_size() -> None:
    centres: dict[str, list[NDArray[np.float64]]] = {name: [] for name in TUMOURS}
    reaches: dict[str, list[float]] = {name: [] for name in TUMOURS}
    areas: dict[str, list[float]] = {name: [] for name in TUMOURS}
    for name in TUMOURS:
        for index in range(40):
            changed, healthy = lesion(name, index)
            box = transforms.find_box(healthy, CropConfig())
            assert box is not None
            half = np.array([box.bottom - box.top, box.right - box.left]) / 2
            points = (np.argwhere(changed) - (box.top, box.left)) / half - 1  # -1..1 over the box
            centres[name].append(points.mean(axis=0))
            reaches[name].append(float(np.percentile(np.hypot(*points.T), 99)))
            areas[name].append(len(points) / (4 * half.prod()))
    pituitary = np.array(centres["pituitary"])
    assert (pituitary[:, 0] > 0.25).all()  # below the middle
    assert (np.abs(pituitary[:, 1]) < 0.4).all()  # near the midline, turned heads included
    assert abs(np.median(pituitary[:, 1])) < 0.1
    glioma = np.array(centres["glioma"])
    assert (np.abs(glioma[:, 1]) > 0.05).mean() > 0.9  # in one hemisphere, on either side
    assert {-1.0, 1.0} == set(np.sign(glioma[:, 1]))
    assert np.median(np.hypot(*np.array(centres["meningioma"]).T)) > np.median(np.hypot(*glioma.T)) + 0.1
    assert np.median(reaches["meningioma"]) > 0.7  # it sits on the skull
    assert np.median(areas["pituitary"]) < np.median(areas["meningioma"]) < np.median(areas["glioma"])


def test_the_tree_has_the_folders_and_counts_asked_for(tree: tuple[Path, list[phantom.Planted]]) -> None:
    folder, planted = tree
    files = set(files_of(folder)) - {phantom.OUTLINES}
    assert len(planted) == COUNTS.copies + COUNTS.conflicts + COUNTS.faults
    extra = {plant.path for plant in planted}
    assert len(extra) == len(planted)
    assert extra <= files
    counts = Counter(str(PurePosixPath(path).parent) for path in files - extra)
    assert counts == {
        f"{top}/{name}": count for top, count in (("Training", 8), ("Testing", 3)) for name in CLASSES
    }
    assert {PurePosixPath(path).suffix for path in files - extra} == {".jpg", ".png"}


def test_the_tree_is_the_same_for_the_same_seed(
    tree: tuple[Path, list[phantom.Planted]], tmp_path: Path
) -> None:
    folder, planted = tree
    assert phantom.write_tree(tmp_path / "again", COUNTS, CLASSES, seed=5) == planted
    assert files_of(tmp_path / "again") == files_of(folder)
    phantom.write_tree(tmp_path / "other", COUNTS, CLASSES, seed=6)
    first = "Training/glioma/Tr-gl_00000.jpg"
    assert (tmp_path / "other" / first).read_bytes() != (folder / first).read_bytes()


def test_the_folders_can_be_named(tmp_path: Path) -> None:
    few = PhantomConfig(train_per_class=1, test_per_class=1, copies=1)
    planted = phantom.write_tree(tmp_path, few, CLASSES[:2], 1, train_folder="a", test_folder="b")
    assert {path.split("/")[0] for path in files_of(tmp_path)} == {"a", "b", phantom.OUTLINES}
    assert planted[0].path.startswith("b/")
    assert planted[0].of is not None
    assert planted[0].of.startswith("a/")


def test_planted_copies_are_what_they_say(tree: tuple[Path, list[phantom.Planted]]) -> None:
    folder, planted = tree
    copies = [plant for plant in planted if plant.kind in plants.COPIES]
    assert Counter(plant.kind for plant in copies) == dict.fromkeys(plants.COPIES, 2)
    for plant in copies:
        assert plant.usable
        assert plant.of is not None
        assert PurePosixPath(plant.path).parent.name == PurePosixPath(plant.of).parent.name
        assert (plant.path.split("/")[0], plant.of.split("/")[0]) == ("Testing", "Training")
        data, origin_data = (folder / plant.path).read_bytes(), (folder / plant.of).read_bytes()
        assert (data == origin_data) == (plant.kind == "same bytes")
        copy, origin = decoding.decode(data), decoding.decode(origin_data)
        upright = np.ascontiguousarray(copy[BACK.get(plant.kind, np.s_[:])])
        assert similarity(upright, origin) >= 0.99
        if plant.kind in BACK:
            assert similarity(copy, origin) < 0.95
        if plant.kind == "brighter":
            assert copy.mean() > origin.mean() + 5


def test_planted_conflicts_carry_another_label(tree: tuple[Path, list[phantom.Planted]]) -> None:
    folder, planted = tree
    conflicts = [plant for plant in planted if plant.kind == "conflict"]
    assert len(conflicts) == COUNTS.conflicts
    for plant in conflicts:
        assert plant.of is not None
        assert PurePosixPath(plant.path).parent.name != PurePosixPath(plant.of).parent.name
        assert plant.path.startswith("Training/")
        assert (folder / plant.path).read_bytes() == (folder / plant.of).read_bytes()
    origins = [plant.of for plant in planted if plant.of]
    assert len(set(origins)) == len(origins) == COUNTS.copies + COUNTS.conflicts


def test_planted_faults_are_what_they_say(tree: tuple[Path, list[phantom.Planted]]) -> None:
    folder, planted = tree
    faults = [plant for plant in planted if plant.kind in plants.FAULTS]
    assert Counter(plant.kind for plant in faults) == dict.fromkeys(plants.FAULTS, 2)
    hashes = set()
    for plant in faults:
        data = (folder / plant.path).read_bytes()
        if not plant.usable:
            with pytest.raises(decoding.ImageError):
                decoding.decode(data)
            continue
        image = decoding.decode(data)
        hashes.add(decoding.pixel_hash(image))
        box = transforms.find_box(image, CropConfig())
        if plant.kind == "blank":
            assert not image.any()
            assert box is None
        else:
            stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            assert stored is not None
            assert stored.dtype == np.uint16
            assert 255 < stored.max() < 4096
            assert box is not None
    assert {plant.kind for plant in faults if plant.usable} == {"blank", "16 bit"}
    assert len(hashes) == 4  # usable faults are no copies of one another


def test_more_copies_than_training_images_are_refused(tmp_path: Path) -> None:
    greedy = PhantomConfig(train_per_class=1, test_per_class=1, copies=4, conflicts=1)
    with pytest.raises(RunError, match="4 copies and 1 conflicts were asked of 4 training"):
        phantom.write_tree(tmp_path, greedy, CLASSES, 1)
    assert not files_of(tmp_path)
