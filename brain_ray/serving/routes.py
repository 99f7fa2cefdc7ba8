"""FastAPI routes of the endpoint; independent of Ray."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from brain_ray import __version__
from brain_ray.data.formats import FORMATS
from brain_ray.errors import RunError
from brain_ray.serving.engine import Engine
from brain_ray.serving.openapi import BODY, COMMON_PROBLEMS, IMAGE, UPLOAD_PROBLEMS, problems
from brain_ray.serving.page_html import fill_page
from brain_ray.serving.problems import ProblemError, respond
from brain_ray.serving.schemas import (
    Explanation,
    Explanations,
    Failure,
    Health,
    Models,
    Predictions,
    Problem,
)
from brain_ray.serving.security import ROOM, SecurityMiddleware
from brain_ray.serving.uploads import Upload, body_size, parse_uploads, read_body

PAGE = Path(__file__).with_name("page")

DESCRIPTION = "Classifies single MR slices of a head. Research software, not for clinical use."

Seen = Callable[[str, int, float, str], None]
"""Function called for each response: route, status, seconds, and the problem's code or an empty string."""


def make_app(engine: Engine, seen: Seen = lambda *_: None) -> SecurityMiddleware:
    """Returns the ASGI application of one replica."""
    app = FastAPIOffline(title="brain_ray", version=__version__, description=DESCRIPTION, redoc_url=None)
    _add_errors(app, seen)
    _add_uploads(app, engine, seen)
    _add_facts(app, engine)
    _add_page(app)
    return SecurityMiddleware(app, engine.config)


def _add_uploads(app: FastAPI, engine: Engine, seen: Seen) -> None:
    @app.post(
        "/v1/predict", response_model=Predictions, openapi_extra=BODY, responses=UPLOAD_PROBLEMS, tags=["v1"]
    )
    async def predict(request: Request) -> Response:
        """Classify one or many images; answers come in the order sent.

        An error of the only image is that of the request; among several, each bad one has its own.
        """

        async def work(uploads: list[Upload]) -> Response:
            start = time.perf_counter()
            results = await _each(uploads, engine.predict)
            return _json(Predictions(results=results, milliseconds=_since(start)))

        return await _handle(request, engine, work, seen)

    @app.post(
        "/v1/explain",
        response_model=Explanations,
        openapi_extra=BODY,
        responses={**UPLOAD_PROBLEMS, 200: {"content": {"image/png": {}}}},
        tags=["v1"],
    )
    async def explain(request: Request) -> Response:
        """Classify, and show by Grad-CAM what each answer rests on.

        With `Accept: image/png` and one image, the overlay is the response.
        """
        as_picture = "image/png" in request.headers.get("accept", "")

        async def work(uploads: list[Upload]) -> Response:
            start = time.perf_counter()
            if as_picture and len(uploads) == 1:
                return Response((await engine.explain(uploads[0]))[1], media_type="image/png")

            async def one(upload: Upload) -> Explanation:
                return (await engine.explain(upload))[0]

            results = await _each(uploads, one)
            return _json(Explanations(results=results, milliseconds=_since(start)))

        return await _handle(request, engine, work, seen)


def _add_facts(app: FastAPI, engine: Engine) -> None:
    config = engine.config
    main = engine.predictors[0]

    @app.get("/v1/model", responses=COMMON_PROBLEMS, tags=["v1"])
    async def model() -> Models:
        """Say what is on the air: facts and card of each model, and the limits of a request."""
        limits = {name: getattr(config, name) for name in LIMITS}
        return Models(
            classes=list(main.classes), models=engine.served(), limits=limits, samples=sorted(main.canaries)
        )

    @app.get(
        "/v1/samples/{name}",
        response_class=Response,
        responses={
            **COMMON_PROBLEMS,
            **problems("not_found"),
            200: {"content": {"image/png": IMAGE}},
        },
        tags=["v1"],
    )
    async def sample(name: str) -> Response:
        """Give a sample image: a drawn phantom, no patient's."""
        if name not in main.canaries:  # a dictionary's key: it is never used as a path
            raise ProblemError("not_found", "no such sample; /v1/model lists them")
        return Response(main.canaries[name], media_type="image/png")

    @app.get("/healthz", tags=["health"])
    async def alive() -> Health:
        """Answer, as long as the replica can."""
        return Health()

    @app.get("/readyz", responses={**COMMON_PROBLEMS, **problems("not_ready")}, tags=["health"])
    async def ready() -> Health:
        """Answer once the models of a replica have just given the expected answers to their canary images."""
        return Health(models=await engine.check())


LIMITS = ("max_upload_mb", "max_images", "max_pixels", "max_request_pixels", "timeout_s")


def _add_page(app: FastAPI) -> None:
    start = fill_page((PAGE / "index.html").read_text("utf-8"), FORMATS.values())

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(start, media_type="text/html", headers={"Cache-Control": "no-cache"})

    files = {file.name: file for file in PAGE.iterdir() if file.name != "index.html"}

    @app.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str) -> FileResponse:
        if name not in files:
            raise ProblemError("not_found", "no such file")
        return FileResponse(files[name], headers={"Cache-Control": "no-cache"})


def _add_errors(app: FastAPI, seen: Seen) -> None:
    def tell(request: Request, problem: Problem) -> Response:
        seen(_route(request), problem.status, 0.0, problem.code)
        return respond(problem)

    @app.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> Response:
        return tell(request, error.problem)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        response = tell(request, ProblemError(code, "/docs lists what there is").problem)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, _: RequestValidationError) -> Response:
        return tell(request, ProblemError("bad_request", "/docs tells what is expected").problem)

    @app.exception_handler(RunError)
    async def unready(request: Request, error: RunError) -> Response:
        return tell(request, ProblemError("internal", "a model does not give the expected answers").problem)

    @app.exception_handler(Exception)
    async def fault(request: Request, _: Exception) -> Response:
        return tell(request, ProblemError("internal", "the fault stands in the endpoint's log").problem)


async def _handle(
    request: Request, engine: Engine, work: Callable[[list[Upload]], Awaitable[Response]], seen: Seen
) -> Response:
    """Reads a request and runs its work, within the time-out; Serve itself has none."""
    config = engine.config
    start = time.perf_counter()
    room = request.scope[ROOM]
    max_bytes = int(config.max_upload_mb * 1e6)
    room.enter_context(engine.accept(1, body_size(request.headers, max_bytes)))
    try:
        async with asyncio.timeout(config.timeout_s):
            body = await read_body(request, max_bytes)
    except TimeoutError as error:
        raise ProblemError("slow_upload", f"expected within {config.timeout_s:g} s") from error
    except ClientDisconnect:
        return Response(status_code=400)  # the client is gone
    try:
        async with asyncio.timeout(max(0.0, config.timeout_s - (time.perf_counter() - start))):
            uploads = await asyncio.to_thread(parse_uploads, request.headers, body, config.max_images)
            size = len(body)
            del body  # the files of a form are copies
            if len(uploads) > 1:
                uploads = await engine.check_uploads(uploads)
            room.close()
            room.enter_context(engine.accept(len(uploads), size))
            response = await work(uploads)
            room.close()
            room.enter_context(engine.hold(len(response.body)))  # until it is sent
    except TimeoutError as error:
        raise ProblemError("timeout", f"not within {config.timeout_s:g} s; try again later") from error
    seen(_route(request), response.status_code, time.perf_counter() - start, "")
    return response


async def _each(uploads: list[Upload], work: Callable[[Upload], Awaitable[Any]]) -> list[Any]:
    """Runs the work for all images concurrently; the error of one among several becomes a failure in its
    place."""
    if len(uploads) == 1:
        return [await work(uploads[0])]

    async def one(upload: Upload) -> Any:
        try:
            return await work(upload)
        except ProblemError as error:
            return Failure(name=upload.name, problem=error.problem)

    return list(await asyncio.gather(*map(one, uploads)))


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")


def _since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 3)


def _route(request: Request) -> str:
    return str(getattr(request.scope.get("route"), "path", "none"))
