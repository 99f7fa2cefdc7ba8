"""Loading alone against the plain alternatives: images per second of decoding, augmenting and resizing.

512 px JPEGs to 224 px, uint8, with b0's augmentation, in the order of an epoch: by the loader (one execution
of Ray Data), the same work written in tf.data, the same functions in a PyTorch DataLoader with as many
processes as cores, the same functions in plain processes that only count their images, in tasks of Ray
without Ray Data, and by Ray Data without the loader, whose processes hold all rows and whose blocks are only
counted. Then the loader with 16 shuffle windows an epoch instead of one, and with two consumers that a
dispatcher deals to. Each leg is a process of its own; they take turns, twice. Five minutes on two cores, ten
on two that are a third as fast (estimated); with more cores, take more rows. A leg whose library is not
installed is left out.

PyTorch is used here only: `.venv/bin/pip install torch`.

    python benchmarks/loading.py
    python benchmarks/loading.py --rows 49152
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from legs import run_leg

from brain_ray.config import Config, ModelConfig, PhantomConfig, TrainConfig
from brain_ray.recipes import b0
from brain_ray.runs import Run

SIDE, INPUT, BATCH = 512, 224, 32
PART_ROWS = 256
DRAWN = 384
"""Number of different images; the others repeat them."""

NEEDS = {"tf.data": "tensorflow", "torch DataLoader": "torch"}
"""Packages without which a leg is left out."""

Figures = dict[str, float]


def config_of(window: int = 65536) -> Config:
    """Return the settings of all legs."""
    return Config(
        model=ModelConfig(weights="none", height=INPUT, width=INPUT),
        train=TrainConfig(batch_size=BATCH, augment=b0().train.augment, shuffle_window=window),
    )


def draw(folder: Path, count: int) -> Figures:
    """Write a prepared split of phantoms, as `prepare` writes it."""
    from brain_ray.data.phantoms.files import draw_slice

    phantoms, names = PhantomConfig(slices_per_patient=4), ("glioma", "meningioma", "notumor", "pituitary")
    encoded = []
    for number in range(DRAWN):
        image = draw_slice(names[number % 4], 1, number // 4, number % 4, phantoms)
        grey = image if image.ndim == 2 else image[..., 0]
        grey = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        encoded.append(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    run = Run(str(folder), "run")
    for start in range(0, count, PART_ROWS):
        ids = np.arange(start, start + PART_ROWS)
        table = pa.table(
            {
                "row_id": ids,
                "path": [f"Training/{row}.jpg" for row in ids],
                "label": ids % 4,
                "bytes": pa.array([encoded[row % DRAWN] for row in ids], pa.binary()),
                "top": np.full(PART_ROWS, 20),
                "bottom": np.full(PART_ROWS, SIDE - 20),
                "left": np.full(PART_ROWS, 30),
                "right": np.full(PART_ROWS, SIDE - 30),
                "augment_seed": np.full(PART_ROWS, -1),
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        run.write_bytes(sink.getvalue().to_pybytes(), "dataset", "train", f"part-{start:09}.parquet")
    return {"kb_per_image": float(np.mean([len(data) for data in encoded])) / 1024}


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Return all rows, in the order of an epoch."""
    from brain_ray.loading.sampler import epoch_order

    files = sorted((folder / "run" / "dataset" / "train").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return [rows[i] for i in epoch_order([PART_ROWS] * len(files), 1, 0, 65536).tolist()]


def _timed(batches: Iterator[Any], count: int, epochs: int) -> Figures:
    """Take batches of some epochs; the first epoch does not count."""
    sizes: list[float] = []
    started = 0.0
    for _ in range(epochs):
        rows, started = 0, time.perf_counter()
        while rows < count:
            rows += len(next(batches))
        assert rows == count
        sizes.append(psutil.Process().memory_info().rss / 1e6)
    return {
        "images_per_second": count / (time.perf_counter() - started),
        "growth_mb": sizes[-1] - sizes[0],
    }


def ours(folder: Path, count: int, window: int = 65536, consumers: int = 1) -> Figures:
    """Load as a training does: with one worker, or with several that a dispatcher deals to."""
    import ray

    from brain_ray.cluster import connection
    from brain_ray.data.parts import Rows, find_parts
    from brain_ray.loading.dispatcher import dispatched_blocks, start_dispatcher
    from brain_ray.loading.loader import ImageLoader
    from brain_ray.loading.sampler import held_bytes
    from brain_ray.loading.store import PartStore

    connection.connect()
    run, config = Run(str(folder), "run"), config_of(window)
    store = ray.remote(PartStore).options(num_cpus=0).remote(run, held_bytes(config.train))
    loader, epochs = ImageLoader(config, Rows(find_parts(run, "train")), store), 3
    if consumers == 1:

        def batches() -> Iterator[Any]:
            for epoch in range(epochs):
                yield from (batch.inputs for batch in loader.batches(epoch))

        return _timed(batches(), count, epochs)
    dispatcher = start_dispatcher({"train": loader}, consumers)
    taken: list[int] = []

    def consume(rank: int, epoch: int) -> None:
        blocks = dispatched_blocks(dispatcher, rank, "train", epoch)
        taken.append(sum(len(batch.inputs) for batch in loader.cut(blocks, epoch, rank, consumers)))

    seconds = 0.0
    for epoch in range(epochs):
        taken.clear()
        started = time.perf_counter()
        threads = [threading.Thread(target=consume, args=(rank, epoch)) for rank in range(consumers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        assert sum(taken) == count
    return {"images_per_second": count / seconds}


def tf_data(folder: Path, count: int) -> Figures:
    """Do the same work by operations of TensorFlow, in its own threads."""
    import tensorflow as tf

    rows = _rows(folder)
    ranges = b0().train.augment
    boxes = np.array([[row[side] for side in ("top", "left", "bottom", "right")] for row in rows], np.int32)

    def load(data: Any, box: Any) -> Any:
        image = tf.io.decode_jpeg(data, channels=1)
        image = tf.image.crop_to_bounding_box(image, box[0], box[1], box[2] - box[0], box[3] - box[1])
        image = tf.image.resize(image, (INPUT, INPUT), "area")
        draws = tf.random.uniform([7], -1.0, 1.0)
        angle, zoom = draws[0] * ranges.rotation * np.pi / 180, 1 + draws[3] * ranges.zoom
        cos, sin, middle = tf.cos(angle) / zoom, tf.sin(angle) / zoom, (INPUT - 1) / 2
        right = middle - cos * middle + sin * middle + draws[1] * ranges.shift * INPUT
        down = middle - sin * middle - cos * middle + draws[2] * ranges.shift * INPUT
        image = tf.raw_ops.ImageProjectiveTransformV3(
            images=image[tf.newaxis],
            transforms=tf.stack([cos, -sin, right, sin, cos, down, 0.0, 0.0])[tf.newaxis],
            output_shape=[INPUT, INPUT],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="NEAREST",
        )[0]
        if ranges.flip:
            image = tf.cond(draws[6] > 0, lambda: tf.reverse(image, [1]), lambda: image)
        gain = 1 + draws[5] * ranges.contrast
        mean = tf.reduce_mean(image)
        image = image * gain + mean * (1 - gain) + draws[4] * ranges.brightness * 255
        if ranges.noise:
            noise = tf.random.normal(tf.shape(image), stddev=tf.random.uniform([]) * ranges.noise * 255)
            image = image + noise
        return tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8)

    data = tf.data.Dataset.from_tensor_slices(([row["bytes"] for row in rows], boxes))
    data = data.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return _timed(iter(data.repeat(2).as_numpy_iterator()), count, 2)


_HELD: list[Any] = []
"""What a process holds of all rows."""


class _Images:
    """The same functions for a PyTorch DataLoader."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows, self._config = rows, config_of()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Any:
        from brain_ray.data.rows import changes_of, read_input

        row, config = self._rows[number], self._config
        changes = changes_of(row, config, 0)
        return read_input(row, config.model.input_spec, 40_000_000, config.data.read_spec, changes)


def torch_dataloader(folder: Path, count: int) -> Figures:
    """Load by PyTorch's DataLoader, with as many processes as cores."""
    from torch.utils.data import DataLoader

    images: Any = _Images(_rows(folder))
    loader: Any = DataLoader(
        images, BATCH, num_workers=os.cpu_count() or 1, persistent_workers=True, worker_init_fn=_alone
    )

    def batches() -> Iterator[Any]:
        for _ in range(2):
            yield from loader

    return _timed(batches(), count, 2)


def _alone(_: int = 0) -> None:
    cv2.setNumThreads(1)


def _count(rows: list[dict[str, Any]]) -> float:
    _alone()
    images = _Images(rows)
    started = time.perf_counter()
    for number in range(len(images)):
        images[number]
    return time.perf_counter() - started


def plain(folder: Path, count: int) -> Figures:
    """Call the same functions in a process for each core; nothing is sent back."""
    cores = os.cpu_count() or 1
    rows = _rows(folder)
    shares = [rows[rank::cores] for rank in range(cores)]
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        return {"images_per_second": count / max(pool.map(_count, shares))}


def _decode_some(folder: Path, numbers: Sequence[int]) -> Any:
    _alone()
    if not _HELD:
        _HELD.append(_Images(_rows(folder)))
    return np.stack([_HELD[0][number] for number in numbers])


def ray_tasks(folder: Path, count: int) -> Figures:
    """Call the same functions in Ray's tasks, without Ray Data: a CPU each, in order, some ahead."""
    import ray

    from brain_ray.cluster import connection

    connection.connect()
    decode = ray.remote(num_cpus=1)(_decode_some)

    def batches() -> Iterator[Any]:
        for _ in range(2):
            waiting: deque[Any] = deque()
            for start in range(0, count, PART_ROWS):
                waiting.append(decode.remote(folder, range(start, start + PART_ROWS)))
                if len(waiting) == 2 * (os.cpu_count() or 1):
                    yield ray.get(waiting.popleft())
            yield from map(ray.get, waiting)

    return _timed(batches(), count, 2)


def decode_block(plan: pa.Table, folder: Path) -> pa.Table:
    """Call the same functions in a task of Ray Data; a row of the block is the bytes of all images."""
    images = _decode_some(folder, plan["number"].to_pylist())
    return pa.table({"image": pa.array([images.tobytes()], pa.large_binary()), "count": [len(images)]})


def ray_data(folder: Path, count: int) -> Figures:
    """Call the same functions by an execution of Ray Data an epoch, as the loader starts it."""
    import ray
    from loading import decode_block  # by its name: a task keeps what another one of its process has read

    from brain_ray.cluster import connection
    from brain_ray.loading.loader import execute

    connection.connect()
    plans = [pa.table({"number": range(start, start + PART_ROWS)}) for start in range(0, count, PART_ROWS)]

    def batches() -> Iterator[Any]:
        for _ in range(3):
            for block in map(ray.get, execute(decode_block, plans, folder=folder)):
                yield range(block["count"][0].as_py())

    return _timed(batches(), count, 3)


LEGS: dict[str, Callable[[Path, int], Figures]] = {
    "draw": draw,
    "loader": ours,
    "loader, 16 windows": lambda folder, count: ours(folder, count, window=count // 16),
    "loader, two consumers": lambda folder, count: ours(folder, count, consumers=2),
    "tf.data": tf_data,
    "torch DataLoader": torch_dataloader,
    "plain processes": plain,
    "Ray's tasks alone": ray_tasks,
    "Ray Data alone": ray_data,
}

RATIOS = {
    "vs_tf_data": ("loader", "tf.data"),
    "vs_torch_dataloader": ("loader", "torch DataLoader"),
    "of_plain_loop": ("loader", "plain processes"),
    "of_ray_tasks": ("loader", "Ray's tasks alone"),
    "of_ray_data": ("loader", "Ray Data alone"),
    "many_windows": ("loader, 16 windows", "loader"),
    "two_consumers": ("loader, two consumers", "loader"),
}
"""Ratios by name: one leg's images per second over another's."""


def main(count: int, turns: int) -> None:
    """Measure, print a table and, last, the ratios as JSON."""
    missing = [leg for leg, package in NEEDS.items() if importlib.util.find_spec(package) is None]
    for leg in missing:
        print(f"{leg} is left out: {NEEDS[leg]} is not installed", flush=True)
    speeds: dict[str, list[float]] = {leg: [] for leg in LEGS if leg != "draw" and leg not in missing}
    growth: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        size = run_leg(__file__, "draw", "--rows", count, "--leg", "draw", folder)["kb_per_image"]
        print(f"{count} JPEGs of {SIDE} px, {size:.0f} KB each, to {INPUT} px, on {os.cpu_count()} cores")
        print("images/s of each turn, as they end:", flush=True)
        for _ in range(turns):
            for leg, found in speeds.items():
                figures = run_leg(__file__, leg, "--rows", count, "--leg", leg, folder)
                found.append(figures["images_per_second"])
                print(f"{leg:24}{found[-1]:8.0f}", flush=True)
                if leg == "loader":
                    growth.append(figures["growth_mb"])
    median = {leg: float(np.median(found)) for leg, found in speeds.items()}
    ratios = {
        name: median[one] / median[other]
        for name, (one, other) in RATIOS.items()
        if one in median and other in median
    }
    ratios["growth_mb"] = float(np.median(growth))
    print(json.dumps({name: round(value, 2) for name, value in ratios.items()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=6144, help="images of an epoch, a multiple of 256")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--leg", nargs=2)
    given = parser.parse_args()
    if given.leg:
        print(json.dumps(LEGS[given.leg[0]](Path(given.leg[1]), given.rows)))
    else:
        main(given.rows, given.turns)
