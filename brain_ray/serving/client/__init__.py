"""Client of the endpoint: `Client`, and `AsyncClient` for asyncio."""

from brain_ray.serving.client.clients import AsyncClient, Client
from brain_ray.serving.client.protocol import EndpointError

__all__ = ["AsyncClient", "Client", "EndpointError"]
