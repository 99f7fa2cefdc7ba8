"""Clients of the endpoint: `Client`, and `AsyncClient` for asyncio.

    with Client("http://127.0.0.1:8000") as client:
        for result in client.predict(["one.jpg", "two.png"]):
            print(result.name, result.label if result.status == "ok" else result.problem.detail)

The two carry requests and responses over the network; `protocol` makes and reads them.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

import httpx

from brain_ray.serving.client.base import Base
from brain_ray.serving.client.files import Source, in_order, read_all, read_image
from brain_ray.serving.client.protocol import EndpointError, Exchange, Result
from brain_ray.serving.client.retries import Outcome, Pause, pause_s
from brain_ray.serving.schemas import Answer, Explanation, Failure, Models
from brain_ray.serving.study_schemas import Study

__all__ = ["AsyncClient", "Client", "EndpointError"]


class Client(Base):
    """Client of an endpoint; threads may share it. Close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60,
        retries: int = 6,
        in_flight: int = 8,
        pause: Pause = pause_s,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Stores the settings of the base class; `transport` replaces the network, for tests."""
        super().__init__(url, api_key, timeout_s=timeout_s, retries=retries, in_flight=in_flight, pause=pause)
        self._http = self._connect(httpx.Client, transport)

    def predict(self, images: Iterable[Source]) -> Iterator[Answer | Failure]:
        """Yields a result for each image, in order, as soon as it is available; several requests run
        concurrently.

        A result's name is the path as it was given, or `image` for bytes. At most `in_flight` files are held
        in memory; of an iterable of bytes, twice as many.

        Raises:
            EndpointError: the endpoint cannot be used. An image that cannot be used becomes a Failure.
        """
        stop = threading.Event()

        def ask(source: Source) -> Answer | Failure:
            data = read_image(source)
            return (
                data if isinstance(data, Failure) else self._run(self._endpoint.predict(source, data), stop)
            )

        try:
            yield from in_order(ask, images, self._in_flight, 2 * self._in_flight)
        finally:
            stop.set()

    def explain(self, image: Source) -> Explanation | Failure:
        """Returns the answer for an image, with its heat map.

        Raises:
            EndpointError: the endpoint cannot be used.
        """
        data = read_image(image)
        return data if isinstance(data, Failure) else self._run(self._endpoint.explain(image, data))

    def study(
        self, files: Iterable[Source], *, one_patient: bool = False, contact_sheet: bool = False
    ) -> Study:
        """Returns one answer for each patient and series of files, which are sent in one request.

        Args:
            files: paths, or the bytes of files: DICOM, volumes, or an archive (zip) of these. A file that
                cannot be read is among the study's `unassigned`.
            one_patient: whether all files are of one patient, whatever they say; pictures say nothing.
            contact_sheet: whether the study has its `contact_sheet`.

        Raises:
            EndpointError: the endpoint cannot be used, or not for this study: it is too large, for one.
        """
        readable, failures = read_all(files)
        study = self._run(self._endpoint.study(readable, one_patient=one_patient, sheet=contact_sheet))
        return study.model_copy(update={"unassigned": [*study.unassigned, *failures]})

    def model(self) -> Models:
        """Returns the models that are served, their classes, and the limits.

        Raises:
            EndpointError: the endpoint cannot be used.
        """
        return self._run(self._endpoint.fetch("v1/model", Models))

    def ready(self) -> bool:
        """Returns whether the endpoint would answer images now; asks once.

        Raises:
            EndpointError: the server refuses access, or is no endpoint.
        """
        return self._run(self._endpoint.ready())

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Exchange[Result], stop: threading.Event | None = None) -> Result:
        stop = stop or threading.Event()
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                kept: Result = done.value
                return kept
            if isinstance(step, float):
                outcome = None
                if stop.wait(step):
                    raise EndpointError("unreachable", "nobody waits for the answer any more")
                continue
            try:
                outcome = self._http.send(step)
            except httpx.RequestError as error:
                outcome = error


class AsyncClient(Base):
    """Client of an endpoint for asyncio. Close it, or use it in an `async with`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60,
        retries: int = 6,
        in_flight: int = 8,
        pause: Pause = pause_s,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Stores the settings, those of `Client`."""
        super().__init__(url, api_key, timeout_s=timeout_s, retries=retries, in_flight=in_flight, pause=pause)
        self._http = self._connect(httpx.AsyncClient, transport)

    async def predict(self, images: Iterable[Source]) -> AsyncIterator[Answer | Failure]:
        """Yields a result for each image, in order; see `Client.predict`."""
        room = asyncio.Semaphore(self._in_flight)
        waiting: deque[asyncio.Task[Answer | Failure]] = deque()

        async def ask(source: Source) -> Answer | Failure:
            async with room:
                return await self._ask(source, self._endpoint.predict)

        try:
            for source in images:
                waiting.append(asyncio.create_task(ask(source)))
                while waiting and (len(waiting) >= 2 * self._in_flight or waiting[0].done()):
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def explain(self, image: Source) -> Explanation | Failure:
        """Returns the answer for an image, with its heat map; see `Client.explain`."""
        return await self._ask(image, self._endpoint.explain)

    async def study(
        self, files: Iterable[Source], *, one_patient: bool = False, contact_sheet: bool = False
    ) -> Study:
        """Returns one answer for each patient and series of files; see `Client.study`."""
        readable, failures = await asyncio.to_thread(read_all, files)
        study = await self._run(self._endpoint.study(readable, one_patient=one_patient, sheet=contact_sheet))
        return study.model_copy(update={"unassigned": [*study.unassigned, *failures]})

    async def model(self) -> Models:
        """Returns the models that are served; see `Client.model`."""
        return await self._run(self._endpoint.fetch("v1/model", Models))

    async def ready(self) -> bool:
        """Returns whether the endpoint would answer images now; see `Client.ready`."""
        return await self._run(self._endpoint.ready())

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(
        self, source: Source, ask: Callable[[Source, bytes], Exchange[Result | Failure]]
    ) -> Result | Failure:
        data = await asyncio.to_thread(read_image, source)
        return data if isinstance(data, Failure) else await self._run(ask(source, data))

    async def _run(self, steps: Exchange[Result]) -> Result:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                kept: Result = done.value
                return kept
            if isinstance(step, float):
                outcome = None
                await asyncio.sleep(step)
                continue
            try:
                outcome = await self._http.send(step)
            except httpx.RequestError as error:
                outcome = error
