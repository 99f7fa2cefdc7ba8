"""Processes of a `Decoder`: one forks workers, which decode images within limits on memory and time."""

import ctypes
import gc
import json
import os
import pickle
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import PIL.Image  # noqa: F401  # before workers are forked: they share it

from brain_ray.arrays import Grey
from brain_ray.data.copies.head_view import find_outline, view_twice
from brain_ray.data.decoder_messages import (
    Arrays,
    Facts,
    FileLook,
    Frames,
    Item,
    Limits,
    Look,
    receive_body,
    send,
)
from brain_ray.data.decoding import CheckedFile, ImageError, OpenFile, check_file, check_one, pixel_hash
from brain_ray.data.formats import FORMATS, VolumeFormat, format_of
from brain_ray.data.grey_levels import measure_grey
from brain_ray.data.intensity import count_pixels
from brain_ray.data.kind import looks_like, measure_rim
from brain_ray.data.shortcuts.views import view_pixels
from brain_ray.data.transforms import Box, find_box, prepare_image, shrink, thumbnail
from brain_ray.input_spec import InputSpec

if TYPE_CHECKING:
    from brain_ray.config import CropConfig

BEHIND = b"b"
"""Word that asks for a worker which computes behind others; any other word asks for one that does not."""

NICE = 10
"""Nice value that such a worker adds to its own: it gets a tenth of a processor that others want as well."""

PR_SET_PDEATHSIG = 1
"""Number of the option of `prctl` by which a process ends with its parent; of linux/prctl.h."""

WALL_S = 60
"""Seconds for one image, also on a busy machine."""

BYTES_PER_PIXEL = 16
"""Memory of a worker, in bytes per pixel of the largest image allowed; the costliest image found took ten."""

SPARE_BYTES = 2**26
"""Further memory of a worker, in bytes, beside its memory at the start."""


def facts_of(file: CheckedFile, _: Limits) -> tuple[Facts, Arrays]:
    """Returns the format and the size of a file of one image, and its checked bytes."""
    check_one(file)
    facts = {"format": file.format.name, "width": file.width, "height": file.height}
    return facts, [np.frombuffer(file.data, np.uint8)]


def describe(file: CheckedFile, limits: Limits, level: int, min_content: float) -> tuple[Facts, Arrays]:
    """Returns what a file's header says of its images and, if there are several, which of them are empty.

    Args:
        file: the checked file.
        limits: how it is read.
        level: grey level of the background.
        min_content: least share of an image's pixels above that level; with less it is empty.

    Raises:
        ImageError: a damaged header, or of several images none can be decoded.
    """
    opened = OpenFile(file, limits.max_pixels, limits.read)
    positions, empty, error = list(opened.positions), [], None
    decoded = 0
    for number in range(len(positions)) if len(positions) > 1 and min_content > 0 else ():
        try:
            if (opened.image(number) > level).mean() < min_content:
                empty.append(number)
            decoded += 1
        except ImageError as found:  # what is wrong with an image is said when it is looked at itself
            error = found
    if error is not None and not decoded:
        raise error
    facts = {"format": file.format.name, "width": file.width, "height": file.height}
    return {**facts, "positions": positions, "empty": empty, **vars(opened.facts)}, ()


def encode(image: Grey) -> tuple[Facts, Arrays]:
    """Returns an image as a PNG, byte for byte the same for the same pixels."""
    return {}, [cv2.imencode(".png", image)[1].ravel()]


def prepare(image: Grey, crop: dict[str, Any], spec: InputSpec, side: int) -> tuple[Facts, Arrays]:
    """Finds and fits the head; returns facts of it and the input, the network's input and, with a `side`, the
    head shrunk to that."""
    fed, box, has_box = prepare_image(image, _rule(crop), spec)
    facts: Facts = {"width": image.shape[1], "height": image.shape[0], "has_box": has_box}
    facts |= {"box": (box.top, box.bottom, box.left, box.right), "grey": measure_grey(fed[..., 0])}
    return facts, [fed, shrink(box.crop(image), side)] if side else [fed]


def audit(image: Grey, crop: dict[str, Any]) -> tuple[Facts, Arrays]:
    """Returns an image's facts, the two views of its head, (2, 64, 64), its thumbnail, and the bytes of its
    `shortcuts.views.PIXEL_VIEWS`, for a scan.

    `heads` are x, y and size of the head in the first view, then in the second, in pixels of the image.
    """
    found = find_box(image, _rule(crop))
    box = found or Box.whole(image)
    outline = find_outline(image)
    views, heads = view_twice(image, box, outline)
    facts = {"width": image.shape[1], "height": image.shape[0], **vars(box), "heads": heads}
    counts = count_pixels(image)
    facts |= {"has_box": found is not None, "grey_levels": int(np.count_nonzero(counts))}
    facts["looks_like"] = looks_like(measure_rim(image, outline[0]))
    around = view_pixels(image, outline[0], counts).view(np.uint8)
    return facts | {"pixel_sha256": pixel_hash(image)}, [views, thumbnail(image), around]


def _rule(crop: dict[str, Any]) -> "CropConfig":
    """Returns the settings that `find_box` reads; importing their class costs 0.2 s and 10 MB."""
    return cast("CropConfig", SimpleNamespace(**crop))


def fork_workers(descriptor: int) -> None:
    """Forks a worker for each socket received over a socket, until the process that asks closes it."""
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers: the kernel reaps them
    cv2.setNumThreads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libpng and libjpeg write a line for each damaged file
    gc.freeze()  # workers share the memory of imported modules
    while True:
        word, sockets, *_ = socket.recv_fds(control, 1, 1)
        if not sockets:
            os.killpg(0, signal.SIGKILL)  # ends workers that decode, and this process
        if os.fork() == 0:
            control.close()
            if word == BEHIND:
                _step_back()
            with suppress(OSError, EOFError):  # the process that asks has ended
                _work(socket.socket(fileno=sockets[0]))
            os._exit(0)
        os.close(sockets[0])


def _step_back() -> None:
    """Lets this process compute behind the other ones, whichever way the kernel shares its processors.

    Among processes it goes by their nice values; where it shares them among sessions (autogroup, see
    `man 7 sched`), a session gets its part whatever the nice values in it are, unless it has one itself.
    """
    os.nice(NICE)
    if sys.platform == "linux":
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it has left the group that is killed
        with suppress(OSError):  # no such thing, or a container that lets nobody write it
            Path("/proc/self/autogroup").write_text(str(NICE))


def _work(link: socket.socket) -> None:
    """Serves requests of a link until the process that asks closes it."""
    worker = _Worker()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    link.sendall(b"r")
    while True:
        worker.lift_limit()
        body = receive_body(link)
        worker.request_bytes = len(body)
        items, limits, look, arguments = pickle.loads(body)
        del body
        for item in items:
            for facts, arrays in worker.answers(item, limits, look, arguments):
                told = json.dumps(facts | {"shapes": [array.shape for array in arrays]}).encode()
                send(link, told, *map(np.ndarray.tobytes, arrays))
        del items, item


class _Worker:
    """A worker's memory without that of images, and the libraries that it has imported."""

    request_bytes = 0
    """Size of the files that it was sent, which the process that asks bounds."""

    def __init__(self) -> None:
        self._own = _memory()
        self._imported: set[str] = set()

    def answers(
        self, item: Item, limits: Limits, look: Look | FileLook, arguments: Sequence[Any]
    ) -> Iterator[tuple[Facts, Arrays]]:
        """Yields the results of `look` for each image of an item, or their error: `reason` and `code`, or
        `trace`."""
        self._import(item if isinstance(item, bytes) else item.data)
        data = item.data if isinstance(item, Frames) else item
        max_pixels, formats, _, read = limits

        def checked() -> CheckedFile:
            return data if isinstance(data, CheckedFile) else check_file(data, max_pixels, formats, read)

        def opened() -> OpenFile:
            file = checked()
            if not isinstance(item, Frames):
                check_one(file)
            return OpenFile(file, max_pixels, read)

        if isinstance(look, FileLook):
            function = look.function
            yield self._guarded(limits, lambda: function(checked(), limits, *arguments))
            return
        images: list[OpenFile] = []

        def keep() -> tuple[Facts, Arrays]:
            images.append(opened())
            return {}, ()

        def look_at(number: int) -> tuple[Facts, Arrays]:
            return look(images[0].image(number), *arguments)

        failure = self._guarded(limits, keep)
        for number in item.numbers if isinstance(item, Frames) else (0,):
            yield self._guarded(limits, partial(look_at, number)) if images else failure

    def lift_limit(self) -> None:
        """Lets this process take what memory it needs, until it looks at an image."""
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def _import(self, data: bytes) -> None:
        """Imports what a file's format needs: its memory does not count as the image's."""
        row = format_of(data, FORMATS.values())
        if isinstance(row, VolumeFormat) and row.name not in self._imported:
            self.lift_limit()
            before = _memory()
            for name in row.libraries:
                import_module(name)
            self._own += _memory() - before
            self._imported.add(row.name)

    def _guarded(self, limits: Limits, work: Callable[[], tuple[Facts, Arrays]]) -> tuple[Facts, Arrays]:
        """Returns the result of work done within the limits, or the facts of its error."""
        memory = SPARE_BYTES + BYTES_PER_PIXEL * limits.max_pixels
        limit = self._own + self.request_bytes + memory
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)  # either ends the process, whatever it is doing
        signal.setitimer(signal.ITIMER_REAL, WALL_S)
        try:
            return work()
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


def _memory() -> int:
    """Returns the bytes of data and stack that this process has reserved."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
