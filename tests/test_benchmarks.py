"""Benchmarks: one that lacks a program says so at once; the script for GPUs runs without one, in small."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from brain_ray.config import DataConfig, PhantomConfig
from brain_ray.data.phantoms.files import write_tree

ROOT = Path(__file__).parents[1]


def test_the_benchmark_of_serving_says_at_once_that_it_lacks_wrk(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"try: runpy.run_path({str(ROOT / 'benchmarks' / 'serving.py')!r}, run_name='__main__')\n"
        "finally: print(sorted({'numpy', 'cv2', 'brain_ray'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("wrk is missing: install it (Debian and Ubuntu: apt-get install wrk")
    assert done.stdout == "[]\n", "nothing slow was imported before"


def run_gpu_script(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *words]
    environment = {**os.environ, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_script_for_gpus_runs_in_small_without_one() -> None:
    """All groups of its checks that need no Ray."""
    values = run_small("seen", "step", "cache", "placement", "numerics", "tile", "workers", "end")
    assert values["operations of a step on the CPU"] > 100
    assert values["step tiny 32 px, 8 images, plain: operations outside XLA"] > 100, "there is no XLA"
    assert values["cosine of mixed_bfloat16's gradient"] < 1, "another precision has another gradient"
    assert values["two workers' loss unlike one's by"] < 0.001
    assert {"a hidden GPU is refused after", "pairs compared"} <= set(values)
    assert values["first step of the next process"] > 0


@pytest.mark.slow
@pytest.mark.thorough
def test_the_stages_of_the_script_for_gpus_run_in_small_without_one() -> None:
    values = run_small("loader", "training", "killed", "features", "sweep")
    assert values["epochs trained"] == 3
    assert values["a replica without onnxruntime-gpu is refused"] == 1
    assert values["a killed training goes on"] == values["trials that share the machine finish"] == 1
    assert {"two consumers over one", "16 windows over one"} <= set(values)


def run_small(*groups: str) -> dict[str, float]:
    """Run groups of the script's checks; return what they found."""
    done = run_gpu_script("--cpu", "--only", *groups)
    assert done.returncode == 0, done.stdout + done.stderr
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


def test_the_script_for_gpus_ends_at_the_first_broken_promise(tmp_path: Path) -> None:
    done = run_gpu_script("--only", "machine", "step", PATH=str(tmp_path))
    assert done.returncode == 1, "CUDA's wheels are missing; or, where they are installed, nvidia-smi"
    assert "BROKEN" in done.stdout
    assert "step:" not in done.stdout, "no further group ran"
    assert "nvidia-" in done.stdout, "it says what is missing"


def test_an_operation_that_is_left_to_the_cpu_of_a_gpu_node_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With lines as TensorFlow writes them."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    checks_of = load("gpu_placement", monkeypatch)["checks_of"]
    line = "I0000 00:00:1.5 99 placer.cc:162] n/{0}: ({0}): /job:localhost/replica:0/task:0/device:{1}:0"
    placed = [("_Arg", "CPU"), ("Conv2D", "GPU"), ("MatMul", "GPU"), ("Unique", "CPU")]
    log = "\n".join(line.format(*each) for each in placed)
    there, elsewhere = checks_of(log, 1.0)
    assert (there.value, there.holds) == (2, True)
    assert (elsewhere.value, elsewhere.holds, elsewhere.why) == (1, False, "Unique (CPU)")
    assert [check.holds for check in checks_of("", 1.0)] == [False, True]


def test_connections_that_are_not_from_gpu_to_gpu_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With lines as NCCL writes them (from other projects' reports)."""
    checks_of = load("gpu_workers", monkeypatch)["checks_of"]
    log = (
        "node:71:93 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.0.7<0>\n"
        "node:71:93 [0] NCCL INFO Channel 00/02 :    0   1\n"
        "node:71:93 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM\n"
        "node:72:94 [1] NCCL INFO Channel 01/0 : 1[1] -> 0[0] via P2P/IPC/read\n"
    )
    direct, others = checks_of(log)
    assert (direct.value, direct.holds, others.value, others.holds) == (2, True, 0, True)
    log += (
        "node:71:93 [0] NCCL INFO Channel 00 : 0[1b0] -> 1[1c0] via SHM/direct/direct\n"
        "node:71:93 [0] NCCL INFO Channel 01/0 : 1[0] -> 0[0] [receive] via NET/Socket/0\n"
    )
    _, others = checks_of(log)
    assert (others.value, others.holds, others.why) == (2, False, "NET, SHM")
    assert [check.holds for check in checks_of("")] == [False, True]


def test_bfloat16_has_to_be_faster_than_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = load("gpu_steps", monkeypatch)["compare"]
    names = [f"step EfficientNetB0 224 px, 256 images, xla{how}" for how in ("", " float32")]
    assert [check.holds for check in compare(dict(zip(names, [4000, 2300], strict=True)))] == [True]
    assert [check.holds for check in compare(dict(zip(names, [2400, 2300], strict=True)))] == [False]
    assert list(compare({names[0]: 4000})) == []


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what a script of `benchmarks/` defines."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(
        tmp_path / "tree", PhantomConfig(train_per_class=2, test_per_class=1), DataConfig().classes, seed=1
    )
    return tmp_path / "tree"


def test_the_plain_loop_takes_each_image_of_a_tree_that_holds_outlines_too(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load("prepare", monkeypatch)["plain_loop"](tree, tmp_path / "plain") > 0
    assert len(list((tmp_path / "plain").rglob("*.jpg"))) == 3 * len(DataConfig().classes)


def test_larger_sets_hold_each_image_of_a_tree_several_times_bent(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("scaling", monkeypatch)["write_bent"](tree, tmp_path / "bent", 30, 0)
    files = [path.relative_to(tmp_path / "bent") for path in (tmp_path / "bent").rglob("*.jpg")]
    assert len(files) == 30
    assert {str(file.parent) for file in files} == {
        f"{split}/{name}" for split in ("Training", "Testing") for name in DataConfig().classes
    }
    first, again = (cv2.imread(str(path)) for path in sorted((tmp_path / "bent").rglob("*-00[01].jpg"))[:2])
    assert first.shape == again.shape
    assert (first != again).any()


def test_a_tumour_is_painted_out_and_as_much_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    paint_out, elsewhere = (load("evidence", monkeypatch)[name] for name in ("paint_out", "elsewhere"))
    image, tumour = np.zeros((96, 96), np.uint8), np.zeros((96, 96), np.uint8)
    cv2.circle(image, (48, 48), 40, 100, -1)
    cv2.circle(image, (36, 40), 8, 255, -1)
    cv2.circle(tumour, (36, 40), 8, 255, -1)
    painted = paint_out(image, tumour)
    np.testing.assert_allclose(painted[tumour > 0].astype(int), 100, atol=5)  # as what is around it
    assert (painted[image == 0] == 0).all()
    moved = elsewhere(image, tumour, np.random.default_rng(0))
    assert moved is not None
    assert (moved > 0).sum() == (tumour > 0).sum()
    assert not moved[tumour > 0].any()
    assert image[moved > 0].mean() > 20
    assert (paint_out(image, moved)[tumour > 0] == 255).all()
    whole = np.full_like(tumour, 255)
    assert elsewhere(image, whole, np.random.default_rng(0)) is None
    left_out = np.zeros_like(tumour)  # the tumour lies outside the crop
    assert elsewhere(image, left_out, np.random.default_rng(0)) is None
