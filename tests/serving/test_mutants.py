"""Hostile files against the decoder: an image or a reason, in bounded time and memory, whatever comes."""

import json
import subprocess
import sys
from collections import Counter

import numpy as np
from support.hostile_images import all_costly, mutants, originals
from support.jobs import ROOT

from brain_ray.data.decoding import decode

COUNT = 2_000

DECODE_ALL = """
import json, sys, threading, time
import numpy as np, psutil
import zlib, gdcm, h5py, nibabel, pydicom.pixels  # no file's memory; for zlib see file_checks.dicom
from support.hostile_images import all_costly, mutants
from brain_ray.config import CropConfig
from brain_ray.data.decoding import ImageError, decode
from brain_ray.data.transforms import Box, find_box, to_input
from brain_ray.input_spec import InputSpec

crop, spec, process = CropConfig(), InputSpec(224, 224), psutil.Process()
files = [*all_costly(), *mutants(int(sys.argv[1]), seed=1)]
before = peak = process.memory_info().rss
done = threading.Event()

def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, process.memory_info().rss)

threading.Thread(target=watch, daemon=True).start()
found, slowest = [], (0.0, "")
for name, data in files:
    start = time.thread_time()
    try:
        image = decode(data)
        sound = image.dtype == np.uint8 and image.ndim == 2 and 16 <= min(image.shape)
        sound = sound and image.size <= 40_000_000
        fed = to_input(image, find_box(image, crop) or Box.whole(image), spec)
        sound = sound and fed.shape == (224, 224, 1)
        found.append("image" if sound else f"{name}: {image.dtype} {image.shape}")
    except ImageError as error:
        found.append(error.code if str(error) else f"{name}: no reason")
    except Exception as error:
        found.append(f"{name}: {error!r}")
    slowest = max(slowest, (time.thread_time() - start, name))
done.set()
print(json.dumps({"found": found, "slowest": slowest, "grown": peak - before}))
"""


HUNT = """
import json
from support.image_fuzzer import hunt, make
found = hunt(seed=1, count=4_000)
print(json.dumps({"endings": found.endings, "faults": found.faults}))
assert make(1, 5) == make(1, 5) != make(2, 5) and make(1, 6) != make(1, 5)
"""


def test_a_seed_fixes_the_mutants_and_no_two_seeds_agree() -> None:
    first, again, other = (list(mutants(200, seed)) for seed in (1, 1, 2))
    assert first == again
    assert sum(one == two for one, two in zip(first, other, strict=True)) < 40


def test_what_they_are_made_of_can_be_decoded() -> None:
    for name, data in originals():
        image = decode(data)
        assert (image.dtype, image.ndim) == (np.uint8, 2), name
        assert image.std() > 10, name


def test_every_mutant_gives_an_image_or_a_reason_within_bounds() -> None:
    # In a process of its own: a decoder that crashes takes its process along.
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", DECODE_ALL, str(COUNT)],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    counts = Counter(told["found"])
    kinds = {"image", "not_an_image", "undecodable", "too_small", "too_many_pixels", "several_images"}
    assert set(counts) == kinds
    assert counts.total() == COUNT + len(all_costly())
    assert min(counts.values()) > COUNT / 50, "all ways out are taken"
    seconds, name = told["slowest"]
    assert seconds < 3, name
    assert told["grown"] < 500e6, "40 million pixels of 8 bytes, and what a decoder needs beside them"


def test_files_put_together_from_changed_parts_crash_nothing() -> None:
    # A short form of `python -m support.image_fuzzer --seconds 600`; six of these cases crash OpenCV itself.
    done = subprocess.run(
        [sys.executable, "-c", HUNT],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["faults"] == []
    assert sum(told["endings"].values()) == 4_000
    assert told["endings"]["image"] > 500
