"""Addresses of TensorFlow's workers: each is its own's alone, from when it is told to the others."""

import socket

import pytest

from brain_ray.training.tensorflow.backend import reserve_address


def test_nobody_else_gets_a_reserved_port_and_a_server_that_shares_it_is_reached() -> None:
    addresses = [reserve_address() for _ in range(50)]
    ports = [int(address.rpartition(":")[2]) for address in addresses]
    assert len(set(ports)) == 50
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("", ports[0]))
    with socket.socket() as server:
        server.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEPORT, 1
        )  # as TensorFlow's with TF_GRPC_REUSE_PORT
        server.bind(("", ports[0]))
        server.listen()
        with socket.create_connection(("127.0.0.1", ports[0]), timeout=5):
            connection, _ = server.accept()
            connection.close()
