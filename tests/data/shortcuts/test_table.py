"""The images that shortcuts are measured on are drawn by whole groups, and their views survive the table."""

import numpy as np
import pandas as pd
import pytest

from brain_ray.data.shortcuts.table import draw_images, kinds_of, tabulate, views_of
from brain_ray.data.shortcuts.views import NUM_SCANNED, VIEWS


def manifest(count: int = 4000) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    group = rng.integers(0, count // 5, count)
    return pd.DataFrame(
        {
            "image_id": np.arange(count) + 100,
            "label": group % 3,
            "group": group,
            "split": np.array(["train", "valid", "test", "dropped"])[group % 4],
        }
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_of_many_images_whole_groups_are_drawn(seed: int) -> None:
    images = manifest()
    drawn = images[images["image_id"].isin(draw_images(images, seed, 300))]
    for splits in (["train", "valid"], ["test"]):
        part, whole = (each[each["split"].isin(splits)] for each in (drawn, images))
        assert 250 <= len(part) <= 310
        assert whole["group"].isin(part["group"]).sum() == len(part)
        assert np.allclose(
            part["label"].value_counts(normalize=True).sort_index(),
            whole["label"].value_counts(normalize=True).sort_index(),
            atol=0.05,
        )
    assert not (drawn["split"] == "dropped").any()


def test_the_draw_depends_on_the_seed_and_on_nothing_else() -> None:
    images = manifest()
    again = images.sample(frac=1, random_state=3)
    first = draw_images(images, 1, 300)
    assert np.array_equal(first, draw_images(images, 1, 300))
    assert not np.array_equal(first, draw_images(images, 2, 300))
    assert len(draw_images(again, 1, 300)) <= 620
    few = images.head(2000)
    assert len(draw_images(few, 1)) == few["split"].isin(["train", "valid", "test"]).sum()


def test_views_come_back_from_the_table() -> None:
    scanned = np.random.default_rng(0).random((3, NUM_SCANNED)).astype(np.float32)
    scanned[1, 5] = np.nan
    sizes = {"width": [100, 200, 300], "height": [100, 100, 100], "size": [5000, -1, 30000]}
    images = pd.DataFrame({"image_id": [7, 8, 9], **sizes, "file_images": [1, 1, 2]})
    views = views_of(tabulate(images, scanned))
    assert list(views) == list(VIEWS)
    side_by_side = np.concatenate([views[name] for name in ("format", "frame", "background", "histogram")], 1)
    assert np.array_equal(side_by_side, scanned, equal_nan=True)
    assert views["size"].tolist() == [[100, 100, 1], [200, 100, 2], [300, 100, 3]]
    assert np.allclose(views["compression"][:, 0], [np.log(0.5), np.nan, np.log(0.5)], equal_nan=True)
    assert len(kinds_of(views)) == sum(view.length for view in VIEWS.values())
