"""What a decoder may do to its process; a worker runs these in place of looking at an image."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from brain_ray.data.decoder_messages import Arrays, Facts


def crash(_: Any) -> tuple[Facts, Arrays]:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


POISON = 77
"""Grey level of the first pixel of images that crash."""


def crash_on_poison(image: Any) -> tuple[Facts, Arrays]:
    return crash(image) if image[0, 0] == POISON else ({"height": image.shape[0]}, ())


def hang(_: Any) -> tuple[Facts, Arrays]:
    while True:
        pass


def hoard(_: Any, number: int) -> tuple[Facts, Arrays]:
    return {"bytes": number}, [np.ones(number, np.uint8)[:1]]


def fail(_: Any) -> tuple[Facts, Arrays]:
    raise KeyError("a fault of ours")


def pid(_: Any) -> tuple[Facts, Arrays]:
    return {"pid": os.getpid(), "parent": os.getppid()}, ()


def chatter(_: Any) -> tuple[Facts, Arrays]:
    print("a line", file=sys.stderr, flush=True)
    os.write(2, b"libpng error: a line\n")
    return {}, ()


def rank(_: Any) -> tuple[Facts, Arrays]:
    """How a worker's part of the processors is found, where it is shared among processes, and sessions."""
    shared = Path("/proc/self/autogroup")
    text = shared.read_text() if shared.exists() else ""
    return {
        "nice": os.nice(0),
        "session": os.getsid(0),
        "own": os.getsid(0) == os.getpid(),
        "group": text,
    }, ()
