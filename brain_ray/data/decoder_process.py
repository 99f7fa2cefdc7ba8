"""Decodes images in processes of its own: a file that ends or fills one costs its own answer and no other.

A `Decoder` starts one process, which imports OpenCV once and then forks a worker for each thread that asks. A
worker has limits on memory and time and decodes one image after another. Where it ends, the image is refused,
and the next one gets a new worker, forked in milliseconds. All end with the process that asks, since then a
socket closes. This keeps the faults of decoders apart; it is no sandbox against code that runs in them.
"""

import gc
import json
import math
import os
import pickle
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.data.decoding import ImageError, decode, pixel_hash
from brain_ray.data.transforms import Box, InputSpec, find_box, prepare_image, shrink, thumbnail

if TYPE_CHECKING:
    from brain_ray.config import CropConfig

CPU_S = 10
"""Seconds of CPU for one image; the costliest found take two."""

WALL_S = 60
"""Seconds for one image on a machine that is busy with other things."""

BYTES_PER_PIXEL = 16
"""Memory of a worker for each pixel of the largest image allowed; the costliest found take ten."""

SPARE_BYTES = 2**26
"""Memory of a worker beside that, and beside what it has when it starts."""

_SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_LOG_LEVEL": "FATAL",
    "MALLOC_MMAP_THRESHOLD_": str(2**22),  # larger blocks go back to the system as soon as they are freed
    "MALLOC_TRIM_THRESHOLD_": str(2**25),  # smaller ones are kept: to get them anew takes 0.3 ms an image
}

Facts = dict[str, Any]
"""What JSON can hold."""

Arrays = Sequence[NDArray[np.uint8]]

Look = Callable[..., tuple[Facts, Arrays]]
"""What a worker makes of a decoded image, its first argument: a function of this module."""


@dataclass(frozen=True)
class Prepared:
    """An image as a network is fed it, and what an answer tells of it."""

    input: NDArray[np.uint8]
    """(height, width, 1)."""
    crop: Grey | None
    """What the box holds, shrunk to be shown; None unless it was asked for."""
    box: Box
    has_box: bool
    width: int
    height: int


class Decoder:
    """Workers that decode, one for each thread that asks at a time."""

    def __init__(self, formats: tuple[str, ...] | None = None, cpu_s: float = CPU_S) -> None:
        """Start the process that forks workers; it is ready some tenths of a second later.

        Args:
            formats: that are taken, by Pillow's names; None: all that are known.
            cpu_s: seconds of CPU for one image.
        """
        self._formats = formats
        self._cpu_s = cpu_s
        self._closed = False
        self._lock = Lock()
        self._idle: list[socket.socket] = []
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self) -> None:
        """Wait until a worker is there.

        Raises:
            OSError, EOFError: the process that forks workers does not start.
        """
        self._idle.append(self._take())

    def close(self) -> None:
        """End the processes; images that are being decoded are refused."""
        self._closed = True
        self._control.close()
        while self._idle:
            self._idle.pop().close()
        self._process.wait()

    def prepare(
        self, data: bytes, max_pixels: int, crop: "CropConfig", spec: InputSpec, side: int = 0
    ) -> Prepared:
        """Decode an image, find the head, and fit it to a network's input.

        Args:
            data: the file.
            max_pixels: of an image; more are refused. A worker's memory is bounded by it as well.
            crop: how the head is found.
            spec: the network's input.
            side: longest side of the crop that is to be shown, in pixels; 0: none is.

        Raises:
            ImageError: the image cannot be used, or the worker ended on it.
        """
        (found,) = self._ask([data], max_pixels, _prepare, crop.model_dump(), spec, side)
        if isinstance(found, ImageError):
            raise found
        facts, arrays = found
        box = Box(*facts.pop("box"))
        return Prepared(input=arrays[0], crop=arrays[1] if side else None, box=box, **facts)

    def audit(
        self, images: Sequence[bytes], max_pixels: int, crop: "CropConfig"
    ) -> list[tuple[Facts, Sequence[Grey]] | ImageError]:
        """Decode images; return the facts of each, by their names in a scan, and its thumbnail, or its error.

        Asking for 16 at a time took 20 to 40 % more CPU than doing it in this process, for one 60 % more.
        """
        return self._ask(images, max_pixels, _audit, crop.model_dump())

    def _ask(
        self, images: Sequence[bytes], max_pixels: int, look: Look, *arguments: object
    ) -> list[tuple[Facts, Arrays] | ImageError]:
        found: list[tuple[Facts, Arrays] | ImageError] = []
        while len(found) < len(images):
            worker = self._take()
            request = images[len(found) :], (max_pixels, self._formats, self._cpu_s), look, arguments
            try:
                _send(worker, pickle.dumps(request))
                while len(found) < len(images):
                    found.append(_receive_found(worker))
            except (OSError, EOFError, ValueError):  # ValueError: what came is no JSON
                worker.close()
                reason = f"the decoder ended: it crashed, or took more than {self._cpu_s:g} s"
                found.append(ImageError(reason))
            else:
                self._idle.append(worker)
        return found

    def _take(self) -> socket.socket:
        """Return a worker that has nothing to do."""
        while self._idle:
            with suppress(IndexError):  # another thread was faster
                worker = self._idle.pop()
                if _lives(worker):
                    return worker
                worker.close()
        control = self._control
        try:
            return self._fork()
        except (OSError, EOFError):
            with self._lock:
                if self._closed:
                    raise RuntimeError("the decoder is closed") from None
                if self._control is control:
                    self._process.kill()
                    self._process.wait()
                    self._start()
        return self._fork()

    def _fork(self) -> socket.socket:
        """Have a worker forked.

        Raises:
            OSError, EOFError: the process that forks has ended.
        """
        mine, its = socket.socketpair()
        mine.settimeout(2 * WALL_S)
        with its:
            socket.send_fds(self._control, [b"f"], [its.fileno()])
        _receive(mine, 1)
        return mine

    def _start(self) -> None:
        self._control, its = socket.socketpair()
        environment = {
            **os.environ,
            **_SETTINGS,
            "PYTHONPATH": os.pathsep.join(entry or os.curdir for entry in sys.path),
        }
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", f"from {__name__} import fork_workers as f; f({its.fileno()})"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal is for the process that asks
            )


def _lives(worker: socket.socket) -> bool:
    """Tell whether a worker that has nothing to do has not ended; if it has, its socket can be read."""
    poll = select.poll()
    poll.register(worker, select.POLLIN)
    return not poll.poll(0)


def _receive(link: socket.socket, length: int) -> bytearray:
    """Return so many bytes.

    Raises:
        EOFError: the other side has ended.
    """
    received = bytearray(length)
    view = memoryview(received)
    while view:
        count = link.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return received


def _send(link: socket.socket, body: bytes) -> None:
    link.sendall(struct.pack("Q", len(body)) + body)


def _receive_body(link: socket.socket) -> bytearray:
    (length,) = struct.unpack("Q", _receive(link, 8))
    return _receive(link, length)


def _receive_found(worker: socket.socket) -> tuple[Facts, Arrays] | ImageError:
    """Return what a worker tells of its next image.

    Raises:
        RuntimeError: an error that no image should cause.
    """
    facts = json.loads(_receive_body(worker))
    if "trace" in facts:
        worker.close()
        raise RuntimeError(f"the decoder failed: {facts['trace']}")
    if "reason" in facts:
        return ImageError(facts["reason"], facts["code"])
    shapes = facts.pop("shapes")
    parts = [np.frombuffer(_receive(worker, math.prod(shape)), np.uint8).reshape(shape) for shape in shapes]
    return facts, parts


# --- in the processes that decode ---------------------------------------------------------------------------


def _prepare(image: Grey, crop: dict[str, Any], spec: InputSpec, side: int) -> tuple[Facts, Arrays]:
    fed, box, has_box = prepare_image(image, _rule(crop), spec)
    facts = {"width": image.shape[1], "height": image.shape[0], "has_box": has_box}
    facts["box"] = (box.top, box.bottom, box.left, box.right)
    return facts, [fed, shrink(box.crop(image), side)] if side else [fed]


def _audit(image: Grey, crop: dict[str, Any]) -> tuple[Facts, Arrays]:
    found = find_box(image, _rule(crop))
    facts = {"width": image.shape[1], "height": image.shape[0], **vars(found or Box.whole(image))}
    return facts | {"has_box": found is not None, "pixel_sha256": pixel_hash(image)}, [thumbnail(image)]


def _rule(crop: dict[str, Any]) -> "CropConfig":
    """Make what `find_box` reads of the settings; to import their class costs 0.2 s and 10 MB."""
    return cast("CropConfig", SimpleNamespace(**crop))


def fork_workers(descriptor: int) -> None:
    """Fork a worker for each socket that comes along a socket, until the process that asks closes it."""
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers
    cv2.setNumThreads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libpng and libjpeg write a line for each damaged file
    gc.freeze()  # so that workers share the memory of what is imported
    while True:
        _, sockets, *_ = socket.recv_fds(control, 1, 1)
        if not sockets:
            os.killpg(0, signal.SIGKILL)  # workers that decode, and this process
        if os.fork() == 0:
            control.close()
            with suppress(OSError, EOFError):  # the process that asks has ended
                _work(socket.socket(fileno=sockets[0]))
            os._exit(0)
        os.close(sockets[0])


def _work(link: socket.socket) -> None:
    """Decode what comes, until the process that asks closes the line."""
    own = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    link.sendall(b"r")
    while True:
        images, limits, look, arguments = pickle.loads(_receive_body(link))
        for data in images:
            facts, arrays = _look(own, data, limits, look, arguments)
            _send(link, json.dumps(facts | {"shapes": [array.shape for array in arrays]}).encode())
            link.sendall(b"".join(map(np.ndarray.tobytes, arrays)))


def _look(
    own: int,
    data: bytes,
    limits: tuple[int, tuple[str, ...] | None, float],
    look: Look,
    arguments: Sequence[Any],
) -> tuple[Facts, Arrays]:
    """Return what is asked for, or why it cannot be had; `own` is the worker's memory beside the image's."""
    max_pixels, formats, cpu_s = limits
    memory = SPARE_BYTES + BYTES_PER_PIXEL * max_pixels
    resource.setrlimit(resource.RLIMIT_DATA, (own + memory, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # either ends the process, whatever it is at
    signal.setitimer(signal.ITIMER_REAL, WALL_S)
    try:
        return look(decode(data, max_pixels, formats), *arguments)
    except ImageError as error:
        return {"reason": str(error), "code": error.code}, ()
    except MemoryError:
        reason = f"too costly: to decode it takes more than {memory / 1e6:.0f} MB"
        return {"reason": reason, "code": "undecodable"}, ()
    except Exception:
        return {"trace": traceback.format_exc()}, ()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
