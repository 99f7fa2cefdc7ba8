"""Masks of outlined tumours: where the image has its tumour, the mask has it too, however both are fitted and
augmented."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from brain_ray.config import AugmentConfig, Config, ModelConfig, TrainConfig
from brain_ray.data.outline_masks import draw_masks, mask_size, read_mask
from brain_ray.data.transforms import Box, to_input
from brain_ray.errors import RunError
from brain_ray.runs import DATASET_MANIFEST, Run

HEIGHT, WIDTH = 200, 160
BOX = Box(20, 190, 10, 150)
TUMOUR = [[60, 50], [110, 60], [120, 110], [70, 120]]
MOVES = AugmentConfig(rotation=40, shift=0.15, zoom=0.2, flip=0.5, brightness=0.2, contrast=0.2)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with the manifest of six images, one of them rejected and one of the test split."""
    run = Run(str(tmp_path), "outlined")
    splits = ["train", "valid", "test", "rejected", "train", "train"]
    manifest = pd.DataFrame({"path": [f"glioma/{k}.png" for k in range(6)], "split": splits})
    manifest = manifest.assign(frame=[-1, -1, -1, -1, -1, 3], height=HEIGHT, width=WIDTH)
    manifest = manifest.assign(top=BOX.top, bottom=BOX.bottom, left=BOX.left, right=BOX.right)
    run.write_bytes(manifest.to_parquet(), *DATASET_MANIFEST)
    return run


def config_of(folder: Path, outlines: Any, **model: Any) -> Config:
    (folder / "outlines.json").write_text(json.dumps(outlines))
    network = ModelConfig(backbone="tiny", weights="none", **({"height": 90, "width": 60} | model))
    return Config(model=network, train=TrainConfig(outlines=str(folder / "outlines.json")))


def test_images_of_training_and_validation_have_masks(run: Run, tmp_path: Path) -> None:
    names = ["glioma/0.png", "1.png", "glioma/2.png", "glioma/3.png", "glioma/5.png[3]", "glioma/9.png"]
    config = config_of(tmp_path, dict.fromkeys(names, TUMOUR))
    table = draw_masks(run, str(tmp_path / "outlines.json"))
    assert table["path"].to_pylist() == ["glioma/0.png", "glioma/1.png", "glioma/5.png[3]"]
    assert {read_mask(data, config).shape for data in table["mask"].to_pylist()} == {(64, 43)}


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"fit": "pad"},
        {"crop_size": (40, 80), "fit": "pad"},
        {"height": 64, "width": 64, "background": "black"},
    ],
    ids=["stretched", "padded", "squeezed first", "black around"],
)
def test_a_mask_is_where_the_tumour_is_in_the_network_s_input(
    model: dict[str, Any], run: Run, tmp_path: Path
) -> None:
    config = config_of(tmp_path, {"glioma/0.png": TUMOUR}, **model)
    image = np.full((HEIGHT, WIDTH), 60, np.uint8)
    cv2.fillPoly(image, [np.array(TUMOUR, np.int32)], 255)
    ((data,),) = (draw_masks(run, str(tmp_path / "outlines.json"))["mask"].to_pylist(),)
    size = mask_size(config)[::-1]
    for seed in [None, *range(20)]:
        changes = lambda: [] if seed is None else [(MOVES, np.random.default_rng(seed))]  # noqa: B023, E731
        shown = cv2.resize(to_input(image, BOX, config.model.input_spec, changes()), size)
        inside = read_mask(data, config, changes()) > 127
        assert inside.any()
        # Brightness and contrast move no pixel, and the tumour stays the brighter part.
        bright = shown > (int(shown.max()) + int(np.median(shown[shown > 0]))) / 2
        assert (bright & inside).sum() > 0.85 * (bright | inside).sum()


def test_outlines_that_fit_no_image_are_told(run: Run, tmp_path: Path) -> None:
    location = str(tmp_path / "outlines.json")
    config_of(tmp_path, {"a.png": TUMOUR, "glioma/2.png": TUMOUR})
    with pytest.raises(RunError, match=r"no image of training has an outline in .*outlines\.json.*a\.png"):
        draw_masks(run, location)
    config_of(tmp_path, {"glioma/0.png": [[0, 0], [500, 0], [500, 500]], "glioma/1.png": TUMOUR})
    with pytest.raises(RunError, match=r"1 outlines of .* do not fit:\n  glioma/0\.png: it reaches from"):
        draw_masks(run, location)
