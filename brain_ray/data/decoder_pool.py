"""Pool of worker processes that decode images: a file that crashes one costs only its own result.

A pool starts a process that imports OpenCV and forks a worker for each thread that asks. A worker has limits
on memory and time. If it ends, its image is refused, and the next image gets a new worker. All end with the
process that asks. This isolates the faults of decoders; it is no sandbox against code in them.
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
from dataclasses import replace
from threading import Lock
from typing import Self

import numpy as np

from brain_ray.data import decoder_process
from brain_ray.data.decoder_messages import (
    Arrays,
    Facts,
    FileLook,
    Frames,
    Item,
    Limits,
    Look,
    receive,
    receive_body,
    send,
)
from brain_ray.data.decoder_process import WALL_S
from brain_ray.data.decoding import EndedError, ImageError
from brain_ray.data.formats import AnyFormat
from brain_ray.input_spec import ReadSpec

CPU_S = 10
"""Seconds of CPU for one image; the costliest image found took two."""

_SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_LOG_LEVEL": "FATAL",
    "MALLOC_MMAP_THRESHOLD_": str(2**22),  # larger blocks go back to the system as soon as they are freed
    "MALLOC_TRIM_THRESHOLD_": str(2**25),  # smaller ones are kept: getting them anew takes 0.3 ms an image
}


class WorkerPool:
    """Workers that look at files, one for each concurrent thread."""

    def __init__(
        self, formats: Sequence[AnyFormat] | None = None, cpu_s: float = CPU_S, behind: bool = False
    ) -> None:
        """Starts the process that forks workers; it is ready some tenths of a second later.

        Args:
            formats: accepted formats; None: all known ones.
            cpu_s: seconds of CPU that opening a file may take, and each of its images as many.
            behind: whether what is asked without fewer seconds is computed behind all other work.
        """
        self._formats = formats
        self._cpu_s = cpu_s
        self._behind = behind
        self._closed = False
        self._lock = Lock()
        self._idle: dict[bool, list[socket.socket]] = {False: [], True: []}
        """Workers that rest, by whether they compute behind others."""
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
        self._idle[False].append(self._take(False))

    def close(self) -> None:
        """Ends the processes; images that are being decoded are refused."""
        self._closed = True
        self._control.close()
        for idle in self._idle.values():
            while idle:
                idle.pop().close()
        self._process.wait()

    def ask(
        self,
        items: Sequence[Item],
        max_pixels: int,
        look: Look | FileLook,
        *arguments: object,
        read: ReadSpec = ReadSpec(),
        cpu_s: float | None = None,
    ) -> list[tuple[Facts, Arrays] | ImageError]:
        """Sends files to a worker; returns, for each of their images in order, the results of `look`, or its
        error.

        A worker that ends costs the image that it had; one that ends on the first image of a file costs them
        all.

        Args:
            items: files of one image, and images of files that hold several.
            max_pixels: largest number of pixels of an image; it also bounds a worker's memory.
            look: what is done with an image, or with a whole file, which gives one result.
            arguments: further arguments of `look`.
            read: how pixels become grey.
            cpu_s: seconds of CPU, fewer than those of the pool.
        """
        found: list[tuple[Facts, Arrays] | ImageError] = []
        behind = self._behind and cpu_s is None
        cpu_s = cpu_s or self._cpu_s
        limits, left = Limits(max_pixels, self._formats, cpu_s, read), list(items)
        whole = isinstance(look, FileLook)
        while left:
            worker, answered = self._take(behind), 0
            try:
                send(worker, pickle.dumps((left, limits, look, arguments)))
                while left:
                    found.append(_receive_found(worker))
                    answered += 1
                    if answered == _num_answers(left[0], whole):
                        del left[0]
                        answered = 0
            except (OSError, EOFError, ValueError):  # ValueError: the answer is no JSON
                worker.close()
                reason = f"the decoder ended: it crashed, or took more than {cpu_s:g} s"
                item = left.pop(0)
                lost = _num_answers(item, whole) - answered
                if isinstance(item, Frames) and answered and lost > 1:
                    left.insert(0, replace(item, numbers=item.numbers[answered + 1 :]))
                    lost = 1
                found += [EndedError(reason)] * lost
            else:
                self._idle[behind].append(worker)
        return found

    def _take(self, behind: bool) -> socket.socket:
        """Returns an idle worker."""
        idle = self._idle[behind]
        while idle:
            with suppress(IndexError):  # another thread was faster
                worker = idle.pop()
                if _lives(worker):
                    return worker
                worker.close()
        control = self._control
        try:
            return self._fork(behind)
        except (OSError, EOFError):
            with self._lock:
                if self._closed:
                    raise RuntimeError("the decoder is closed") from None
                if self._control is control:
                    self._process.kill()
                    self._process.wait()
                    self._start()
        return self._fork(behind)

    def _fork(self, behind: bool) -> socket.socket:
        """Forks a worker; returns the socket to it.

        Raises:
            OSError, EOFError: the process that forks has ended.
        """
        mine, its = socket.socketpair()
        mine.settimeout(3 * WALL_S)  # a file is opened, and its first image decoded
        with its:
            socket.send_fds(self._control, [decoder_process.BEHIND if behind else b"f"], [its.fileno()])
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


def _num_answers(item: Item, whole: bool) -> int:
    """Returns the number of results for an item; one if it is looked at as a whole."""
    return len(item.numbers) if isinstance(item, Frames) and not whole else 1


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
