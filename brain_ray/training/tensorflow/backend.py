"""TF_CONFIG on Ray Train's workers."""

import json
import os
import socket
from dataclasses import dataclass
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig


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
