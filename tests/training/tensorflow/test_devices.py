"""How TensorFlow is set up for a worker; the GPUs are mocked, for want of some."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from brain_ray import cuda
from brain_ray.config import Config, TrainConfig
from brain_ray.errors import RunError
from brain_ray.training.tensorflow import devices
from brain_ray.training.tensorflow.feature_extractor import make_extractor


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([], "float32"),
        ([(6, 1)], "float32"),
        ([(7, 0)], "mixed_float16"),
        ([(7, 5)], "mixed_float16"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (8, 6)], "mixed_bfloat16"),
        ([(9, 0), (7, 5)], "mixed_float16"),
        ([(0, 0), (9, 0)], "float32"),  # one that does not say what it can do
    ],
)
def test_precision_is_chosen_by_the_least_capable_gpu(
    capabilities: list[tuple[int, int]], expected: str
) -> None:
    assert devices.choose_precision(capabilities) == expected


@pytest.mark.parametrize(
    ("cpus", "cores", "processes", "expected"),
    [
        (4.0, 64, 8, 4),
        (1.0, 2, 2, 1),
        (1.5, 2, 1, 2),
        (0.5, 2, 1, 2),
        (0.5, 2, 2, 1),
        (0.5, 2, 3, 1),
    ],
)
def test_threads_follow_from_the_workers_cpus(cpus: float, cores: int, processes: int, expected: int) -> None:
    assert devices.num_threads(cpus, cores, processes) == expected


@pytest.fixture
def tensorflow(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """TensorFlow's and Keras' settings, of a machine with two GPUs of compute capability 8.0 and 9.0."""
    import keras
    import tensorflow as tf

    config = MagicMock()
    config.list_physical_devices.return_value = ["GPU:0", "GPU:1"]
    details = {"GPU:0": {"compute_capability": (8, 0)}, "GPU:1": {"compute_capability": (9, 0)}}
    config.experimental.get_device_details.side_effect = details.get
    monkeypatch.setattr(tf, "config", config)
    monkeypatch.setattr(keras.config, "set_dtype_policy", config.set_dtype_policy)
    return config


@pytest.mark.parametrize(
    ("settings", "expected"), [({}, "mixed_bfloat16"), ({"precision": "mixed_float16"}, "mixed_float16")]
)
def test_gpus_grow_their_memory_and_choose_the_precision(
    settings: dict[str, Any], expected: str, tensorflow: MagicMock
) -> None:
    assert devices.set_up(TrainConfig(use_gpu=True, cpus_per_worker=3, **settings), 2) == expected
    tensorflow.set_dtype_policy.assert_called_once_with(expected)
    tensorflow.threading.set_intra_op_parallelism_threads.assert_called_once_with(3)
    grown = [call.args for call in tensorflow.experimental.set_memory_growth.call_args_list]
    assert grown == [("GPU:0",), ("GPU:1",)]
    assert all(call.kwargs["enable"] for call in tensorflow.experimental.set_memory_growth.call_args_list)


def test_threads_share_the_cores_of_a_container_and_not_the_machines(
    tensorflow: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 96)
    devices.set_up(TrainConfig(cpus_per_worker=0.5), 1)
    (threads,) = tensorflow.threading.set_intra_op_parallelism_threads.call_args.args
    assert threads <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("quota", "expected"), [("300000 100000", 3), ("max 100000", 96)])
def test_threads_keep_to_the_quota_of_a_container_that_may_use_any_core(
    quota: str, expected: int, tensorflow: MagicMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes limits a pod's CPUs: the kernel's file is faked."""
    kernel, fake = "/sys/fs/cgroup/cpu.max", tmp_path / "cpu.max"
    fake.write_text(f"{quota}\n")
    exists, read = os.path.exists, open
    monkeypatch.setattr("os.path.exists", lambda path: path == kernel or exists(path))
    monkeypatch.setattr(
        "builtins.open", lambda file, *how, **more: read(fake if file == kernel else file, *how, **more)
    )
    monkeypatch.setattr("os.cpu_count", lambda: 96)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(96)))
    devices.set_up(TrainConfig(cpus_per_worker=0.5), 1)
    tensorflow.threading.set_intra_op_parallelism_threads.assert_called_once_with(expected)


def test_a_gpu_that_is_asked_for_and_not_seen_is_an_error_with_the_reason(
    tensorflow: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorflow.list_physical_devices.return_value = []
    monkeypatch.setattr(cuda, "why_no_gpu", lambda: "cannot load libcusolver.so.11; the driver is 570.1")
    monkeypatch.setattr(devices.socket, "gethostname", lambda: "gpu-7")
    told = (
        r"^train\.use_gpu is true, and TensorFlow sees no GPU on gpu-7: cannot load libcusolver\.so\.11; the "
        r"driver is 570\.1; install NVIDIA's driver and the extra gpu .* or set train\.use_gpu to false$"
    )
    with pytest.raises(RunError, match=told):
        devices.set_up(TrainConfig(use_gpu=True), 1)


def test_without_use_gpu_the_gpus_of_the_machine_are_hidden(tensorflow: MagicMock) -> None:
    assert devices.set_up(TrainConfig(), 1) == "float32"
    tensorflow.set_visible_devices.assert_called_once_with([], "GPU")
    tensorflow.experimental.set_memory_growth.assert_not_called()
    tensorflow.reset_mock()
    devices.set_up(TrainConfig(use_gpu=True), 1)
    tensorflow.set_visible_devices.assert_not_called()


@pytest.mark.parametrize(
    "start", [lambda config: devices.set_up(config.train, 1), lambda config: make_extractor(config, 1)]
)
def test_cuda_is_loaded_before_tensorflow_and_only_for_a_gpu(
    start: Callable[[Config], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(cuda, "preload", lambda: loaded.append("CUDA"))
    for name in ("tensorflow", "keras"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    with pytest.raises(ImportError):
        start(Config(train=TrainConfig(use_gpu=True)))
    assert loaded == ["CUDA"]
    with pytest.raises(ImportError):
        start(Config())
    assert loaded == ["CUDA"]


@pytest.mark.parametrize(("use_gpu", "expected"), [(True, "NCCL"), (False, "RING")])
def test_workers_talk_by_nccl_between_gpus(
    use_gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    made = MagicMock()
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", made)
    assert devices.make_strategy(2, use_gpu=use_gpu) is made.return_value
    assert made.call_args.kwargs["communication_options"].implementation.name == expected
    assert devices.make_strategy(1, use_gpu=use_gpu) is tf.distribute.get_strategy()


TRAIN_A_STEP = """
import sys
import numpy as np
from brain_ray.config import Config, ModelConfig, TrainConfig
from brain_ray.training.tensorflow.devices import set_up
from brain_ray.loading.loader import Batch
from brain_ray.training.tensorflow.learner import Learner
settings = TrainConfig(precision=sys.argv[1], optimizer="Adam")
assert set_up(settings, 1) == sys.argv[1]
import tensorflow as tf
if sys.argv[2] == "xla":
    tf.config.list_logical_devices = lambda kind: ["a GPU"]
model = ModelConfig(backbone="tiny", weights="none", height=24, width=24, head="seed")
learner = Learner(Config(seed=7, model=model, train=settings), 4, tf.distribute.get_strategy())
learner.start_epoch(0)
labels = np.arange(32) % 4
images = np.zeros((32, 24, 24, 1), np.uint8)
images[np.arange(32), labels * 5] = 255
batch = Batch(images, labels, np.ones(32, np.float32), 32)
losses = [float(learner.train(batch, 0.01)[1]) for _ in range(30)]
assert losses[-1] < 0.5 * losses[0], losses
assert all(weight.dtype == np.float32 for weight in learner.weights())
assert learner.state()["optimizer"][0].shape == ()
compute = learner.model.get_layer("backbone").layers[-1].compute_dtype
graph = learner.train_step.get_concrete_function().graph
calls = [each for each in graph.get_operations() if "PartitionedCall" in each.type]
compiled = [each.get_attr("_XlaMustCompile") for each in calls]
print(compute, type(learner.optimizer).__name__, *compiled)
"""


@pytest.mark.parametrize(
    ("precision", "xla", "expected"),
    [
        pytest.param(
            *("mixed_float16", "", "float16 LossScaleOptimizer False False"), marks=pytest.mark.thorough
        ),
        ("mixed_bfloat16", "", "bfloat16 Adam False False"),
        ("float32", "xla", "float32 Adam True True"),
    ],
)
@pytest.mark.slow
def test_a_network_learns_in_every_precision_and_compiled(precision: str, xla: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_A_STEP, precision, xla], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == expected


ONE_SHAPE = """
import numpy as np
from brain_ray.config import Config, ModelConfig, TrainConfig
from brain_ray.loading.loader import Batch
from brain_ray.training.tensorflow.devices import set_up
from brain_ray.training.tensorflow.learner import Learner
settings = TrainConfig(optimizer="SGD", cutmix=1.0)
set_up(settings, 1)
import tensorflow as tf
# Norms that are fixed: no row looks at the others.
model = ModelConfig(
    backbone="tiny", weights="none", height=24, width=24, dropout=0.0, batch_norm="fixed"
)
config = Config(seed=7, model=model, train=settings)
plain = Learner(config, 4, tf.distribute.get_strategy())
tf.config.list_logical_devices = lambda kind: ["a GPU"]
compiled = Learner(config, 4, tf.distribute.get_strategy())
for learner in (plain, compiled):
    learner.start_epoch(0)
rng = np.random.default_rng(0)
for rows in (8, 7, 3):
    images = rng.integers(0, 256, (rows, 24, 24, 1), np.uint8)
    batch = Batch(images, np.arange(rows) % 4, np.ones(rows, np.float32), rows, 8)
    sums = [learner.train(batch, 0.1).numpy() for learner in (plain, compiled)]
    np.testing.assert_allclose(*sums, rtol=1e-4)
for one, other in zip(plain.weights(), compiled.weights()):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
"""


@pytest.mark.slow
def test_xla_compiles_one_shape_whatever_the_sizes_of_batches(tmp_path: Path) -> None:
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    done = subprocess.run(
        [sys.executable, "-c", ONE_SHAPE],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(tmp_path.glob("*before_optimizations.txt"))) == 2, "gradients and update, once each"
