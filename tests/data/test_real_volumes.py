"""Real DICOM and NIfTI where they are at hand; each has its twin on made-up files (test_dicom,
test_nifti)."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from brain_ray.config import DataConfig
from brain_ray.data.expansion import open_files
from brain_ray.data.frames import expand, pick
from brain_ray.data.scan import AUDITED, Scan

VOLUMES = Path(__file__).parents[3] / "shared/data/volumes"

DATA = DataConfig(classes=("no", "yes"))


@pytest.fixture
def real() -> Path:
    if not VOLUMES.is_dir():
        pytest.skip(f"no real volumes at ../{VOLUMES.relative_to(Path(__file__).parents[3])}")
    return VOLUMES


def images_of(folder: Path):  # type: ignore[no-untyped-def]
    import pandas as pd

    paths = sorted(path.name for path in folder.iterdir())
    opened = open_files(str(folder), DATA, "salt", paths)
    table = pd.DataFrame({"path": paths})
    images = expand(table, pick(table, opened))
    images.insert(0, "image_id", range(len(images)))
    scanned = Scan(str(folder), DATA)(pa.Table.from_pandas(images[["image_id", "path", "frame"]]))
    facts = scanned.drop([*AUDITED, "path", "frame"]).to_pandas().set_index("image_id")
    return images.join(facts, on="image_id")


def test_a_series_becomes_one_patient_of_56_ordered_slices(real: Path) -> None:
    images = images_of(real / "dicom-series")
    assert len(images) == 56
    assert (images["reason"] == "").all()
    assert images["patient"].nunique() == images["study"].nunique() == images["series"].nunique() == 1
    assert set(images["modality"]) == {"MR"}
    steps = np.diff(images["position"])
    assert (steps > 0).all()
    assert np.ptp(steps) < 0.01, "contiguous"
    assert (images["grey_levels"] > 30).all()


def test_each_odd_file_is_an_image_or_has_a_clear_reason(real: Path) -> None:
    images = images_of(real / "dicom-files")
    counts = images.groupby("path")["frame"].apply(list).to_dict()
    enhanced = [name for name in counts if name.startswith("emri_small")]
    assert len(enhanced) == 4
    assert all(counts[name] == list(range(10)) for name in enhanced)
    assert counts["SC_rgb_16bit_2frame.dcm"] == [0, 1]
    one = images[images["path"].str.startswith("emri_small")].groupby("frame")["pixel_sha256"].nunique()
    assert (one == 1).all(), "JPEG 2000, RLE and the byte order make no difference"
    reasons = images[images["reason"] != ""].set_index("path")["reason"].to_dict()
    assert list(reasons) == ["liver_deflate.dcm"]
    assert reasons["liver_deflate.dcm"].startswith("1.2.840.10008.1.2.8.1 of DICOM is not read: save it as ")


def test_volumes_become_slices_without_the_empty_ones(real: Path) -> None:
    images = images_of(real / "nifti")
    assert (images["reason"] == "").all()
    counts = images["path"].value_counts()
    assert counts["chris_PD.nii.gz"] == 54
    assert 120 <= counts["MR_Gd.nii.gz"] < 144
    assert images["patient"].nunique() == 2
    assert (images.groupby("path")["width"].first() < images.groupby("path")["height"].first()).all()
