"""The loader: batches are the rows of the plan, whoever decodes them, for one worker or dealt to several."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from numpy.testing import assert_array_equal
from support.training_problem import MakeConfig, write_dataset
from support.undisturbed import store_of

from brain_ray.config import AugmentConfig
from brain_ray.data import decoding, transforms
from brain_ray.data.parts import Part, Rows, find_parts
from brain_ray.errors import RunError
from brain_ray.input_spec import InputSpec
from brain_ray.loading.blocks import LEAST_PRIORITY, decode_plan, decode_rows
from brain_ray.loading.dispatcher import Dispatcher, dispatched_blocks, start_dispatcher
from brain_ray.loading.loader import Batch, ImageLoader
from brain_ray.loading.sampler import epoch_order, held_bytes, worker_steps
from brain_ray.runs import Run

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose dataset is prepared."""
    run = Run(str(tmp_path), "trial")
    write_dataset(run)
    return run


@pytest.mark.parametrize("window", [1000, 25])
@pytest.mark.parametrize("bound", ["rows", "bytes"])
def test_batches_are_the_rows_of_the_plan(window: int, bound: str, run: Run, make_config: MakeConfig) -> None:
    config = make_config(batch_size=20, **({"shuffle_window": window} if bound == "rows" else {}))
    parts = find_parts(run, "train")
    if bound == "bytes":  # as many of them as make up `shuffle_window_mb`
        size = config.train.shuffle_window_mb * 1_000_000 // window
        parts = [replace(part, num_bytes=part.num_rows * size) for part in parts]
    counts = [part.num_rows for part in parts]
    order = epoch_order(counts, config.seed, 3, window)
    store = store_of(run, capacity=1 if bound == "rows" else held_bytes(config.train))
    loader = ImageLoader(config, Rows(parts), store)
    labels = [k % 3 for k in range(len(parts))]
    told = [replace(part, label=label) for part, label in zip(parts, labels, strict=True)]
    by_class = epoch_order(counts, config.seed, 3, window, labels)
    assert ImageLoader(config, Rows(told), store).order(3).tolist() == by_class.tolist()
    tables = ray.get(list(ray.get(loader.store.get.remote(parts))))
    rows = [row for table in tables for row in table.to_pylist()]
    steps = list(worker_steps(order, 20, 1, 2, spread=True))
    batches = list(loader.batches(3, 1, 2))
    assert len(batches) == len(steps) == 4
    for batch, step in zip(batches, steps, strict=True):
        assert (batch.total, batch.largest) == (step.total, 8)
        assert batch.labels.tolist() == [rows[i]["label"] for i in step.rows]
        for pixels, i in zip(batch.inputs, step.rows, strict=True):
            seed = rows[i]["augment_seed"]
            balance = [(config.data.balance, np.random.default_rng(seed))] if seed >= 0 else []
            epoch = (config.train.augment, np.random.default_rng([config.seed, 3, rows[i]["row_id"]]))
            grey = decoding.decode(rows[i]["bytes"])
            spec = InputSpec(24, 24)
            expected = transforms.to_input(grey, transforms.Box.whole(grey), spec, [*balance, epoch])
            assert_array_equal(pixels, expected)


def test_a_file_is_read_again_only_after_others_took_its_place(run: Run) -> None:
    first, second, third = find_parts(run, "train")[:3]

    def get(store: Any, part: Part) -> Any:
        (reference,) = ray.get(store.get.remote([part]))
        return reference

    ample, small = store_of(run), store_of(run, first.num_bytes + second.num_bytes + third.num_bytes - 1)
    before = {store: get(store, first) for store in (ample, small)}
    for store in before:
        get(store, second)
        get(store, third)
    assert get(ample, first) == before[ample]
    assert get(small, first) != before[small]
    assert ray.get(get(small, first)).equals(ray.get(before[small]))


def test_what_is_drawn_for_a_row_depends_on_seed_epoch_and_row_alone(
    run: Run, make_config: MakeConfig
) -> None:
    ranges = {"rotation": 20, "shift": 0.1, "zoom": 0.2, "brightness": 0.1, "contrast": 0.2, "noise": 0.05}
    config = make_config(augment=AugmentConfig(**ranges, flip=0.5))
    rows = pa.concat_tables([pq.read_table(file) for file in run.list_files("dataset", "train")])
    drawn = decode_rows(rows, config, 3)["image"]
    order = np.random.default_rng(0).permutation(len(rows))  # other blocks, on other workers
    blocks = [decode_rows(rows.take(part), config, 3)["image"] for part in np.array_split(order, 7)]
    assert_array_equal(np.concatenate(blocks), drawn[order])
    for other, epoch in ((config, 4), (config.model_copy(update={"seed": 8}), 3), (config, None)):
        changed = decode_rows(rows, other, epoch)["image"] != drawn
        assert changed.any(axis=(1, 2, 3)).all()


def test_validation_rows_are_not_augmented(run: Run, make_config: MakeConfig) -> None:
    parts = find_parts(run, "valid")
    loader = ImageLoader(make_config(batch_size=20), Rows(parts), store_of(run))
    (batch,) = loader.batches(None)
    table = ray.get(ray.get(loader.store.get.remote(parts))[0])
    plain = [decoding.decode(row["bytes"]) for row in table.to_pylist() if row["augment_seed"] < 0]
    kept = [i for i, row in enumerate(table.to_pylist()) if row["augment_seed"] < 0]
    assert_array_equal(batch.inputs[kept, ..., 0], plain)


def test_grey_levels_are_matched_in_training_alone(run: Run, make_config: MakeConfig) -> None:
    rows, store = Rows(find_parts(run, "train")), store_of(run)
    plain = ImageLoader(make_config(batch_size=20), rows, store)
    matching = ImageLoader(make_config(batch_size=20, histogram_matching=0.7), rows, store)
    before, found = (list(loader.batches(3, 1, 2)) for loader in (plain, matching))
    later = list(matching.batches(3, 1, 2, first=2))  # as a run that is taken up within the epoch
    for batch, one in zip(found, before, strict=True):
        assert batch.labels.tolist() == one.labels.tolist()
        changed = (batch.inputs != one.inputs).any(axis=(1, 2, 3))
        assert changed.any()
        assert not changed.all()
    for batch, one in zip(found[2:], later, strict=True):
        assert_array_equal(batch.inputs, one.inputs)
    for batch, one in zip(matching.batches(None), plain.batches(None), strict=True):
        assert_array_equal(batch.inputs, one.inputs)


def test_what_decodes_goes_behind_what_trains(run: Run, make_config: MakeConfig) -> None:
    parts = find_parts(run, "train")
    config, store = make_config(), store_of(run)

    @ray.remote(num_cpus=0)
    def priority() -> int:
        plan = pa.table({"part": np.zeros(1, np.int32), "row": np.zeros(1, np.int32)})
        decode_plan(plan, parts, store, config, None)
        return os.getpriority(os.PRIO_PROCESS, 0)

    assert ray.get(priority.remote()) == LEAST_PRIORITY


def test_a_damaged_row_is_named(run: Run, make_config: MakeConfig) -> None:
    file = run.path("dataset", "valid", "00000.parquet")
    table = pq.read_table(file)
    table = table.set_column(table.schema.get_field_index("bytes"), "bytes", [[b"x"] * len(table)])
    pq.write_table(table, file)
    loader = ImageLoader(make_config(), Rows(find_parts(run, "valid")), store_of(run))
    with pytest.raises(RunError, match=r"Training/0/0\.jpg is damaged: not an image; prepare again"):
        list(loader.batches(None))


def dealt(loader: ImageLoader, split: str, epoch: int, num_workers: int) -> list[list[Batch]]:
    """The batches of each worker, which a dispatcher deals."""
    dispatcher = start_dispatcher({split: loader}, num_workers)
    return [
        list(
            loader.cut(
                dispatched_blocks(dispatcher, rank, split, epoch),
                epoch if split == "train" else None,
                rank,
                num_workers,
            )
        )
        for rank in reversed(range(num_workers))  # one after another: what the others get has to wait
    ][::-1]


@pytest.mark.parametrize(
    ("split", "epoch", "last_batch"), [("train", 3, "keep"), ("train", 3, "spread"), ("valid", 0, "spread")]
)
def test_a_dispatcher_deals_to_each_worker_what_it_would_load_alone(
    split: str, epoch: int, last_batch: str, run: Run, make_config: MakeConfig
) -> None:
    """Three workers, 61 rows in blocks of 10: a last batch that is kept leaves two of them without a row."""
    large = {"height": 1264, "width": 1264}
    config = make_config(large, batch_size=20, shuffle_window=25, last_batch=last_batch)
    loader = ImageLoader(config, Rows(find_parts(run, split)), store_of(run))
    draws = epoch if split == "train" else None
    for rank, batches in enumerate(dealt(loader, split, epoch, 3)):
        alone = list(loader.batches(draws, rank, 3))
        assert len(batches) == len(alone) == (4 if split == "train" else 1)
        if split == "train":
            sizes = [20, 20, 20, 1] if last_batch == "keep" else [16, 15, 15, 15]
            assert [batch.total for batch in batches] == sizes
        for ours, theirs in zip(batches, alone, strict=True):
            assert ours.total == theirs.total
            for name in ("inputs", "labels", "sample_weight"):
                assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_the_rest_of_an_epoch_is_what_follows_its_first_steps(run: Run, make_config: MakeConfig) -> None:
    config = make_config(batch_size=8)
    loader = ImageLoader(config, Rows(find_parts(run, "train")), store_of(run))
    for workers in (1, 2):
        whole = [list(loader.batches(2, rank, workers)) for rank in range(workers)]
        dispatcher = start_dispatcher({"train": loader}, workers)
        for rank in range(workers):
            blocks = dispatched_blocks(dispatcher, rank, "train", 2, 3)
            for rest in (loader.batches(2, rank, workers, 3), loader.cut(blocks, 2, rank, workers, 3)):
                for batch, expected in zip(rest, whole[rank][3:], strict=True):
                    assert_array_equal(batch.inputs, expected.inputs)
                    assert_array_equal(batch.labels, expected.labels)


def test_requests_after_the_last_block_decode_nothing_again(run: Run, make_config: MakeConfig) -> None:
    """Workers ask ahead, so that some requests come when all workers have had their last block, or before
    that for the block."""
    loader = ImageLoader(make_config(batch_size=20), Rows(find_parts(run, "train")), store_of(run))
    opened: list[int] = []

    class Counting(ImageLoader):
        def blocks(self, epoch: int | None, num_workers: int, first: int = 0) -> Iterator[tuple[int, Any]]:
            opened.append(num_workers)
            return super().blocks(epoch, num_workers, first)

    dispatcher = Dispatcher({"train": Counting(loader.config, loader.rows, loader.store)}, 2)
    ahead = [dispatcher.next(rank, "train", 0, 1) for rank in range(2)]
    first = [dispatcher.next(rank, "train", 0, 0) for rank in range(2)]
    late = [dispatcher.next(rank, "train", 0, number) for number in (1, 2) for rank in range(2)]
    assert [block is not None for block in [*ahead, *first, *late]] == [False] * 2 + [True] * 2 + [False] * 4
    assert opened == [2]


def test_all_workers_learn_of_a_damaged_row(run: Run, make_config: MakeConfig) -> None:
    file = run.path("dataset", "valid", "00000.parquet")
    table = pq.read_table(file)
    pq.write_table(
        table.set_column(table.schema.get_field_index("bytes"), "bytes", [[b"x"] * len(table)]), file
    )
    loader = ImageLoader(make_config(batch_size=2), Rows(find_parts(run, "valid")), store_of(run))
    with pytest.raises(RunError, match="is damaged: not an image; prepare again"):
        dealt(loader, "valid", 0, 2)


def test_an_error_of_loading_reaches_each_worker(run: Run, make_config: MakeConfig) -> None:
    parts = find_parts(run, "valid")
    loader = ImageLoader(make_config(batch_size=2), Rows(parts), store_of(run))
    for part in parts:
        Path(part.path).unlink()
    dispatcher = start_dispatcher({"valid": loader}, 2)
    for rank in range(2):
        with pytest.raises(Exception, match=r"00000\.parquet"):
            list(dispatched_blocks(dispatcher, rank, "valid", 0))


def test_an_epoch_visits_other_rows_of_a_group_than_the_one_before(run: Run, make_config: MakeConfig) -> None:
    config = make_config(batch_size=20, rows_per_group=2)
    parts, group = find_parts(run, "train"), np.arange(61) // 7
    loader = ImageLoader(config, Rows(parts, group=group), store_of(run))
    epochs = [[step.rows for step in loader.steps(epoch, 0, 1)] for epoch in (0, 1)]
    for steps in epochs:
        rows = np.concatenate(steps)
        assert len(set(rows.tolist())) == len(rows) == loader.rows.num_visited(2) == 18
        assert np.bincount(group[rows]).tolist() == [2] * 9
    assert set(np.concatenate(epochs[0])) != set(np.concatenate(epochs[1]))
    assert len(np.concatenate([step.rows for step in loader.steps(None, 0, 1)])) == 61, "to validate, all"
    shares = [[step.rows for step in loader.steps(0, rank, 2)] for rank in (0, 1)]
    for whole, *parts_of_it in zip(epochs[0], *shares, strict=True):
        assert np.concatenate(parts_of_it).tolist() == whole.tolist()
    assert sum(len(batch.labels) for batch in loader.batches(0)) == 18
