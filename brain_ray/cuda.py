"""CUDA libraries for TensorFlow: loads those of NVIDIA's wheels, and tells why no GPU is seen.

TensorFlow 2.21 searches the folders of most of these wheels, but not that of libcusolver, and without it
uses no GPU. Where a job's virtual environment holds the wheels, and the image TensorFlow, it searches none of
their folders. It takes a library that is loaded already, wherever that came from.

Imports nothing but the standard library.
"""

import ctypes
import os
import re
import sys
from pathlib import Path

REQUIRED = (
    "libcudart.so.12",
    "libcublasLt.so.12",
    "libcublas.so.12",
    "libcufft.so.11",
    "libcusparse.so.12",
    "libcusolver.so.11",
    "libcudnn.so.9",
)
"""Libraries without any of which TensorFlow 2.21 uses no GPU; each after those it depends on."""

LIBRARIES = ("libnvJitLink.so.12", "libnvrtc.so.12", *REQUIRED, "libnccl.so.2")
"""These, and what they or TensorFlow load later: two compilers, and the communication of several workers."""

DRIVER = Path("/proc/driver/nvidia/version")
"""Where NVIDIA's kernel module tells its version."""

CURE = "install NVIDIA's driver and the extra gpu (pip install -c constraints.txt -e '.[gpu]') there"
"""What to do where TensorFlow sees no GPU."""


def preload() -> None:
    """Load the libraries of NVIDIA's wheels, for the TensorFlow that is imported later in this process.

    To be called before the first import of TensorFlow in a process that computes on a GPU. The wheels are
    looked for in the folders of `sys.path`, in its order. What is not installed, or cannot be loaded, is
    passed over: `why_no_gpu` tells it.
    """
    folders = [folder for entry in sys.path for folder in Path(entry or ".").glob("nvidia/*/lib")]
    for name in LIBRARIES:
        file = next((folder / name for folder in folders if (folder / name).exists()), None)
        if file is not None:
            _error_of_loading(str(file))


def why_no_gpu() -> str:
    """Return why TensorFlow sees no GPU in this process, after `preload`, and the driver's version."""
    errors = (_error_of_loading(name) for name in ("libcuda.so.1", *REQUIRED))
    reason = next(filter(None, errors), "") or _error_of_driver()
    return f"{reason}; {_driver()}"


def _error_of_loading(library: str) -> str:
    try:
        ctypes.CDLL(library)  # locally, as TensorFlow does: its own functions bear the names of CUDA's
    except OSError as error:
        return f"cannot load {error}" if library in str(error) else f"cannot load {library}: {error}"
    return ""


def _error_of_driver() -> str:
    """Return what the driver, whose library can be loaded, says of its GPUs."""
    cuda, name, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_char_p(), ctypes.c_int()
    code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if not code:
        return f"all libraries can be loaded, and the driver offers {count.value} GPU(s)"
    cuda.cuGetErrorName(code, ctypes.byref(name))
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = "" if shown is None else f", with CUDA_VISIBLE_DEVICES {shown!r}"
    return f"the driver says {(name.value or b'error').decode()} ({code}){hidden}"


def _driver() -> str:
    try:
        found = re.search(r"\b\d{3,}(\.\d+)+", DRIVER.read_text())
    except OSError:
        return f"the driver's version is not known, since {DRIVER} is not there"
    return f"the driver is {found[0]}" if found else f"{DRIVER} tells no version"
