"""Images of a known set are recognised as what they are, and others are not; on a set of phantoms."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from brain_ray.config import DataConfig, PhantomConfig
from brain_ray.data import decoding, transforms
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.registry.build import build
from brain_ray.data.registry.match import BATCH, ORIENTATIONS, PAIRS, fingerprint, normalise, recognise
from brain_ray.data.registry.store import SIDE, Registry, read_registry
from brain_ray.errors import RunError

CLASSES = DataConfig().classes
SLICES = PhantomConfig(slices_per_patient=3)
ABOUT = {"name": "made-up", "title": "made up", "authors": "nobody", "source": "nowhere", "licence": "none"}
LIES = {
    "identity": lambda image: image,
    "mirrored": np.fliplr,
    "flipped": np.flipud,
    "turned": lambda image: np.rot90(image, 2),
    "transposed": np.transpose,
    "turned left": np.rot90,
    "turned right": lambda image: np.rot90(image, -1),
    "transposed and turned": lambda image: np.rot90(np.transpose(image), 2),
}
Grey = NDArray[np.uint8]


def slice_of(patient: int, number: int) -> Grey:
    image = phantom.draw_slice(CLASSES[patient % 4], 9, patient, number, SLICES)
    return image if image.ndim == 2 else image[..., 0]


def thumbnails_of(images: list[Grey]) -> Grey:
    return np.stack([transforms.thumbnail(np.ascontiguousarray(image)) for image in images])


def jpeg(image: Grey, quality: int) -> Grey:
    return decoding.decode(phantom.encode(np.ascontiguousarray(image), ".jpg", quality))


def write_folder(folder: Path) -> None:
    """Write slices 0 and 1 of 20 patients as a set; of every fifth patient, under two numbers."""
    rows = []
    for patient in range(20):
        for number in range(2):
            name = f"images/{patient:02d}-{number}.png"
            (folder / "images").mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(phantom.encode(slice_of(patient, number), ".png"))
            own = f"p{patient:02d}" + ("b" if patient % 5 == 0 and number else "")
            rows.append((name, CLASSES[patient % 4], own, f"q{patient:02d}", 1 + patient % 5))
    table = pd.DataFrame(rows, columns=["file", "label", "patient", "person", "fold"])
    table.to_csv(folder / "patients.csv", index=False)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("set")
    write_folder(folder)
    assert build(folder, folder / "made-up.parquet", ABOUT) == 40
    return read_registry([folder / "made-up.parquet"])


@pytest.fixture(scope="module")
def known() -> list[Grey]:
    return [slice_of(patient, number) for patient in range(20) for number in range(2)]


def test_a_set_is_written_the_same_again(registry: Registry, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_folder(tmp_path / name)
        build(tmp_path / name, tmp_path / f"{name}.parquet", ABOUT)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    again = read_registry([tmp_path / "a.parquet"])
    assert again.entries.equals(registry.entries)
    assert np.array_equal(again.fingerprints, registry.fingerprints)
    assert again.about == {"made-up": ABOUT}


def test_a_folder_that_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no .*patients\.csv: expected the columns file, label"):
        build(tmp_path, tmp_path / "x.parquet", ABOUT)
    (tmp_path / "patients.csv").write_text("file,label,patient\na.png,glioma,p1\n")
    with pytest.raises(RunError, match=r"has no column person, fold, but \['file', 'label', 'patient'\]"):
        build(tmp_path, tmp_path / "x.parquet", ABOUT)
    (tmp_path / "patients.csv").write_text("file,label,patient,person,fold\na.png,glioma,p1,q1,1\n")
    with pytest.raises(RunError, match=r"cannot read .*a\.png, which .*patients\.csv names: "):
        build(tmp_path, tmp_path / "x.parquet", ABOUT)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(RunError, match=r"cannot read .*a\.png, which .*patients\.csv names: not an image"):
        build(tmp_path, tmp_path / "x.parquet", ABOUT)
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize("lies", ORIENTATIONS)
def test_an_image_is_recognised_however_it_lies(registry: Registry, known: list[Grey], lies: str) -> None:
    found = recognise(thumbnails_of([LIES[lies](image) for image in known]), registry)
    assert found["known"].tolist() == list(range(40))
    assert set(found["known_orientation"]) == {lies}
    assert (found["known_similarity"] > 0.999).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda image: jpeg(image, 30),
        lambda image: jpeg(cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA), 75),
        lambda image: cv2.resize(image, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC),
        lambda image: cv2.convertScaleAbs(image, alpha=0.7, beta=30),
        lambda image: jpeg(np.fliplr(cv2.resize(image, (512, 512))), 60),
    ],
    ids=["JPEG 30", "224 px", "larger", "duller", "mirrored, 512 px, JPEG 60"],
)
def test_a_changed_image_is_recognised(registry: Registry, known: list[Grey], change) -> None:  # type: ignore[no-untyped-def]
    found = recognise(thumbnails_of([change(image) for image in known]), registry)
    assert found["known"].tolist() == list(range(40))


def test_the_neighbouring_slice_of_a_known_patient_is_not_recognised(registry: Registry) -> None:
    neighbours = thumbnails_of([slice_of(patient, 2) for patient in range(20)])
    found = recognise(neighbours, registry)
    assert set(found["known"]) == {-1}
    assert set(found["known_orientation"]) == {""}
    assert set(found["known_similarity"]) == {0}
    alike = recognise(neighbours, registry, threshold=0.5)
    assert (alike["known"] // 2 == np.arange(20)).mean() > 0.9, "but most are most like their own patient's"


def test_images_without_content_are_not_recognised(registry: Registry) -> None:
    blank = np.zeros((3, 96, 96), np.uint8)
    blank[1] = 255
    blank[2] = np.random.default_rng(1).integers(0, 256, (96, 96))
    assert recognise(blank, registry)["known"].tolist() == [-1, -1, -1]
    assert recognise(blank[:0], registry).empty


def test_batches_make_no_difference(registry: Registry, known: list[Grey]) -> None:
    thumbnails = thumbnails_of(known)
    many = np.concatenate([thumbnails] * 8)
    assert len(many) > BATCH
    assert recognise(many, registry)["known"].tolist() == list(range(40)) * 8
    assert len(many) * 40 > PAIRS
    assert recognise(many, registry, threshold=-1)["known"].tolist() == list(range(40)) * 8


def test_the_best_of_all_pairs_is_found(registry: Registry) -> None:
    """Compared with all correlations, of images that are alike without being the same."""
    images = [slice_of(patient, 2) for patient in range(20)]
    unit = normalise(registry.fingerprints)
    best = np.full(20, -1.0)
    for turn in LIES.values():
        prints = fingerprint(thumbnails_of([turn(image) for image in images]))
        best = np.maximum(best, (normalise(prints) @ unit.T).max(axis=1))
    found = recognise(thumbnails_of(images), registry, threshold=0.6)
    expected = np.where(best >= 0.6, best, 0)
    assert (expected > 0).sum() > 10
    assert np.allclose(found["known_similarity"], expected, atol=1e-5)


def test_a_fingerprint_is_the_image_shrunk_by_area() -> None:
    image = np.random.default_rng(2).integers(0, 256, (96, 96)).astype(np.uint8)
    shrunk = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    assert np.abs(fingerprint(image[None])[0].astype(int) - shrunk).max() <= 1
