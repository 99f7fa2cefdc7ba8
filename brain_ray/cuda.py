"""CUDA libraries for TensorFlow: loads those of NVIDIA's wheels, and explains why no GPU is seen.

TensorFlow 2.21 searches the folders of most of these wheels, but not that of libcusolver, and uses no GPU
without it. If a job's virtual environment has the wheels and the image has TensorFlow, it searches none of
their folders. It uses a library that is loaded already, wherever it came from; XLA is told where its
compiler is.

Imports only the standard library.
"""

import ctypes
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

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
"""REQUIRED, and libraries that these or TensorFlow load later: two compilers, and communication of
workers."""

COMPILER = Path("bin", "ptxas")
"""What XLA compiles with, within the folder `nvidia/cuda_nvcc` of the wheels."""

COMPILER_FLAG = "--xla_gpu_cuda_data_dir"
"""Flag of XLA, in the variable XLA_FLAGS, that names that folder."""

DRIVER = Path("/proc/driver/nvidia/version")
"""File in which NVIDIA's kernel module gives its version."""

CURE = "install NVIDIA's driver and the extra gpu (pip install -c constraints.txt -e '.[gpu]') there"
"""What to do if TensorFlow sees no GPU."""


def preload() -> None:
    """Loads the libraries of NVIDIA's wheels, for the TensorFlow that is imported later in this process.

    Call it before the first import of TensorFlow in a process that computes on a GPU. The wheels are searched
    in the folders of `sys.path`, in order. Libraries that are not installed, or cannot be loaded, are
    skipped; `why_no_gpu` reports them. XLA, which calls a compiler, finds it by XLA_FLAGS.
    """
    compilers = [folder for entry in sys.path for folder in Path(entry or ".").glob("nvidia/cuda_nvcc")]
    flags = os.environ.get("XLA_FLAGS", "")
    compiler = next((folder.resolve() for folder in compilers if (folder / COMPILER).exists()), None)
    if compiler is not None and COMPILER_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f'{flags} {COMPILER_FLAG}="{compiler}"'.strip()
    folders = [folder for entry in sys.path for folder in Path(entry or ".").glob("nvidia/*/lib")]
    for name in LIBRARIES:
        file = next((folder / name for folder in folders if (folder / name).exists()), None)
        if file is not None:
            _error_of_loading(str(file))


def why_no_gpu(driver: Path = DRIVER) -> str:
    """Returns why TensorFlow sees no GPU in this process, after `preload`, and the driver's version, from a
    file like `DRIVER`."""
    errors = (_error_of_loading(name) for name in ("libcuda.so.1", *REQUIRED))
    reason = next(filter(None, errors), "") or _error_of_driver()
    return f"{reason}; {_version_of(driver)}"


def _error_of_loading(library: str) -> str:
    try:
        ctypes.CDLL(library)  # locally, as TensorFlow does: its own functions bear the names of CUDA's
    except OSError as error:
        return f"cannot load {error}" if library in str(error) else f"cannot load {library}: {error}"
    return ""


def _error_of_driver() -> str:
    """Returns the error of the driver, whose library can be loaded, about its GPUs."""
    cuda, name, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_char_p(), ctypes.c_int()
    code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if not code:
        return f"all libraries can be loaded, and the driver offers {count.value} GPU(s)"
    cuda.cuGetErrorName(code, ctypes.byref(name))
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = "" if shown is None else f", with CUDA_VISIBLE_DEVICES {shown!r}"
    return f"the driver says {(name.value or b'error').decode()} ({code}){hidden}"


def cache() -> dict[str, Any]:
    """Returns where CUDA keeps what the driver compiles for this process, so that the next one need not.

    `path` is its folder, `limit` the most that it keeps, in bytes (0: nothing), and `writable` and `free`
    tell whether the folder can be written to, or made, and how many bytes are free there.
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables
    """
    path = Path(os.environ.get("CUDA_CACHE_PATH") or Path.home() / ".nv" / "ComputeCache")
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    limit = os.environ.get("CUDA_CACHE_MAXSIZE", "")
    return {
        "path": str(path),
        "limit": 0
        if os.environ.get("CUDA_CACHE_DISABLE") == "1"
        else int(limit)
        if limit.isdigit()
        else 2**30,
        "writable": there.is_dir() and os.access(there, os.W_OK),
        "free": shutil.disk_usage(there).free,
    }


def driver_version(driver: Path = DRIVER) -> str:
    """Returns the version of NVIDIA's driver, from a file like `DRIVER`; "" if it is not there or tells
    none."""
    try:
        found = re.search(r"\b\d{3,}(\.\d+)+", driver.read_text())
    except OSError:
        return ""
    return found[0] if found else ""


def _version_of(driver: Path) -> str:
    if version := driver_version(driver):
        return f"the driver is {version}"
    if driver.exists():
        return f"{driver} tells no version"
    return f"the driver's version is not known, since {driver} is not there"
