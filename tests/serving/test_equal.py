"""What the endpoint answers over HTTP is what evaluation writes into predictions.parquet."""

from pathlib import Path

import cv2
import httpx
import numpy as np
import pyarrow as pa
import pytest
from support.endpoint import Running, picture

from brain_ray.evaluation.scoring_actors import Classifier

REAL = Path(__file__).parents[3] / "shared" / "data" / "brain-mri" / "Testing"


def assert_equal(endpoint: Running, bundle: Path, files: list[bytes]) -> set[str]:
    """Ask both for all files; return the decisions that there were."""
    paths = [f"{i}.jpg" for i in range(len(files))]
    table = Classifier(str(bundle), 1)(pa.table({"path": paths, "bytes": pa.array(files, pa.binary())}))
    parts = [("file", (path, data)) for path, data in zip(paths, files, strict=True)]
    results = httpx.post(f"{endpoint.url}/v1/predict", files=parts, timeout=60).json()["results"]
    assert [result["name"] for result in results] == paths
    for row, result in zip(table.to_pylist(), results, strict=True):
        for kind, name in (("probabilities", "probability"), ("calibrated", "calibrated")):
            expected = [row[f"{name}_{label}"] for label in result[kind]]
            np.testing.assert_allclose(list(result[kind].values()), expected, atol=1e-5)
        assert result["box"] == {side: row[side] for side in ("top", "bottom", "left", "right")}
        assert result["unlikeness"] == pytest.approx(row["unlikeness"], rel=1e-4)
        assert result["decision"] == row["decision"]
        assert result["label"] == max(result["calibrated"], key=lambda name: row[f"calibrated_{name}"])
    return {result["decision"] for result in results}


def test_phantoms_and_what_is_none(endpoint: Running, bundle: Path) -> None:
    kinds = ("glioma", "meningioma", "notumor", "pituitary")
    heads = [picture(kinds[i % 4], i, ".jpg") for i in range(24)]
    rng = np.random.default_rng(1)
    noise = [cv2.imencode(".png", rng.integers(0, 256, (90, 80), dtype=np.uint8))[1] for _ in range(4)]
    found = assert_equal(endpoint, bundle, heads + [image.tobytes() for image in noise])
    assert found == {"answer", "abstain", "not_mr"}, "or nothing is shown of one of them"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real images are not at {REAL}")
def test_real_images(endpoint: Running, bundle: Path) -> None:
    files = sorted(REAL.rglob("*.jpg"))[::12]
    assert len(files) > 20
    assert_equal(endpoint, bundle, [file.read_bytes() for file in files])
