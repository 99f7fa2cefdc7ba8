"""The registry that comes with the package, on real images if they are at hand; its twin is test_match.py."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from brain_ray.config import CropConfig
from brain_ray.data import decoding, transforms
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.registry.build import FIGSHARE, build
from brain_ray.data.registry.match import THRESHOLD, recognise
from brain_ray.data.registry.store import read_registry, shipped
from brain_ray.data.registry.summary import as_text, describe, sum_up

REAL = Path(__file__).parents[4] / "shared/data"
KAGGLE, FIGSHARE_FOLDER = REAL / "brain-mri", REAL / "figshare"


def moved(image: NDArray[np.uint8], degrees: float, right: float) -> NDArray[np.uint8]:
    """Turn an image about its centre, and shift it by a share of its width."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    matrix[:, 2] += right * width
    return np.asarray(cv2.warpAffine(image, matrix, (width, height)), np.uint8)


def cropped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    box = transforms.find_box(image, CropConfig())
    return image if box is None else box.crop(image)


CHANGES = {
    "JPEG 10": lambda image: decoding.decode(phantom.encode(image, ".jpg", 10)),
    "64 px": lambda image: cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA),
    "duller": lambda image: cv2.convertScaleAbs(image, alpha=0.6, beta=20),
    "gamma 0.8": lambda image: np.rint(255 * (image / 255) ** 0.8).astype(np.uint8),
    "gamma 1.25": lambda image: np.rint(255 * (image / 255) ** 1.25).astype(np.uint8),
    "turned left": np.rot90,
    "turned by 2 degrees": lambda image: moved(image, 2, 0),
    "shifted by half a per cent": lambda image: moved(image, 0, 0.005),
    "cut to the head": cropped,
}


@pytest.fixture(scope="module")
def files() -> pd.DataFrame:
    """Every file of the Kaggle set by its path, with what the registry tells of it; thumbnails in `attrs`."""
    if not KAGGLE.is_dir() or not FIGSHARE_FOLDER.is_dir():
        pytest.skip("no real images at ../shared/data")
    paths = sorted(str(path.relative_to(KAGGLE)) for path in KAGGLE.rglob("*.jpg"))
    images = (decoding.decode((KAGGLE / path).read_bytes()) for path in paths)
    thumbnails: NDArray[np.uint8] = np.stack([transforms.thumbnail(image) for image in images])
    table = pd.DataFrame({"path": paths}, index=paths)
    table["class_name"] = table["path"].str.split("/").str[1]
    table["source_split"] = np.where(table["path"].str.startswith("Testing"), "test", "train")
    # Of the others, those above 0.95 are looked for too: the threshold is to lie in a gap.
    found = recognise(thumbnails, shipped(), threshold=0.95).set_axis(table.index)
    table["nearest"] = found["known_similarity"]
    again = recognise(thumbnails, shipped()).set_axis(table.index)
    return table.join(again).join(describe(again["known"], shipped()))


@pytest.fixture(scope="module")
def expected() -> pd.DataFrame:
    """The files that show a slice of Figshare's, found with 96x96 pixels."""
    return pd.read_csv(FIGSHARE_FOLDER / "brain-mri_patients.csv").set_index("file").sort_index()


def test_the_registry_is_small_and_names_its_source_and_licence() -> None:
    (file,) = Path(read_registry.__code__.co_filename).parent.glob("*.parquet")
    assert file.stat().st_size < 3_000_000
    registry = shipped()
    assert len(registry.entries) == 3064
    assert registry.entries["label"].value_counts().to_dict() == {
        "glioma": 1426,
        "pituitary": 930,
        "meningioma": 708,
    }
    assert registry.entries["patient"].nunique() == 233
    assert registry.entries["person"].nunique() == 209
    assert set(registry.entries["fold"]) == {1, 2, 3, 4, 5}
    assert registry.entries.groupby("patient")["fold"].nunique().max() == 1
    about = registry.about["figshare-1512427"]
    assert about == FIGSHARE
    assert about["licence"] == "CC BY 4.0"


def test_exactly_the_known_files_are_recognised(files: pd.DataFrame, expected: pd.DataFrame) -> None:
    known = files[files["known"] >= 0].sort_index()
    assert len(known) == 4159
    assert known.index.equals(expected.index)
    assert known["known_file"].tolist() == expected["figshare_file"].tolist()
    assert known["known_patient"].tolist() == expected["patient"].tolist()
    assert known["patient"].tolist() == [f"figshare-1512427:{person}" for person in expected["person"]]
    lies = expected["orientation"].map({"same": "identity", "mirror": "mirrored"})
    assert known["known_orientation"].tolist() == lies.tolist()
    assert "notumor" not in set(known["class_name"])


def test_the_threshold_lies_in_a_wide_gap(files: pd.DataFrame) -> None:
    known = files["known"] >= 0
    assert files.loc[known, "nearest"].min() > 0.9995
    assert files.loc[~known, "nearest"].max() < 0.97
    assert 0.97 < THRESHOLD < 0.9995


@pytest.fixture(scope="module")
def slices() -> dict[int, NDArray[np.uint8]]:
    """Every tenth slice of the set by its position, (512, 512)."""
    if not FIGSHARE_FOLDER.is_dir():
        pytest.skip("no real images at ../shared/data")
    files = shipped().entries["file"]
    return {k: decoding.decode((FIGSHARE_FOLDER / files[k]).read_bytes()) for k in range(0, len(files), 10)}


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        *(
            (name, 1.0, 1.0)
            for name in ("JPEG 10", "64 px", "duller", "gamma 0.8", "gamma 1.25", "turned left")
        ),
        ("turned by 2 degrees", 0.4, 0.7),
        ("shifted by half a per cent", 0.3, 0.6),
        ("cut to the head", 0.0, 0.1),
    ],
)
def test_how_many_changed_slices_are_recognised(
    slices: dict[int, NDArray[np.uint8]], name: str, least: float, most: float
) -> None:
    changed = [np.ascontiguousarray(CHANGES[name](image)) for image in slices.values()]
    found = recognise(np.stack([transforms.thumbnail(image) for image in changed]), shipped())
    right = found["known"].to_numpy() == np.array(list(slices))
    assert (right | (found["known"] < 0)).all(), "taken for another slice"
    assert least <= right.mean() <= most


def test_what_is_said_of_the_kaggle_set(files: pd.DataFrame) -> None:
    (found,) = sum_up(files[files["known"] >= 0], shipped())
    folder = "Training/pituitary"
    assert found["contradictions"] == [
        {"path": f"{folder}/Tr-pi_{number}.jpg", "given": "pituitary", "source": "meningioma"}
        for number in ("0043", "0515", "0520")
    ]
    assert found["test_images"] == found["test_images_of_training_patients"] == 197
    assert found["other_classes"] == {}
    lines = as_text(found)
    assert lines[0].endswith("4159 images, which show 2870 of its 3064 slices and 209 of its 209 patients")
    assert lines[1].endswith("test images of patients who are in training or validation too: 197 of 197")
    assert lines[2].startswith(f"labels that contradict its own: 3: {folder}/Tr-pi_0043.jpg (meningioma), ")


@pytest.mark.thorough
def test_the_set_is_built_the_same_again(files: pd.DataFrame, tmp_path: Path) -> None:
    build(FIGSHARE_FOLDER, tmp_path / "again.parquet", FIGSHARE)
    again = read_registry([tmp_path / "again.parquet"])
    assert again.entries.equals(shipped().entries)
    assert np.array_equal(again.fingerprints, shipped().fingerprints)
