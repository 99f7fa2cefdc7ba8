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
        addresses = worker_group.execute(reserve_address)
        ray.get(
            [
                worker_group.execute_single_async(rank, _set_tf_config, addresses, rank)
                for rank in range(len(worker_group))
            ]
        )


def reserve_address() -> str:
    """Returns an address of this node, `host:port`, at which only a server of this process can listen.

    The port stays taken, or another worker of the node could take it before TensorFlow's server does. That
    server shares it (`TF_GRPC_REUSE_PORT`).
    """
    held = socket.socket()
    _held.append(held)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("", 0))
    return f"{ray.util.get_node_ip_address()}:{held.getsockname()[1]}"


_held: list[socket.socket] = []


def _set_tf_config(addresses: list[str], rank: int) -> None:
    os.environ["TF_GRPC_REUSE_PORT"] = "1"
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    )
