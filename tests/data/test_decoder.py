"""Images are decoded in processes of their own: what one does to its process costs no other an answer."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from support import decoder_deaths

from brain_ray.config import CropConfig
from brain_ray.data import decoding, transforms
from brain_ray.data.copies.head_view import find_outline, view_twice
from brain_ray.data.decoder import Decoder
from brain_ray.data.decoder_messages import Facts, Look
from brain_ray.data.decoding import ImageError
from brain_ray.data.formats import FORMATS
from brain_ray.data.phantoms.files import draw
from brain_ray.data.shortcuts.views import view_pixels
from brain_ray.data.transforms import Box
from brain_ray.input_spec import InputSpec

CROP, SPEC = CropConfig(), InputSpec(64, 48)
MAX_PIXELS = 4_000_000


def phantom(index: int, scale: int = 1) -> NDArray[np.uint8]:
    drawn = draw("glioma", 5, index)
    grey = drawn if drawn.ndim == 2 else np.ascontiguousarray(drawn[..., 0])
    return cv2.resize(grey, None, fx=scale, fy=scale)


def png(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


IMAGE = png(phantom(0))


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(cpu_s=1) as made:
        yield made


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Tell whether a process has ended, waited for or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def facts_of(decoder: Decoder, look: Look, *arguments: object) -> Facts:
    """Have a worker do something in place of looking at an image."""
    (found,) = decoder.ask([IMAGE], MAX_PIXELS, look, *arguments)
    if isinstance(found, ImageError):
        raise found
    return found[0]


def worker_of(decoder: Decoder) -> int:
    """Return the process id of a worker."""
    return int(facts_of(decoder, decoder_deaths.pid)["pid"])


def forkers() -> list[int]:
    """Return the process ids of those processes of this one that fork workers and have not ended."""
    alive = [child for child in psutil.Process().children() if not gone(child.pid)]
    return [child.pid for child in alive if "fork_workers" in " ".join(child.cmdline())]


def test_what_it_returns_is_what_this_process_would_compute(decoder: Decoder) -> None:
    for image, side in (
        (phantom(1), 0),
        (phantom(2), 512),
        (phantom(3, 4), 100),
        (np.zeros((99, 40), np.uint8), 20),
    ):
        fed, box, has_box = transforms.prepare_image(image, CROP, SPEC)
        found = decoder.prepare(png(image), MAX_PIXELS, CROP, SPEC, side)
        assert np.array_equal(found.input, fed)
        assert (found.box, found.has_box) == (box, has_box)
        assert (found.height, found.width) == image.shape
        if side:
            assert found.crop is not None
            assert np.array_equal(found.crop, transforms.shrink(box.crop(image), side))
            assert max(found.crop.shape) <= side
        else:
            assert found.crop is None
        (told,) = decoder.audit([png(image)], MAX_PIXELS, CROP)
        assert not isinstance(told, ImageError)
        facts, (views, thumbnail, around) = told
        assert Box(*(facts[name] for name in ("top", "bottom", "left", "right"))) == box
        assert (facts["height"], facts["width"], facts["has_box"]) == (*image.shape, has_box)
        assert facts["pixel_sha256"] == decoding.pixel_hash(image)
        assert np.array_equal(thumbnail, transforms.thumbnail(image))
        expected, heads = view_twice(image, box)
        assert np.array_equal(views, expected)
        shown = view_pixels(image, find_outline(image)[0])
        assert np.array_equal(around.view(np.float32), shown, equal_nan=True)
        assert facts["heads"] == heads


def test_the_settings_of_the_crop_and_the_formats_are_kept() -> None:
    crop = CropConfig(threshold=200, min_share=0, iterations=0)
    image = phantom(4)
    with Decoder([FORMATS["JPEG"]]) as jpegs:
        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        fed, box, _ = transforms.prepare_image(decoding.decode(jpeg), crop, SPEC)
        found = jpegs.prepare(jpeg, MAX_PIXELS, crop, SPEC)
        assert found.box == box != transforms.prepare_image(decoding.decode(jpeg), CROP, SPEC)[1]
        assert np.array_equal(found.input, fed)
        with pytest.raises(ImageError, match="expected one of JPEG") as caught:
            jpegs.prepare(png(image), MAX_PIXELS, crop, SPEC)
        assert caught.value.code == "not_an_image"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_an_image"),
        (b"a text", "not_an_image"),
        (IMAGE[:-40], "undecodable"),
        (png(np.zeros((2001, 2000), np.uint8)), "too_many_pixels"),
        (png(np.zeros((15, 40), np.uint8)), "too_small"),
    ],
)
def test_an_image_that_cannot_be_used_says_why_and_keeps_its_worker(
    decoder: Decoder, data: bytes, code: str
) -> None:
    with pytest.raises(ImageError) as expected:
        decoding.decode(data, MAX_PIXELS)
    before = worker_of(decoder)
    with pytest.raises(ImageError) as caught:
        decoder.prepare(data, MAX_PIXELS, CROP, SPEC)
    assert (str(caught.value), caught.value.code) == (str(expected.value), code)
    assert worker_of(decoder) == before


@pytest.mark.parametrize("death", [decoder_deaths.crash, decoder_deaths.hang])
def test_an_image_that_ends_its_worker_is_refused_and_the_next_one_is_not(
    decoder: Decoder, death: Look
) -> None:
    worker, before = worker_of(decoder), forkers()
    with pytest.raises(ImageError, match="the decoder ended: it crashed, or took more than 1 s") as caught:
        facts_of(decoder, death)
    assert caught.value.code == "undecodable"
    assert decoder.prepare(IMAGE, MAX_PIXELS, CROP, SPEC).width == phantom(0).shape[1]
    assert worker_of(decoder) != worker
    assert forkers() == before


def test_of_several_images_each_has_its_own_answer(decoder: Decoder) -> None:
    poison = png(np.full((16, 16), decoder_deaths.POISON, np.uint8))
    files = [IMAGE, b"a text", poison, png(phantom(1)), poison, poison, png(phantom(2)), b""]
    found = decoder.ask(files, MAX_PIXELS, decoder_deaths.crash_on_poison)
    reasons = [str(one) if isinstance(one, ImageError) else one[0]["height"] for one in found]
    ended = "the decoder ended: it crashed, or took more than 1 s"
    heights = [phantom(index).shape[0] for index in range(3)]
    assert reasons == [heights[0], "not an image", ended, heights[1], ended, ended, heights[2], "empty file"]
    assert decoder.audit([], MAX_PIXELS, CROP) == []


def test_a_worker_has_so_much_memory_and_no_more(decoder: Decoder) -> None:
    assert facts_of(decoder, decoder_deaths.hoard, 16 * MAX_PIXELS) == {"bytes": 16 * MAX_PIXELS}
    before = worker_of(decoder)
    with pytest.raises(ImageError, match="too costly: to decode it takes more than 131 MB") as caught:
        facts_of(decoder, decoder_deaths.hoard, 200_000_000)
    assert caught.value.code == "undecodable"
    assert worker_of(decoder) == before, "it goes on"


def test_the_largest_image_has_room_also_behind_others() -> None:
    noise = np.random.default_rng(0).integers(0, 2**16, (2000, 2000, 4), np.uint16)
    files = [cv2.imencode(suffix, noise)[1].tobytes() for suffix in (".png", ".tiff")]
    with Decoder() as decoder:
        before = worker_of(decoder)
        for data in files * 3:
            assert decoder.prepare(data, MAX_PIXELS, CROP, SPEC).width == 2000
        found = decoder.ask(files * 2, MAX_PIXELS, decoder_deaths.hoard, 20_000_000)
        assert [one[0]["bytes"] for one in found if not isinstance(one, ImageError)] == [20_000_000] * 4
        assert worker_of(decoder) == before, "no worker ended"


def test_a_fault_of_ours_is_no_fault_of_the_image(decoder: Decoder) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'a fault of ours'"):
        facts_of(decoder, decoder_deaths.fail)


def test_threads_have_workers_of_their_own_and_lose_none_but_their_own(decoder: Decoder) -> None:
    def ask(number: int) -> str:
        try:
            if number % 5 == 3:
                facts_of(decoder, decoder_deaths.crash)
            return (
                "done"
                if decoder.prepare(png(phantom(number % 7)), MAX_PIXELS, CROP, SPEC).has_box
                else "no box"
            )
        except ImageError:
            return "ended"

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, range(60)))
    assert found == ["ended" if number % 5 == 3 else "done" for number in range(60)]
    barrier = threading.Barrier(3)

    def meet(_: int) -> int:
        barrier.wait()
        return int(facts_of(decoder, decoder_deaths.hoard, 20_000_000)["bytes"])

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(meet, range(3))) == [20_000_000] * 3
    forker = psutil.Process(int(facts_of(decoder, decoder_deaths.pid)["parent"]))
    wait_for(lambda: sum(not gone(worker.pid) for worker in forker.children()) <= 4, 30)


@pytest.mark.parametrize("victims", ["worker", "forker", "both"])
def test_processes_that_end_while_they_rest_cost_no_image(decoder: Decoder, victims: str) -> None:
    for name, pids in (("worker", [worker_of(decoder)]), ("forker", forkers())):
        for pid in pids if victims in (name, "both") else ():
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: gone(pid))
    assert decoder.prepare(IMAGE, MAX_PIXELS, CROP, SPEC).has_box
    assert decoder.prepare(IMAGE, MAX_PIXELS, CROP, SPEC).has_box


def test_a_closed_decoder_says_so() -> None:
    closed = Decoder()
    closed.close()
    with pytest.raises(RuntimeError, match="the decoder is closed"):
        closed.prepare(IMAGE, MAX_PIXELS, CROP, SPEC)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker has its nice value alone")
def test_what_may_take_long_is_computed_behind_what_may_not() -> None:
    with Decoder(behind=True) as decoder:
        look = decoder_deaths.rank
        found = [
            decoder.ask([IMAGE], MAX_PIXELS, look, cpu_s=limit)[0][0]  # type: ignore[index]
            for limit in (None, 1.0, None, 1.0)
        ]
    long, short, *again = found
    assert again == [long, short], "each kind has workers of its own"
    assert long["nice"] == min(19, short["nice"] + 10)
    assert (long["own"], short["own"]) == (True, False)
    if "autogroup" in long["group"]:
        assert long["group"].endswith("nice 10\n")
        assert short["group"].endswith("nice 0\n")


def test_all_is_computed_alike_where_nothing_else_is_asked(decoder: Decoder) -> None:
    assert facts_of(decoder, decoder_deaths.rank)["nice"] == os.nice(0)


HOLD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
behind = sys.argv.pop(1) == "behind"
sys.path[:0] = sys.argv[1:]
from support import decoder_deaths
from brain_ray.data.decoder import Decoder
decoder = Decoder(cpu_s=600, behind=behind)
image = sys.stdin.buffer.read()
decoder.ask([image], 4_000_000, decoder_deaths.chatter)
((facts, _),) = decoder.ask([image], 4_000_000, decoder_deaths.pid)
print(*facts.values(), flush=True)
decoder.ask([image], 4_000_000, decoder_deaths.hang)
"""


@pytest.mark.parametrize("rank", ["behind", "alike"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_remains_and_nothing_is_written(end: signal.Signals, rank: str) -> None:
    # Also the process that asks has no home folder to write to, and a worker is busy when it ends.
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, rank, *sys.path],
        env={**os.environ, "HOME": "/nowhere"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    holder.stdin.write(IMAGE)
    holder.stdin.close()
    pids = [int(word) for word in holder.stdout.readline().split()]
    assert len(pids) == 2
    os.killpg(holder.pid, end)
    holder.wait(30)
    errors = holder.stderr.read().decode()
    assert "a line" not in errors
    assert "KeyboardInterrupt" in errors if end == signal.SIGINT else not errors
    wait_for(lambda: all(gone(pid) for pid in pids), 30)
