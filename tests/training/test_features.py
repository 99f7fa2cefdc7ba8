"""Features of the frozen backbone, computed once. That a head learns from them what it learns from images is
in test_trainer.py."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from support.numpy_learner import Numpy, blocks_of
from support.training_problem import MakeConfig, write_dataset
from support.undisturbed import sources_of

from brain_ray.config import AugmentConfig, Config
from brain_ray.data.parts import find_parts
from brain_ray.errors import RunError
from brain_ray.loading.feed import make_feed
from brain_ray.runs import Run
from brain_ray.training import features
from brain_ray.training.framework import Extract
from brain_ray.tuning.trial_store import trial_run

pytestmark = pytest.mark.usefixtures("ray_cluster")

PLAIN = AugmentConfig()
"""No changes: what cached features are limited to."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose dataset is prepared."""
    run = Run(str(tmp_path), "trial")
    write_dataset(run)
    return run


def test_features_are_those_of_all_rows_in_order_and_computed_once(run: Run, make_config: MakeConfig) -> None:
    config = make_config({"weights": "any.weights.h5"}, frozen_epochs=1, epochs=0, augment=PLAIN)
    splits = {split: find_parts(run, split) for split in ("train", "valid")}
    found = features.cache_features(run, config, splits, Numpy())
    assert [part.num_rows for part in found["train"]] == [61]
    table = pq.read_table(found["train"][0].path)
    assert table["index"].to_pylist() == list(range(61))
    plain = make_config(batch_size=61, augment=PLAIN, shuffle_window=1000)
    (batch,) = make_feed(plain, sources_of(run, plain), 0, 1).valid(0)
    valid = pq.read_table(found["valid"][0].path)
    assert_allclose(np.stack(valid["features"].to_numpy()), blocks_of(batch.inputs), rtol=1e-6, atol=1e-6)
    assert_array_equal(valid["label"].to_numpy(), batch.labels)

    written = Path(found["valid"][0].path).stat().st_mtime_ns
    assert features.cache_features(run, config, splits, Numpy()) == found
    assert Path(found["valid"][0].path).stat().st_mtime_ns == written, "not computed again"
    other = make_config({"weights": "other.weights.h5"}, frozen_epochs=1, epochs=0, augment=PLAIN)
    features.cache_features(run, other, splits, Numpy())
    assert Path(found["valid"][0].path).stat().st_mtime_ns > written


def test_trials_of_a_sweep_take_what_another_has_computed(run: Run, make_config: MakeConfig) -> None:
    config = make_config({"weights": "any.weights.h5"}, frozen_epochs=1, epochs=0, augment=PLAIN)
    splits = {split: find_parts(run, split) for split in ("train", "valid")}
    first, second = (trial_run(run, trial) for trial in ("000", "001"))
    found = features.cache_features(first, config, splits, Numpy(), 1, run)
    assert not first.exists("train")
    asked = config.model_copy(update={"seed": 8, "folds": 2})
    assert features.cache_features(second, asked, splits, Misfit(), 1, run) == found
    other = make_config({"weights": "other.weights.h5"}, frozen_epochs=1, epochs=0, augment=PLAIN)
    with pytest.raises(RunError, match="does not fit"):
        features.cache_features(second, other, splits, Misfit(), 1, run)
    # What a trial has begun and not finished is no one's, and it begins anew.
    run.fs.delete_file(
        run.path("sweep", "features", *Path(found["valid"][0].path).parts[-5:-2], "stage.json")
    )
    assert features.cache_features(second, config, splits, Numpy(), 1, run) != found
    assert features.cache_features(first, config, splits, Misfit(), 1, run) != found


def test_a_damaged_row_is_named(run: Run, make_config: MakeConfig) -> None:
    file = run.path("dataset", "valid", "00000.parquet")
    table = pq.read_table(file)
    pq.write_table(
        table.set_column(table.schema.get_field_index("bytes"), "bytes", [[b"x"] * len(table)]), file
    )
    config = make_config({"weights": "any.weights.h5"}, frozen_epochs=1, epochs=0)
    with pytest.raises(RunError, match=r"^the data set's row of Training/0/0\.jpg is damaged"):
        sources_of(run, config, Numpy())


class Misfit(Numpy):
    """A framework whose backbone cannot be had."""

    def make_extractor(self, config: Config, processes: int) -> Extract:
        raise RunError(f"{config.model.weights} does not fit the backbone")


def test_a_backbone_that_cannot_be_had_is_named(run: Run, make_config: MakeConfig) -> None:
    config = make_config({"weights": "any.weights.h5"}, frozen_epochs=1, epochs=0)
    with pytest.raises(RunError, match=r"^any\.weights\.h5 does not fit the backbone$"):
        sources_of(run, config, Misfit())
