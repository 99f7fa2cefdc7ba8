"""Decoder of images in processes of its own: a file that crashes one costs only its own result.

A `Decoder` starts a process that imports OpenCV and forks a worker for each thread that asks. A worker has
limits on memory and time. If it ends, its image is refused, and the next image gets a new worker. All end
with the process that asks. This isolates the faults of decoders; it is no sandbox against code in them.
"""

import json
import math
import os
import pickle
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.data import decoder_process
from brain_ray.data.decoder_process import WALL_S, Arrays, Facts, Look, receive, receive_body, send
from brain_ray.data.decoding import CheckedFile, ImageError
from brain_ray.data.formats import FORMATS, Format
from brain_ray.data.transforms import Box
from brain_ray.input_spec import InputSpec

if TYPE_CHECKING:
    from brain_ray.config import CropConfig

CPU_S = 10
"""Seconds of CPU for one image; the costliest image found took two."""

_SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_LOG_LEVEL": "FATAL",
    "MALLOC_MMAP_THRESHOLD_": str(2**22),  # larger blocks go back to the system as soon as they are freed
    "MALLOC_TRIM_THRESHOLD_": str(2**25),  # smaller ones are kept: getting them anew takes 0.3 ms an image
}


@dataclass(frozen=True)
class FittedImage:
    """A network input made of an image, and facts about the image for an answer."""

    input: NDArray[np.uint8]
    """(height, width, 1)."""
    crop: Grey | None
    """(height, width) uint8, the content of the box, shrunk for display; None unless it was asked for."""
    box: Box
    has_box: bool
    width: int
    height: int


class Decoder:
    """Pool of workers that decode images, one for each concurrent thread."""

    def __init__(self, formats: Sequence[Format] | None = None, cpu_s: float = CPU_S) -> None:
        """Starts the process that forks workers; it is ready some tenths of a second later.

        `formats` are accepted (None: all known ones); an image may take `cpu_s` seconds of CPU.
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
        """Waits until a worker is ready.

        Raises:
            OSError, EOFError: the process that forks workers does not start.
        """
        self._idle.append(self._take())

    def close(self) -> None:
        """Ends the processes; images that are being decoded are refused."""
        self._closed = True
        self._control.close()
        while self._idle:
            self._idle.pop().close()
        self._process.wait()

    def check(self, images: Sequence[bytes], max_pixels: int) -> list[CheckedFile | ImageError]:
        """Checks images' structure, format and size; the files it returns are decoded without another check.

        Args:
            images: the encoded files.
            max_pixels: largest number of pixels that an image's structure may need; it also bounds a worker's
                memory.

        Returns:
            For each image, in order, the checked file or the error.
        """
        rows = {row.name: row for row in (FORMATS.values() if self._formats is None else self._formats)}
        checked: list[CheckedFile | ImageError] = []
        for found in self.ask(images, max_pixels, None):
            if isinstance(found, ImageError):
                checked.append(found)
                continue
            facts, (data,) = found
            row = rows.get(facts["format"])
            checked.append(CheckedFile(data.tobytes(), row, facts["width"], facts["height"]))
        return checked

    def prepare(
        self, data: bytes | CheckedFile, max_pixels: int, crop: "CropConfig", spec: InputSpec, side: int = 0
    ) -> FittedImage:
        """Decodes an image, finds the head, and fits it to a network's input.

        Args:
            data: the encoded file, or the result of `check` for it.
            max_pixels: largest number of pixels of an image; it also bounds a worker's memory.
            crop: settings of the head's detection.
            spec: the network's input.
            side: longest side of the crop for display, in pixels; 0: no such crop.

        Raises:
            ImageError: the image cannot be used, or the worker ended on it.
        """
        (found,) = self.ask([data], max_pixels, decoder_process.prepare, crop.model_dump(), spec, side)
        if isinstance(found, ImageError):
            raise found
        facts, arrays = found
        box = Box(*facts.pop("box"))
        return FittedImage(input=arrays[0], crop=arrays[1] if side else None, box=box, **facts)

    def audit(
        self, images: Sequence[bytes], max_pixels: int, crop: "CropConfig"
    ) -> list[tuple[Facts, Sequence[Grey]] | ImageError]:
        """Decodes images; returns the facts of each, by their names in a scan, and its views, or its error.

        Batches of 16 took 20 to 40 % more CPU than decoding in this process, single images 60 % more.
        """
        return self.ask(images, max_pixels, decoder_process.audit, crop.model_dump())

    def ask(
        self, images: Sequence[bytes | CheckedFile], max_pixels: int, look: Look | None, *arguments: object
    ) -> list[tuple[Facts, Arrays] | ImageError]:
        """Sends images to a worker; returns, for each, the results of `look`, or its error. Without `look`,
        only checks."""
        found: list[tuple[Facts, Arrays] | ImageError] = []
        while len(found) < len(images):
            worker = self._take()
            request = images[len(found) :], (max_pixels, self._formats, self._cpu_s), look, arguments
            try:
                send(worker, pickle.dumps(request))
                while len(found) < len(images):
                    found.append(_receive_found(worker))
            except (OSError, EOFError, ValueError):  # ValueError: the answer is no JSON
                worker.close()
                reason = f"the decoder ended: it crashed, or took more than {self._cpu_s:g} s"
                found.append(ImageError(reason))
            else:
                self._idle.append(worker)
        return found

    def _take(self) -> socket.socket:
        """Returns an idle worker."""
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
        """Forks a worker; returns the socket to it.

        Raises:
            OSError, EOFError: the process that forks has ended.
        """
        mine, its = socket.socketpair()
        mine.settimeout(2 * WALL_S)
        with its:
            socket.send_fds(self._control, [b"f"], [its.fileno()])
        receive(mine, 1)
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
                [sys.executable, "-P", "-c", _FORK.format(its.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal does not reach it
            )


_FORK = f"from {decoder_process.__name__} import fork_workers as f; f({{}})"
"""Code of the process that forks workers."""


def _lives(worker: socket.socket) -> bool:
    """Returns whether an idle worker is alive; if it has ended, its socket is readable."""
    poll = select.poll()
    poll.register(worker, select.POLLIN)
    return not poll.poll(0)


def _receive_found(worker: socket.socket) -> tuple[Facts, Arrays] | ImageError:
    """Returns a worker's results for its next image, or the image's error.

    Raises:
        RuntimeError: an error that no image should cause.
    """
    facts = json.loads(receive_body(worker))
    if "trace" in facts:
        worker.close()
        raise RuntimeError(f"the decoder failed: {facts['trace']}")
    if "reason" in facts:
        return ImageError(facts["reason"], facts["code"])
    shapes = facts.pop("shapes")
    parts = [np.frombuffer(receive(worker, math.prod(shape)), np.uint8).reshape(shape) for shape in shapes]
    return facts, parts
