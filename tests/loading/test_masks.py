"""The loader gives each row's mask with its image, turned and flipped as the image is."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import ray
from numpy.testing import assert_array_equal
from ray.exceptions import ActorUnavailableError
from support.training_problem import MakeConfig, write_dataset

from brain_ray.config import AugmentConfig, Config
from brain_ray.data.outline_masks import mask_size, read_mask
from brain_ray.data.parts import Rows, find_parts
from brain_ray.data.rows import changes_of
from brain_ray.errors import RunError
from brain_ray.loading.dispatcher import dispatched_blocks, start_dispatcher
from brain_ray.loading.loader import ImageLoader
from brain_ray.loading.store import PartStore
from brain_ray.runs import Run
from brain_ray.training.sources import open_dataset

pytestmark = pytest.mark.usefixtures("ray_cluster")

MOVES = AugmentConfig(rotation=20, shift=0.1, zoom=0.2, brightness=0.2, flip=0.5, noise=0.1)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose dataset is prepared."""
    run = Run(str(tmp_path), "trial")
    write_dataset(run)
    return run


def masks_of(config: Config) -> dict[str, bytes]:
    """Masks of the even ones of 61 images, each another rectangle."""
    found = {}
    for k in range(0, 61, 2):
        mask = np.zeros(mask_size(config), np.uint8)
        mask[k % 30 : k % 30 + 20, 5 : 40 + k % 20] = 255
        found[f"Training/{k % 4}/{k}.jpg"] = cv2.imencode(".png", mask)[1].tobytes()
    return found


def loader_of(run: Run, config: Config, masks: dict[str, bytes], split: str = "train") -> ImageLoader:
    table = pa.table({"path": list(masks), "mask": pa.array(list(masks.values()), pa.binary())})
    store = ray.remote(PartStore).options(num_cpus=0, max_restarts=1).remote(run, 10**8, lambda: table)
    return ImageLoader(config, Rows(find_parts(run, split)), store)


def rows_of(loader: ImageLoader) -> list[dict[str, Any]]:
    tables = ray.get(list(ray.get(loader.store.get.remote(loader.parts))))
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("dealt", [False, True], ids=["alone", "by a dispatcher"])
def test_masks_come_with_their_images(dealt: bool, run: Run, make_config: MakeConfig) -> None:
    config = make_config(batch_size=20, augment=MOVES, outlines="outlines.json")
    masks = masks_of(config)
    loader = loader_of(run, config, masks)
    rows, steps = rows_of(loader), list(loader.steps(3, 1, 2))
    if dealt:
        blocks = dispatched_blocks(start_dispatcher({"train": loader}, 2), 1, "train", 3)
        batches = list(loader.cut(blocks, 3, 1, 2))
    else:
        batches = list(loader.batches(3, 1, 2))
    assert len(batches) == len(steps)
    for batch, step in zip(batches, steps, strict=True):
        assert batch.masks is not None
        assert batch.outlined is not None
        for mask, outlined, i in zip(batch.masks, batch.outlined, step.rows, strict=True):
            known = masks.get(rows[i]["path"])
            assert outlined == (known is not None)
            if known is None:
                assert not mask.any()
            else:
                assert_array_equal(mask, read_mask(known, config, changes_of(rows[i], config, 3)))


def test_validation_and_other_trainings_have_none(run: Run, make_config: MakeConfig) -> None:
    config = make_config(outlines="outlines.json")
    masks = masks_of(config)
    (batch, *_) = loader_of(run, config, masks, "valid").batches(None)
    assert (batch.masks, batch.outlined) == (None, None)
    for others in ({}, {"outlines": "outlines.json", "outline_weight": 0}):
        (batch, *_) = loader_of(run, make_config(**others), masks).batches(0)
        assert (batch.masks, batch.outlined) == (None, None)


def test_a_process_has_the_masks_of_the_training_that_it_loads_for(run: Run, make_config: MakeConfig) -> None:
    config = make_config(batch_size=61, outlines="outlines.json")
    for masks in (masks_of(config), {}, masks_of(config)):
        (batch,) = loader_of(run, config, masks).batches(0)
        assert batch.outlined is not None
        assert batch.outlined.sum() == len(masks)


def test_a_store_that_was_lost_has_the_masks_again(run: Run, make_config: MakeConfig) -> None:
    config = make_config(batch_size=61, outlines="outlines.json")
    masks = masks_of(config)
    loader = loader_of(run, config, masks)
    first = ray.get(loader.store.masks.remote())
    ray.kill(loader.store, no_restart=False)  # asks for it; the next call may still be answered
    again, deadline = first, time.monotonic() + 60
    while again == first and time.monotonic() < deadline:
        time.sleep(0.1)
        with suppress(ActorUnavailableError):
            again = ray.get(loader.store.masks.remote())
    assert again != first
    assert ray.get(again[0])["path"].to_pylist() == list(masks)


def test_outlines_that_do_not_fit_end_a_training_before_it_begins(run: Run, make_config: MakeConfig) -> None:
    with pytest.raises(RunError, match=r"^there are no outlines at .*/nowhere\.json: ") as found:
        open_dataset(run, make_config(outlines="nowhere.json"))
    assert "Traceback" not in str(found.value)
