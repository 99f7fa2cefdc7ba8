"""Preparation against the plain way: a loop in one process that reads, crops, resizes and writes JPEG files.

Draws 20,000 phantoms, then prepares 5,000 and 20,000 of them, each in a process of its own, and runs the
plain loop over the 20,000. Preparation does more (hashes, the audit for copies, splits, Parquet); its clock
starts when Ray is up, that is, after a first, empty job of Ray Data on every CPU. The two take turns, twice,
and the faster time of each counts, since machines are not equally fast in every minute. About four minutes
on two cores.

    python benchmarks/prepare.py
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import imutils
from folders import image_files
from steps import STEPS, timed

from brain_ray.config import Config, DataConfig, PhantomConfig

CLASSES = DataConfig().classes
TRAIN, TEST = 4000, 1000
"""Images per class in the two folders."""


def plain_loop(source: Path, target: Path) -> float:
    """Crop as the notebooks did, one file after the other; return images per second."""
    files = image_files(source)
    started = time.perf_counter()
    for path in files:
        image = cv2.imread(str(path))
        grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (3, 3), 0)
        mask = cv2.threshold(grey, 45, 255, cv2.THRESH_BINARY)[1]
        mask = cv2.dilate(cv2.erode(mask, None, iterations=2), None, iterations=2)
        found = imutils.grab_contours(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE))
        if found:
            points = max(found, key=cv2.contourArea)[:, 0]
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            image = image[top : bottom + 1, left : right + 1]
        written = target / path.relative_to(source).with_suffix(".jpg")
        written.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(written), cv2.resize(image, (256, 256)))
    return len(files) / (time.perf_counter() - started)


def _idle(batch: dict[str, Any]) -> dict[str, Any]:
    time.sleep(2)  # long enough for Ray to start a worker for the next block
    return batch


def prepare_here(source: Path, storage: Path) -> dict[str, float]:
    """Prepare a folder in this process.

    Return images per second, the process's peak memory in MB, and each step's milliseconds for an image.
    """
    import ray.data

    from brain_ray.cluster import capacity, connection
    from brain_ray.data import prepare
    from brain_ray.runs import Run

    config = Config(data=DataConfig(source=str(source)))
    run = Run(str(storage), f"{source.name}")
    connection.connect()
    cpus = capacity.cpus()
    ray.data.range(cpus, override_num_blocks=cpus).map_batches(_idle).materialize()
    started = time.perf_counter()
    with timed() as steps:
        print(prepare.prepare(run, config), file=sys.stderr)
    seconds = time.perf_counter() - started
    files = run.read_json("dataset", "audit.json")["files"]
    return {
        "images_per_second": files / seconds,
        "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **{step: 1000 * seconds / files for step, seconds in steps.items()},
    }


def prepare_apart(source: Path, storage: Path) -> dict[str, float]:
    """Call `prepare_here` in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, str(source), str(storage)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def subset(source: Path, target: Path, share: float) -> Path:
    """Link a share of every class's files into another tree."""
    for folder in source.glob("*/*"):
        files = sorted(folder.iterdir())
        (target / folder.relative_to(source)).mkdir(parents=True)
        for path in files[: round(share * len(files))]:
            os.link(path, target / path.relative_to(source))
    return target


def _figures(found: dict[str, float]) -> str:
    steps = "".join(f"{found[step]:>9.2f}" for step in STEPS.values())
    return f"{found['images_per_second']:>10.0f}{found['driver_mb']:>11.0f}{steps}"


def main() -> None:
    """Draw, measure, print a table and, last, the ratios as JSON."""
    from brain_ray.data.phantoms import files as phantom

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        phantoms = PhantomConfig(train_per_class=TRAIN, test_per_class=TEST)
        phantom.write_tree(root / "all", phantoms, CLASSES, seed=1)
        few = prepare_apart(subset(root / "all", root / "few", 0.25), root / "runs")
        manys, plains = [], []
        for turn in ("first", "second"):
            plains.append(plain_loop(root / "all", root / f"plain-{turn}"))
            manys.append(prepare_apart(root / "all", root / f"runs-{turn}"))
    plain = max(plains)
    many = max(manys, key=lambda found: found["images_per_second"])
    titles = "".join(f"{step:>9}" for step in STEPS.values())
    print(f"{'':53}{'ms for each image':>{len(titles)}}")
    print(f"{'':32}{'images/s':>10}{'driver MB':>11}{titles}")
    for turn, (slow, fast) in enumerate(zip(plains, manys, strict=True), start=1):
        print(f"{f'plain loop, 20,000, turn {turn}':32}{slow:>10.0f}")
        print(f"{f'prepare, 20,000, turn {turn}':32}{_figures(fast)}")
    print(f"{'prepare, 5,000':32}{_figures(few)}")
    ratios = {
        "vs_plain_loop": round(many["images_per_second"] / plain, 2),
        "driver_growth_mb": round(many["driver_mb"] - few["driver_mb"], 1),
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(prepare_here(Path(sys.argv[1]), Path(sys.argv[2]))))
    else:
        main()
