"""Preparation measures shortcuts, says what is clear, and keeps the views for the evaluation."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from brain_ray.config import Config, DataConfig
from brain_ray.data.phantoms.files import draw
from brain_ray.data.prepare import prepare
from brain_ray.data.shortcuts.measure import MEANING
from brain_ray.data.shortcuts.table import views_of
from brain_ray.data.shortcuts.views import VIEWS
from brain_ray.runs import DATASET_SHORTCUTS, Run

CLASSES = ("glioma", "notumor")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> tuple[Run, str]:
    """Images of one size, but for those of `notumor`; from two sources, which save with other qualities."""
    folder = tmp_path_factory.mktemp("planted")
    rows = ["path,label,split,source,patient"]
    for k, name in enumerate(CLASSES):
        for number in range(30):
            side, quality = 160 + 30 * k, 90 - 40 * (number % 2)
            drawn = draw(name, 5, 100 * k + number)
            grey = drawn if drawn.ndim == 2 else np.ascontiguousarray(drawn[..., 0])
            image = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(folder / f"{name}{number}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
            split = "test" if number < 6 else "train"
            rows.append(f"{name}{number}.jpg,{name},{split},s{number % 2},p{k}{number // 2}")
    (folder / "images.csv").write_text("\n".join(rows))
    data = DataConfig(source=str(folder / "images.csv"), classes=CLASSES, registry="none")
    run = Run(str(tmp_path_factory.mktemp("runs")), "run")
    return run, prepare(run, Config(name="run", seed=3, data=data))


def test_the_planted_size_is_in_audit_json_and_in_the_summary(prepared: tuple[Run, str]) -> None:
    run, text = prepared
    found = run.read_json("dataset", "audit.json")["shortcuts"]
    assert found["images"] == 48
    assert found["classes"]["views"]["size"]["accuracy"]["value"] == 1.0
    assert found["sources"]["views"]["format"]["accuracy"]["value"] == 1.0
    assert found["sources"]["views"]["size"]["accuracy"]["low"] <= found["sources"]["majority"]
    assert "the classes can be told without the head: a linear model is right in 1.00" in text
    assert "the model of one view: width and height 1.00" in text
    assert "the sources can be told without the head" in text
    assert f"so {MEANING}" in text


def test_views_are_kept_of_each_image_that_is_used(prepared: tuple[Run, str], tmp_path: Path) -> None:
    run, _ = prepared
    table = pq.read_table(run.path(*DATASET_SHORTCUTS))
    manifest = pq.read_table(run.path("dataset", "manifest.parquet")).to_pandas().set_index("image_id")
    used = manifest[manifest["split"].isin(["train", "valid", "test"])]
    assert table["image_id"].to_pylist() == sorted(used.index)
    views = views_of(table)
    assert list(views) == list(VIEWS)
    assert (views["size"][:, 0] == manifest.loc[table["image_id"].to_numpy(), "width"]).all()
    assert (views["format"][:, 0] == 0).all()  # JPEG
    assert np.isfinite(views["frame"]).any(axis=1).all()
