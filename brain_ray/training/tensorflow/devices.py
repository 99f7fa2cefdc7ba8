"""TensorFlow in a process: threads, precision, GPU memory, distribution strategy."""

import math
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from brain_ray import cuda
from brain_ray.config import TrainConfig
from brain_ray.errors import RunError
from brain_ray.models.keras_import import import_keras
from brain_ray.training.setups import cpu_name

if TYPE_CHECKING:
    import tensorflow as tf

NO_GPU = "train.use_gpu is true, and TensorFlow sees no GPU"
"""How the error begins that no other attempt cures: it ends a whole sweep, and not only a trial."""


def set_up(settings: TrainConfig, processes: int) -> str:
    """Sets TensorFlow and Keras up, before anything else uses them in this process; returns the precision.

    Threads are set from the CPUs that the settings give a worker. With `use_gpu`, GPUs take memory as they
    need it, so that several processes can share one; without, TensorFlow uses no GPU, even if Ray lets the
    process see some. The precision becomes Keras' policy for all layers made from now on.

    Args:
        settings: of the training.
        processes: on this node that do the same.

    Raises:
        RunError: `use_gpu` is set, and TensorFlow sees no GPU. The text gives the reason.
    """
    if settings.use_gpu:
        cuda.preload()
    import_keras()
    import joblib
    import keras
    import tensorflow as tf

    # Not `os.cpu_count`: in a container that counts the machine's cores.
    threads = num_threads(settings.cpus_per_worker, joblib.cpu_count(), processes)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    gpus = tf.config.list_physical_devices("GPU") if settings.use_gpu else []
    if settings.use_gpu and not gpus:
        reason = f"{NO_GPU} on {socket.gethostname()}: {cuda.why_no_gpu()}"
        raise RunError(f"{reason}; {cuda.CURE}, or set train.use_gpu to false")
    if not settings.use_gpu:
        tf.config.set_visible_devices([], "GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
    ]
    precision = settings.precision if settings.precision != "auto" else choose_precision(capabilities)
    keras.config.set_dtype_policy(precision)
    return precision


def device_name() -> str:
    """Returns the name of the first GPU that TensorFlow may use, else the processor's; `set_up` comes
    first."""
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return cpu_name()
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))


def clear() -> None:
    """Drops what Keras keeps of the networks that this process has built, before it builds others."""
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.backend.clear_session()


def num_threads(cpus: float, cores: int, processes: int) -> int:
    """Returns the threads of a worker: its CPUs, rounded up; of a fraction, its share of the node's."""
    return math.ceil(cpus) if cpus >= 1 else max(1, cores // processes)


def choose_precision(capabilities: Sequence[tuple[int, int]]) -> str:
    """Chooses by the compute capability of the GPUs: the lowest of them decides.

    From 8.0 on (Ampere) bfloat16, which needs no scaling of the loss; from 7.0 on (Volta, Turing: tensor
    cores) float16; else, and without a GPU, float32.
    https://docs.nvidia.com/deeplearning/performance/mixed-precision-training
    """
    lowest = min(capabilities, default=(0, 0))
    if lowest >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if lowest >= (7, 0) else "float32"


def make_strategy(num_workers: int, *, use_gpu: bool) -> "tf.distribute.Strategy":
    """Returns the strategy of the steps; `set_up` comes first.

    The default strategy for one worker. For several, MultiWorkerMirroredStrategy of one replica each, which
    finds the other workers in TF_CONFIG. GPUs communicate by NCCL, CPUs in a ring of gRPC.
    """
    import tensorflow as tf

    if num_workers == 1:
        return tf.distribute.get_strategy()
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.NCCL if use_gpu else kinds.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
