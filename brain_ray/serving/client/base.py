"""What both clients of the endpoint hold: address, key, retries, limits."""

from collections.abc import Callable

import httpx

from brain_ray.serving.client.network import Http, connect
from brain_ray.serving.client.protocol import Endpoint
from brain_ray.serving.client.retries import Pause, pause_s


class Base:
    """Settings of a client."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60,
        retries: int = 6,
        in_flight: int = 8,
        pause: Pause = pause_s,
    ) -> None:
        """Stores the settings; opens no connection yet.

        Args:
            url: address of the endpoint, such as http://127.0.0.1:8000.
            api_key: an API key of the endpoint; it is sent, and never shown.
            timeout_s: seconds to wait for one answer; more than the endpoint's own limit.
            retries: largest number of retries after connection errors, 502 and 503; with their waits, 6 take
                about 16 s. An image that was lost with its connection or its replica is sent a second time,
                but no third.
            in_flight: largest number of concurrent requests of `predict`.
            pause: function that returns the seconds to wait before each retry.

        Raises:
            EndpointError: a malformed URL or key, or a proxy of the environment (HTTPS_PROXY, ALL_PROXY, ...)
                that cannot be used.
        """
        self._endpoint = Endpoint.agree(url, api_key, retries, pause)
        self._in_flight = in_flight
        self._timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10), pool=None)
        self._limits = httpx.Limits(max_connections=in_flight + 1)

    def _connect(self, kind: Callable[..., Http], transport: object) -> Http:
        host = self._endpoint.url.host
        return connect(kind, host, timeout=self._timeout, limits=self._limits, transport=transport)

    @property
    def url(self) -> str:
        """The endpoint's address, without a password."""
        return self._endpoint.shown

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"
