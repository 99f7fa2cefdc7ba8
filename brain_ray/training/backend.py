"""How TensorFlow finds its fellows on Ray Train's workers, and how it runs on each of them."""

import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.train.backend import Backend, BackendConfig

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass
class TensorflowWorkers(BackendConfig):  # type: ignore[misc]
    """Tells each worker the addresses of all, in TF_CONFIG.

    Instead of Ray's own TensorflowConfig, which imports TensorFlow on the driver and on the controller, and
    asks the workers for legacy Keras, which is not installed.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        return _TensorflowBackend


class _TensorflowBackend(Backend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        addresses = worker_group.execute(_free_address)
        ray.get(
            [
                worker_group.execute_single_async(rank, _set_tf_config, addresses, rank)
                for rank in range(len(worker_group))
            ]
        )


def _free_address() -> str:
    with socket.socket() as found:
        found.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{found.getsockname()[1]}"


def _set_tf_config(addresses: list[str], rank: int) -> None:
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    )


def make_strategy(num_workers: int, threads: int = 0) -> "tf.distribute.Strategy":
    """Set TensorFlow up, before anything else uses it in this process, and return the strategy of its steps.

    The default strategy for one worker. For several, MultiWorkerMirroredStrategy of one replica each, which
    finds its fellows in TF_CONFIG. `threads` of 0 leaves TensorFlow all cores.
    """
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    if num_workers == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MultiWorkerMirroredStrategy()
