"""Messages between a process that has images decoded and the workers that do it: what is asked, and how it
travels."""

import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.decoding import CheckedFile
from brain_ray.data.formats import AnyFormat
from brain_ray.input_spec import ReadSpec

Facts = dict[str, Any]
"""Facts about an image, by name; encodable as JSON."""

Arrays = Sequence[NDArray[np.uint8]]

Look = Callable[..., tuple[Facts, Arrays]]
"""Function from a decoded image, its first argument, to results; a worker must be able to import it."""


@dataclass(frozen=True)
class FileLook:
    """Function from a checked file, `Limits` and further arguments to results."""

    function: Callable[..., tuple[Facts, Arrays]]


@dataclass(frozen=True)
class Frames:
    """Images of a file that holds several."""

    data: bytes
    numbers: tuple[int, ...]


Item = bytes | CheckedFile | Frames
"""A file of one image, or images of a file."""


class Limits(NamedTuple):
    """Limits of a request, and how its files are read."""

    max_pixels: int
    """Largest number of pixels of an image."""
    formats: Sequence[AnyFormat] | None
    """Accepted formats; None: all of `FORMATS`."""
    cpu_s: float
    """Seconds of CPU for opening a file, and for each of its images."""
    read: ReadSpec


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


def send(link: socket.socket, body: bytes, *further: bytes) -> None:
    """Sends bytes, preceded by their length, and further ones, at once: each part would wake the receiver."""
    link.sendall(b"".join((struct.pack("Q", len(body)), body, *further)))


def receive_body(link: socket.socket) -> bytearray:
    """Receives the bytes of one `send`.

    Raises:
        EOFError: the other side has ended.
    """
    (length,) = struct.unpack("Q", receive(link, 8))
    return receive(link, length)
