"""Hostile DICOM, NIfTI and MATLAB files: images or a reason, in bounded time and memory, whatever comes."""

import threading
from collections import Counter
from contextlib import suppress

import psutil
import pytest
from support.hostile_volumes import mutants, originals

from brain_ray.config import CropConfig
from brain_ray.data.decoder import Decoder, Description, FittedImage
from brain_ray.data.decoder_messages import Frames, Item
from brain_ray.data.decoding import ImageError
from brain_ray.input_spec import InputSpec

COUNT = 200

MAX_PIXELS = 4_000_000

CPU_S = 3


@pytest.mark.parametrize("form", ["DICOM", "NIFTI", "MAT"])
def test_what_they_are_made_of_can_be_read(form: str) -> None:
    with Decoder() as decoder:
        found = decoder.describe(originals(form), MAX_PIXELS, 45, 0.05)
    assert all(isinstance(one, Description) and one.format == form for one in found)


@pytest.mark.parametrize("form", ["DICOM", "NIFTI", "MAT"])
def test_every_mutant_gives_images_or_a_reason_within_bounds(form: str) -> None:
    own, peak, done = psutil.Process(), 0, threading.Event()
    earlier = {child.pid for child in own.children(recursive=True)}

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            for worker in own.children(recursive=True):
                if worker.pid in earlier:
                    continue
                with suppress(psutil.NoSuchProcess):
                    peak = max(peak, worker.memory_info().rss)

    endings: Counter[str] = Counter()
    before = own.memory_info().rss
    watching = threading.Thread(target=watch, daemon=True)
    with Decoder(cpu_s=CPU_S) as decoder:
        decoder.wait()  # a process that starts has, for a moment, the memory of the one that starts it
        watching.start()
        for name, data in mutants(form, COUNT, seed=1):
            endings[ending(decoder, name, data)] += 1
    done.set()
    watching.join()
    reasons = {"not_an_image", "undecodable", "too_small", "too_many_pixels", "several_images", "ended"}
    assert set(endings) <= {"images", *reasons}
    assert endings.total() == COUNT
    assert endings["images"] > COUNT / 20
    assert endings["undecodable"] > COUNT / 20
    assert endings["ended"] <= 3, "few reach the limit on CPU"
    assert peak < 450e6
    assert own.memory_info().rss - before < 100e6


def ending(decoder: Decoder, name: str, data: bytes) -> str:
    """Have a file described and its first images prepared; returns "images" or the kind of reason."""
    (described,) = decoder.describe([data], MAX_PIXELS, 45, 0.05)
    if isinstance(described, ImageError):
        return kind_of(described, name)
    several = len(described.positions) > 1
    item: Item = Frames(data, tuple(range(min(3, len(described.positions))))) if several else data
    images = decoder.prepare_all(item, MAX_PIXELS, CropConfig(), InputSpec(32, 32))
    assert len(images) == min(3, len(described.positions)), name
    for image in images:
        if isinstance(image, ImageError):
            return kind_of(image, name)
        assert isinstance(image, FittedImage)
        assert image.input.shape == (32, 32, 1)
    return "images"


def kind_of(error: ImageError, name: str) -> str:
    """Return the kind of a reason; `ended` if the worker did not survive the file."""
    assert str(error), name
    return "ended" if str(error).startswith("the decoder ended") else error.code
