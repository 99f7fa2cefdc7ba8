"""Processes of a `Decoder`: one forks workers, which decode images within limits on memory and time."""

import gc
import json
import os
import pickle
import resource
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import PIL.Image  # noqa: F401  # before workers are forked: they share it
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.data.decoding import CheckedFile, ImageError, check_file, decode_checked, pixel_hash
from brain_ray.data.formats import Format
from brain_ray.data.head_view import view_twice
from brain_ray.data.transforms import Box, find_box, prepare_image, shrink
from brain_ray.input_spec import InputSpec

if TYPE_CHECKING:
    from brain_ray.config import CropConfig

WALL_S = 60
"""Seconds for one image, also on a busy machine."""

BYTES_PER_PIXEL = 16
"""Memory of a worker, in bytes per pixel of the largest image allowed; the costliest image found took ten."""

SPARE_BYTES = 2**26
"""Further memory of a worker, in bytes, beside its memory at the start."""

Facts = dict[str, Any]
"""Facts about an image, by name; encodable as JSON."""

Arrays = Sequence[NDArray[np.uint8]]

Look = Callable[..., tuple[Facts, Arrays]]
"""Function from a decoded image, its first argument, to results; a worker must be able to import it."""

Limits = tuple[int, Sequence[Format] | None, float]
"""Largest number of pixels of an image, accepted formats (None: all known ones), and seconds of CPU."""


def receive(link: socket.socket, length: int) -> bytearray:
    """Receives exactly `length` bytes.

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


def send(link: socket.socket, body: bytes) -> None:
    """Sends bytes, preceded by their length."""
    link.sendall(struct.pack("Q", len(body)) + body)


def receive_body(link: socket.socket) -> bytearray:
    """Receives the bytes of one `send`.

    Raises:
        EOFError: the other side has ended.
    """
    (length,) = struct.unpack("Q", receive(link, 8))
    return receive(link, length)


def _facts_of(file: CheckedFile) -> tuple[Facts, Arrays]:
    facts = {"format": file.format.name if file.format else None, "width": file.width, "height": file.height}
    return facts, [np.frombuffer(file.data, np.uint8)]


def prepare(image: Grey, crop: dict[str, Any], spec: InputSpec, side: int) -> tuple[Facts, Arrays]:
    """Finds and fits the head; returns its facts, the network's input and, with a `side`, the head shrunk to
    that."""
    fed, box, has_box = prepare_image(image, _rule(crop), spec)
    facts = {"width": image.shape[1], "height": image.shape[0], "has_box": has_box}
    facts["box"] = (box.top, box.bottom, box.left, box.right)
    return facts, [fed, shrink(box.crop(image), side)] if side else [fed]


def audit(image: Grey, crop: dict[str, Any]) -> tuple[Facts, Arrays]:
    """Returns an image's facts and the two views of its head, (2, 64, 64), for a scan.

    `frames` are x, y and size of the whole image's view, then of that of the crop, in pixels of the image.
    """
    found = find_box(image, _rule(crop))
    box = found or Box.whole(image)
    views, frames = view_twice(image, box)
    facts = {"width": image.shape[1], "height": image.shape[0], **vars(box), "frames": frames}
    return facts | {"has_box": found is not None, "pixel_sha256": pixel_hash(image)}, [views]


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
        _, sockets, *_ = socket.recv_fds(control, 1, 1)
        if not sockets:
            os.killpg(0, signal.SIGKILL)  # ends workers that decode, and this process
        if os.fork() == 0:
            control.close()
            with suppress(OSError, EOFError):  # the process that asks has ended
                _work(socket.socket(fileno=sockets[0]))
            os._exit(0)
        os.close(sockets[0])


def _work(link: socket.socket) -> None:
    """Serves requests of a link until the process that asks closes it."""
    own = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    link.sendall(b"r")
    while True:
        files, limits, look, arguments = pickle.loads(receive_body(link))
        for file in files:
            facts, arrays = _look(own, file, limits, look, arguments)
            send(link, json.dumps(facts | {"shapes": [array.shape for array in arrays]}).encode())
            link.sendall(b"".join(map(np.ndarray.tobytes, arrays)))


def _look(
    own: int, file: bytes | CheckedFile, limits: Limits, look: Look | None, arguments: Sequence[Any]
) -> tuple[Facts, Arrays]:
    """Returns the results of `look` for a file; without `look`, only checks it.

    `own` is the worker's memory, in bytes, without the image's.

    Raises:
        ImageError: the image cannot be used.
    """
    max_pixels, formats, cpu_s = limits
    memory = SPARE_BYTES + BYTES_PER_PIXEL * max_pixels
    resource.setrlimit(resource.RLIMIT_DATA, (own + memory, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # either ends the process, whatever it is doing
    signal.setitimer(signal.ITIMER_REAL, WALL_S)
    try:
        checked = file if isinstance(file, CheckedFile) else check_file(file, max_pixels, formats)
        if look is None:
            return _facts_of(checked)
        return look(decode_checked(checked, max_pixels), *arguments)
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
