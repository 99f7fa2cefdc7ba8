"""How a request's images become a response: reading, time-outs, and the room that they take."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from brain_ray.serving.drift import REQUEST, numbers
from brain_ray.serving.engine import Engine
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.schemas import Failure
from brain_ray.serving.security import CLIENT, ROOM
from brain_ray.serving.study_uploads import parse_study
from brain_ray.serving.uploads import Upload, body_size, is_quickly_parsed, parse_uploads, read_body

Seen = Callable[[str, int, float, str], None]
"""Function called for each response: route, status, seconds, and the problem's code or an empty string."""

Parse = Callable[[Headers, bytes, int], list[Upload]]
"""Function from a request's headers, its body and the largest number of files to its files."""


async def handle(
    request: Request,
    engine: Engine,
    work: Callable[[list[Upload]], Awaitable[Response]],
    seen: Seen,
    parse: Parse = parse_uploads,
    study: bool = False,
) -> Response:
    """Reads a request and runs its work, within the time-out; Serve itself has none.

    A study has limits of its own. Its files are checked as they are opened, and it counts as the images of it
    that are worked on at a time.
    """
    config = engine.config
    start = time.perf_counter()
    REQUEST.set(next(numbers))
    room, client, admission = request.scope[ROOM], request.scope[CLIENT], engine.admission
    max_bytes = int((config.max_study_mb if study else config.max_upload_mb) * 1e6)
    room.enter_context(admission.accept(1, body_size(request.headers, max_bytes), client))

    def reserve(num_images: int, num_bytes: int) -> None:
        room.close()
        room.enter_context(admission.accept(num_images, num_bytes, client))

    try:
        async with asyncio.timeout(config.timeout_s):
            body = await read_body(request, max_bytes)
    except TimeoutError as error:
        raise ProblemError("slow_upload", f"expected within {config.timeout_s:g} s") from error
    except ClientDisconnect:
        return Response(status_code=400)  # the client is gone
    try:
        async with asyncio.timeout(max(0.0, config.timeout_s - (time.perf_counter() - start))):
            headers, size = request.headers, len(body)
            if study:
                read_study = partial(parse_study, headers, body, config.max_study_images, max_bytes)
                files = await engine.decode_study(read_study)
                del body, read_study  # the files of a form are copies
                reserve(min(files.num_files, config.batch_size), max(size, files.num_bytes))
                uploads = await engine.decode_study(files.unpack)  # only now: what is refused costs no more
                del files
            else:
                read = partial(parse, headers, body, config.max_images)
                uploads = read() if is_quickly_parsed(headers, body) else await engine.parse(read, size)
                del body, read
                reserve(len(uploads), size)
                if len(uploads) > 1:
                    uploads = await engine.check_uploads(uploads)
            response = await work(uploads)
            room.close()
            room.enter_context(admission.hold(len(response.body), client))  # until it is sent
    except TimeoutError as error:
        raise ProblemError("timeout", f"not within {config.timeout_s:g} s; try again later") from error
    seen(route_of(request), response.status_code, time.perf_counter() - start, "")
    return response


async def each(uploads: list[Upload], work: Callable[[Upload, int], Awaitable[Any]]) -> list[Any]:
    """Runs the work for all images and their places concurrently; the error of one among several becomes a
    failure in its place."""
    found = await attempt(uploads, work)
    if len(found) == 1 and isinstance(found[0], ProblemError):
        raise found[0]
    return [
        Failure(name=upload.name, problem=one.problem) if isinstance(one, ProblemError) else one
        for upload, one in zip(uploads, found, strict=True)
    ]


async def attempt(uploads: list[Upload], work: Callable[[Upload, int], Awaitable[Any]]) -> list[Any]:
    """Runs the work for all images and their places concurrently; returns a result or a `ProblemError` for
    each, in order."""

    async def one(upload: Upload, place: int) -> Any:
        try:
            return await work(upload, place)
        except ProblemError as error:
            return error

    return list(await asyncio.gather(*map(one, uploads, range(len(uploads)))))


def as_json(body: BaseModel) -> Response:
    """Returns a response body as JSON."""
    return Response(body.model_dump_json(), media_type="application/json")


def since(start: float) -> float:
    """Returns the milliseconds since a time of `time.perf_counter`."""
    return round((time.perf_counter() - start) * 1000, 3)


def route_of(request: Request) -> str:
    """Returns the template of a request's route, for metrics; `none` where there is no such route."""
    return str(getattr(request.scope.get("route"), "path", "none"))
