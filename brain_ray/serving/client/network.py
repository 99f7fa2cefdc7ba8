"""Clients of httpx as the machine's network wants them: its proxies and certificates."""

from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from brain_ray.serving.client.protocol import EndpointError
from brain_ray.serving.hosts import is_loopback

Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)


def connect(kind: Callable[..., Http], host: str, **settings: Any) -> Http:
    """Makes a client of httpx for a host, by the environment's proxies; for this machine itself, by none.

    Certificates are those of the environment (SSL_CERT_FILE, SSL_CERT_DIR) in any case.

    Raises:
        EndpointError: a proxy of the environment cannot be used. Its address may hold a password, and is not
            shown.
    """
    try:
        return kind(trust_env=not is_loopback(host), verify=httpx.create_ssl_context(), **settings)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        fault = (
            "SOCKS needs the package socksio (pip install 'httpx[socks]')"
            if isinstance(error, ImportError)
            else "it is not http://, https:// or socks5:// with a host"
        )
        raise EndpointError(
            "bad_request",
            f"the environment's proxy (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used: {fault}; unset "
            "it, or name the endpoint's host in NO_PROXY",
        ) from None
