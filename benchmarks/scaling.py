"""How the cost of preparing and loading an image grows: with the number of images, and of nodes.

Phantoms are drawn once, 7,000 of them; larger sets hold each several times, turned, scaled and bent at
random: no copies of each other, but as alike as slices of one patient. Each leg is a process and a cluster of
its own.

- images: 7,000 and 70,000, or those of --images, on one node with two CPUs; then ("again") all files are
  listed, read and compared with the prepared ones by their hashes, as where each has a new time;
- nodes: 7,000 images on one, two and three nodes of one machine, six CPUs together in each case: what is sent
  between nodes costs time, but no more cores are there to gain any;
- loading: rows decoded and augmented for training at 224 px, on one node with two CPUs.

`--nodes` without a number leaves out the last two.

Five to seven minutes on two cores; with 700,000 images three quarters of an hour more.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --images 70000 700000 --nodes
    python benchmarks/scaling.py --images 70000 700000 --nodes --cpus 16
"""

import argparse
import json
import logging
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from folders import image_files
from legs import run_leg
from steps import STEPS, timed

from brain_ray.config import AugmentConfig, Config, DataConfig, ModelConfig, PhantomConfig, TrainConfig

BASE = 7_000
CLASSES = DataConfig().classes
Figures = dict[str, Any]


def draw(folder: Path, images: int) -> None:
    """Write so many phantoms: the first 7,000 as they are drawn, then these bent."""
    from brain_ray.data.phantoms import files as phantom

    base = folder / str(BASE)
    if not base.exists():
        per_class = BASE // len(CLASSES)
        phantoms = PhantomConfig(train_per_class=per_class * 4 // 5, test_per_class=per_class // 5)
        phantom.write_tree(base, phantoms, CLASSES, seed=1)
    if images <= BASE:
        return
    # Not forked: OpenCV, whose threads drew the first images here, would wait for them for ever in a copy.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(partial(write_bent, base, folder / str(images), images), range(0, images, BASE)))


def write_bent(base: Path, target: Path, images: int, start: int) -> None:
    """Write up to 7,000 of so many bent images, from the number `start` on."""
    cv2.setNumThreads(1)  # there is a process for each core
    files = image_files(base)
    for number in range(start, min(start + BASE, images)):
        file = files[number % len(files)]
        name = target / file.relative_to(base).with_name(f"{file.stem}-{number // len(files):03d}.jpg")
        name.parent.mkdir(parents=True, exist_ok=True)
        bent = bend(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), np.random.default_rng([number, 7]))
        cv2.imwrite(str(name), bent, [cv2.IMWRITE_JPEG_QUALITY, 92])


BENT = 0.02
"""Deviation of the shifts at 25 points of an image by which it is bent, as a share of its width."""


def bend(image: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Turn and scale a grey image at random, and bend it smoothly."""
    height, width = image.shape
    (xx, xy, x0), (yx, yy, y0) = cv2.getRotationMatrix2D(
        (width / 2, height / 2), rng.uniform(-180, 180), rng.uniform(0.8, 1.1)
    ).astype(np.float32)
    shifts = rng.normal(0, BENT * width, (5, 5, 2)).astype(np.float32)
    places = cv2.resize(shifts, (width, height), interpolation=cv2.INTER_CUBIC)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    places[..., 0] += xx * x + xy * y + x0
    places[..., 1] += yx * x + yy * y + y0
    return cv2.remap(image, places, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]


def _rest() -> None:
    time.sleep(2)  # long enough for Ray to start a worker for each


def connect(nodes: int, cpus: int) -> Any:
    """Start a cluster of several nodes on this machine, and let every CPU's worker start."""
    import ray
    from ray.cluster_utils import Cluster

    from brain_ray.cluster import connection

    # Whoever starts Ray on this machine later would find the address there, and look for this cluster.
    ray._private.utils.write_ray_address = lambda *_: None
    # A node's object store is as large as `ray start` makes it, with its share of this machine's memory; that
    # of `Cluster` itself has 150 MB and would spill most blocks to the disk.
    store = int(0.3 * psutil.virtual_memory().total / nodes)
    node = {"num_cpus": cpus // nodes, "object_store_memory": store}
    started = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(nodes - 1):
        started.add_node(**node)
    ray.init(
        address=started.address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": connection.WORKER_ENV},
    )
    connection.quiet()
    rest = ray.remote(num_cpus=1)(_rest)
    ray.get([rest.remote() for _ in range(cpus)])
    return started


def _peak_mb() -> float:
    """Return the most memory that this program has held; `getrusage` would count that of its parent too."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) / 1024


def prepare(folder: Path, images: int, nodes: int, cpus: int) -> Figures:
    """Prepare so many images; return the seconds of each step, of what a run does that finds all files with
    new times, and the driver's memory."""
    from brain_ray.data.identity import list_images
    from brain_ray.data.prepare import prepare as work
    from brain_ray.data.source_changes import compare_files
    from brain_ray.runs import Run

    connect(nodes, cpus)
    run = Run(str(folder / f"runs-{images}-{nodes}"), "run")
    run.clear("dataset")
    started = time.perf_counter()
    config = Config(data=DataConfig(source=str(folder / str(images))))
    with timed() as seconds:
        work(run, config)
    found = {
        "images": run.read_json("dataset", "audit.json")["files"],
        "nodes": nodes,
        **seconds,
        "all": time.perf_counter() - started,
        "driver_mb": _peak_mb(),
    }
    started = time.perf_counter()
    changed = compare_files(run, list_images(run, config))
    assert not changed, changed
    return {**found, "again": time.perf_counter() - started}


def load(folder: Path, images: int, nodes: int, cpus: int) -> Figures:
    """Decode and augment rows for training, at 224 px, for two epochs; the second one counts."""
    import ray

    from brain_ray.data.parts import Rows, find_parts
    from brain_ray.loading.loader import ImageLoader
    from brain_ray.loading.sampler import held_bytes
    from brain_ray.loading.store import PartStore
    from brain_ray.runs import Run

    connect(nodes, cpus)
    run = Run(str(folder / f"runs-{images}-{nodes}"), "run")
    augment = AugmentConfig(rotation=10, shift=0.05, zoom=0.1, brightness=0.1, contrast=0.1, flip=0.5)
    config = Config(
        model=ModelConfig(height=224, width=224), train=TrainConfig(augment=augment, batch_size=32)
    )
    parts = find_parts(run, "train")
    counts = [part.num_rows for part in parts]
    store = ray.remote(PartStore).options(num_cpus=0).remote(run, held_bytes(config.train))
    loader = ImageLoader(config, Rows(parts), store)
    rows, started = 0, 0.0
    for epoch in range(2):
        rows, started = 0, time.perf_counter()
        for batch in loader.batches(epoch):
            rows += len(batch.inputs)
    seconds = time.perf_counter() - started
    size = sum(run.fs.get_file_info(part.path).size for part in parts)
    return {"images": rows, "all": seconds, "kb_per_image": size / sum(counts) / 1024}


LEGS = {"prepare": prepare, "load": load}


def apart(leg: str, *values: Any) -> Figures:
    """Run a leg in a process of its own."""
    return run_leg(__file__, leg, "--leg", leg, *values)


def show(found: Figures) -> None:
    """Print a leg's figures: milliseconds for each image, step by step."""
    each = [1000 * found.get(step, 0.0) / found["images"] for step in (*STEPS.values(), "all", "again")]
    print(
        f"{found['images']:>8}{found['nodes']:>6}"
        + "".join(f"{value:>9.2f}" for value in each)
        + f"{found['all']:>9.0f}{found['driver_mb']:>11.0f}",
        flush=True,
    )


def main(sizes: list[int], nodes: list[int], cpus: int, folder: Path) -> None:
    """Measure, print tables and, last, the ratios as JSON."""
    titles = "".join(f"{step:>9}" for step in (*STEPS.values(), "all", "again"))
    print(f"{'':14}{'ms for each image':>{len(titles)}}")
    print(f"{'images':>8}{'nodes':>6}{titles}{'seconds':>9}{'driver MB':>11}")
    grown, spread = [], []
    for images in sizes:
        draw(folder, images)
        grown.append(apart("prepare", folder, images, 1, cpus))
        show(grown[-1])
    for number in nodes:
        spread.append(apart("prepare", folder, BASE, number, 6))
        show(spread[-1])
    costs = [found["all"] / found["images"] for found in grown]
    ratios = {f"cost_per_image_{sizes[-1]}_over_{sizes[0]}": costs[-1] / costs[0]}
    if spread:
        loaded = apart("load", folder, BASE, 1, 2)
        speed = loaded["images"] / loaded["all"]
        print(f"loading at 224 px: {speed:.0f} images/s, {loaded['kb_per_image']:.1f} KB for each image")
        ratios[f"time_on_{nodes[-1]}_nodes_over_1"] = spread[-1]["all"] / spread[0]["all"]
    print(json.dumps({name: round(value, 2) for name, value in ratios.items()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[BASE, 10 * BASE])
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--cpus", type=int, default=2, help="CPUs of the one node")
    parser.add_argument("--leg", nargs=5)
    given = parser.parse_args()
    if min(given.images) < BASE:
        parser.error(f"--images {min(given.images)}: expected {BASE} or more, as many as are drawn at first")
    if given.leg:
        name, where, *numbers = given.leg
        print(json.dumps(LEGS[name](Path(where), *map(int, numbers))), flush=True)
        import ray

        ray.shutdown()  # before the cluster's nodes end, which would look like their loss
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(given.images, given.nodes, given.cpus, Path(temporary))
