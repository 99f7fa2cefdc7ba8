"""CUDA's libraries for TensorFlow, by its own check, on stubs that bear their names (simulated: no GPU)."""

import ctypes
import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.jobs import ROOT
from support.shared_libraries import write_library

from brain_ray import cuda

WHEELS = {
    "cublas": {"libcublas.so.12": ["libcublasLt.so.12"], "libcublasLt.so.12": []},
    "cuda_nvrtc": {"libnvrtc.so.12": []},
    "cuda_runtime": {"libcudart.so.12": []},
    "cudnn": {"libcudnn.so.9": []},
    "cufft": {"libcufft.so.11": []},
    "cusolver": {"libcusolver.so.11": ["libcublas.so.12", "libcusparse.so.12", "libnvJitLink.so.12"]},
    "cusparse": {"libcusparse.so.12": ["libnvJitLink.so.12"]},
    "nccl": {"libnccl.so.2": []},
    "nvjitlink": {"libnvJitLink.so.12": []},
}
"""Folders of NVIDIA's wheels, their libraries, and what these need of others."""

CHECK = """
import ctypes, sys
from brain_ray import cuda
if sys.argv[2] == "preload":
    cuda.preload()
framework = ctypes.CDLL(sys.argv[1])
check = framework._ZN3tsl8internal9DsoLoader26MaybeTryDlopenGPULibrariesEv
check.argtypes, check.restype = [ctypes.c_void_p], None
status = ctypes.c_void_p()
check(ctypes.byref(status))  # an absl::Status: one word, which is 1 where all is well
print("ok" if status.value == 1 else "not ok")
print(cuda.why_no_gpu())
"""
"""Asks TensorFlow, without its Python part, whether it has the libraries that a GPU needs."""

NEEDS_TENSORFLOW = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the check is called as x86-64 returns objects"
)


def write_wheels(site: Path, *without: str) -> None:
    for folder, libraries in WHEELS.items():
        for name, needs in libraries.items():
            if name not in without:
                write_library(site / "nvidia" / folder / "lib" / name, name, needs)


def link_tensorflow(site: Path) -> Path:
    """Put TensorFlow's own library into a folder, from which it looks for the wheels beside it."""
    installed = importlib.util.find_spec("tensorflow")
    assert installed is not None
    assert installed.origin is not None
    linked = site / "tensorflow" / "libtensorflow_framework.so.2"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(Path(installed.origin).with_name(linked.name))
    return linked


def check(framework: Path, how: str, *path: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run CHECK in a process that sees these folders, and libraries nowhere else."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    return subprocess.run(
        [sys.executable, "-S", "-c", CHECK, str(framework), how],
        env={**environment, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT])), **more},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture
def no_cuda() -> None:
    """Skip where the system's own search path has CUDA."""
    try:
        ctypes.CDLL("libcusolver.so.11")
    except OSError:
        return
    pytest.skip("this machine's search path has libcusolver.so.11")


@NEEDS_TENSORFLOW
@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("wheels", ["beside TensorFlow", "in a job's environment"])
def test_tensorflow_finds_all_it_needs_once_it_is_loaded_before(wheels: str, tmp_path: Path) -> None:
    image, job = tmp_path / "image", tmp_path / "job"
    framework = link_tensorflow(image)
    write_wheels(image if wheels == "beside TensorFlow" else job)
    # A later TensorFlow that finds the wheels beside it will say "ok" here: see what `preload` is for then.
    assert check(framework, "plain", job, image).stdout.splitlines()[0] == "not ok"
    assert check(framework, "preload", job, image).stdout.splitlines()[0] == "ok"


@NEEDS_TENSORFLOW
@pytest.mark.usefixtures("no_cuda")
def test_the_libraries_are_those_that_tensorflow_asks_for(tmp_path: Path) -> None:
    found = check(link_tensorflow(tmp_path), "plain", LD_DEBUG="libs")
    opened = set(re.findall(r"find library=(lib(?:cu|nv|nccl)[^ ]*)", found.stderr))
    assert opened - {"libcuda.so.1"} == set(cuda.REQUIRED)


@NEEDS_TENSORFLOW
@pytest.mark.usefixtures("no_cuda")
def test_the_first_library_that_cannot_be_loaded_is_the_reason(tmp_path: Path) -> None:
    framework = link_tensorflow(tmp_path)
    write_wheels(tmp_path, "libcufft.so.11", "libcudnn.so.9")
    write_library(tmp_path / "driver" / "libcuda.so.1", "libcuda.so.1")
    found = check(framework, "preload", tmp_path, LD_LIBRARY_PATH=str(tmp_path / "driver"))
    state, reason = found.stdout.splitlines()
    assert state == "not ok"
    assert reason.startswith("cannot load libcufft.so.11: cannot open shared object file")


def test_a_wheel_whose_library_is_damaged_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"not a library")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    cuda.preload()


def test_the_image_lists_the_wheels_folders_for_other_programs_once_they_are_there() -> None:
    dockerfile = (ROOT / "docs" / "cluster" / "Dockerfile").read_text()
    (version,) = re.findall(r"^FROM python:(\d+\.\d+)", dockerfile, re.MULTILINE)
    stage = dockerfile.partition(" AS all\n")[2]
    folders = f"/usr/local/lib/python{version}/site-packages/nvidia/*/lib > /etc/ld.so.conf.d/"
    assert stage.index("--extra gpu") < stage.index(folders) < stage.index("&& ldconfig")


def test_xla_is_told_where_its_compiler_is_unless_it_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a job's environment, which TensorFlow in the image does not search."""
    compiler = tmp_path / "a job" / "nvidia" / "cuda_nvcc" / "bin" / "ptxas"
    compiler.parent.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "image"), str(tmp_path / "a job")])
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=there")
    cuda.preload()
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=there"
    compiler.touch()
    cuda.preload()
    told = f'--xla_dump_to=there --xla_gpu_cuda_data_dir="{tmp_path}/a job/nvidia/cuda_nvcc"'
    assert os.environ["XLA_FLAGS"] == told
    cuda.preload()
    assert os.environ["XLA_FLAGS"] == told


def test_of_two_folders_the_first_on_the_path_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for site in ("job", "image"):
        write_wheels(tmp_path / site, *["libcudnn.so.9"] * (site == "job"))
    opened: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", opened.append)
    monkeypatch.setattr(
        sys, "path", [str(tmp_path / "job"), str(tmp_path / "nowhere"), str(tmp_path / "image")]
    )
    cuda.preload()
    sites = {Path(file).name: Path(file).relative_to(tmp_path).parts[0] for file in opened}
    assert sites == {name: "image" if "cudnn" in name else "job" for name in cuda.LIBRARIES}


def test_without_wheels_nothing_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", opened.append)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "python311.zip"), ""])
    monkeypatch.chdir(tmp_path)
    cuda.preload()
    assert opened == []


class Driver:
    """NVIDIA's driver library, as a machine would have it."""

    def __init__(self, code: int, gpus: int = 0) -> None:
        self._code, self._gpus = code, gpus

    def cuInit(self, _: int) -> int:
        return self._code

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._gpus
        return 0

    def cuGetErrorName(self, code: int, name: Any) -> None:
        name._obj.value = b"CUDA_ERROR_NO_DEVICE" if code == 100 else None


@pytest.mark.parametrize(
    ("driver", "shown", "version", "expected"),
    [
        (
            Driver(100),
            "",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.6  Release Build\n",
            "the driver says CUDA_ERROR_NO_DEVICE (100), with CUDA_VISIBLE_DEVICES ''; the driver is 570.6",
        ),
        (
            Driver(804),
            None,
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n",
            "the driver says error (804); the driver is 535.183.01",
        ),
        (
            Driver(0, 2),
            None,
            "?",
            "all libraries can be loaded, and the driver offers 2 GPU(s); {file} tells no version",
        ),
        (
            Driver(0),
            None,
            None,
            "all libraries can be loaded, and the driver offers 0 GPU(s); the driver's version is not known, "
            "since {file} is not there",
        ),
    ],
)
def test_what_the_driver_says_is_the_reason_where_all_libraries_are_there(
    driver: Driver,
    shown: str | None,
    version: str | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "version"
    if version is not None:
        file.write_text(version)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert cuda.why_no_gpu(file) == expected.format(file=file)
