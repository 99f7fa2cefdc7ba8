"""FastAPI routes of the endpoint; independent of Ray."""

import time

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from brain_ray import __version__
from brain_ray.errors import RunError
from brain_ray.serving.browsers import HeadAsGet, let_in
from brain_ray.serving.engine import Engine
from brain_ray.serving.handling import Seen, as_json, each, handle, route_of, since
from brain_ray.serving.kserve import add_kserve
from brain_ray.serving.openapi import BODY, COMMON_PROBLEMS, IMAGE, STUDY_BODY, UPLOAD_PROBLEMS, problems
from brain_ray.serving.overlay import to_base64
from brain_ray.serving.page_html import add_page
from brain_ray.serving.problems import ProblemError, respond
from brain_ray.serving.schemas import (
    Drift,
    Explanation,
    Explanations,
    Health,
    Models,
    Predictions,
    Problem,
    Served,
)
from brain_ray.serving.security import SecurityMiddleware
from brain_ray.serving.study_run import Wanted, run_study
from brain_ray.serving.study_schemas import Study
from brain_ray.serving.uploads import Upload

DESCRIPTION = (
    "Classifies MR slices of a head, and studies by patient. Research software, not for clinical use."
)


def make_app(engine: Engine, seen: Seen = lambda *_: None) -> ASGIApp:
    """Returns the ASGI application of one replica."""
    app = FastAPIOffline(title="brain_ray", version=__version__, description=DESCRIPTION, redoc_url=None)
    _add_errors(app, seen)
    _add_uploads(app, engine, seen)
    _add_studies(app, engine, seen)
    _add_facts(app, engine)
    add_kserve(app, engine, seen)
    add_page(app)
    return let_in(SecurityMiddleware(HeadAsGet(app), engine.config), engine.config.allowed_origins)


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
            results = await each(uploads, engine.predict)
            return as_json(Predictions(results=results, milliseconds=since(start)))

        return await handle(request, engine, work, seen)

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

            async def one(upload: Upload, place: int) -> Explanation:
                return (await engine.explain(upload, place))[0]

            results = await each(uploads, one)
            return as_json(Explanations(results=results, milliseconds=since(start)))

        return await handle(request, engine, work, seen)


def _add_studies(app: FastAPI, engine: Engine, seen: Seen) -> None:
    @app.post(
        "/v1/studies",
        response_model=Study,
        openapi_extra=STUDY_BODY,
        responses={**UPLOAD_PROBLEMS, 200: {"content": {"image/png": {}}}},
        tags=["v1"],
    )
    async def studies(
        request: Request, one_patient: bool = False, contact_sheet: bool = False, pictures: bool = False
    ) -> Response:
        """Answer each slice, series and patient of a DICOM study, of volumes, or of pictures.

        With `one_patient`, all files are taken for one patient's, whatever they say; pictures say nothing.
        With `pictures`, each slice has its crop and heat map. With `Accept: image/png`, the contact sheet is
        the response.
        """
        as_picture = "image/png" in request.headers.get("accept", "")

        async def work(uploads: list[Upload]) -> Response:
            start = time.perf_counter()
            wanted = Wanted(one_patient, as_picture or contact_sheet, pictures and not as_picture)
            study, png = await run_study(engine, uploads, wanted)
            if as_picture:
                return Response(png, media_type="image/png")
            shown = None if png is None else to_base64(png)
            return as_json(study.model_copy(update={"contact_sheet": shown, "milliseconds": since(start)}))

        return await handle(request, engine, work, seen, study=True)


def _add_facts(app: FastAPI, engine: Engine) -> None:
    config = engine.config
    main = engine.predictors[0]

    @app.get("/v1/model", responses=COMMON_PROBLEMS, tags=["v1"])
    async def model() -> Models:
        """Say what is on the air: facts and card of each model, and the limits of a request."""
        limits = {name: getattr(config, name) for name in LIMITS}
        return Models(
            classes=list(main.classes),
            models=served_models(engine),
            limits=limits,
            samples=sorted(main.canaries),
            review=engine.review is not None,
        )

    @app.get("/v1/drift", responses=COMMON_PROBLEMS, tags=["v1"])
    async def drift() -> Drift:
        """Say whether the images of late are like those that the main model was validated on."""
        return engine.drift.tell()

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


def served_models(engine: Engine) -> list[Served]:
    """Returns the models that are on the air."""
    config = engine.config
    split = config.canary_mode == "split"
    canary = config.canary if len(engine.predictors) > 1 else 0.0
    return [
        Served(
            id=predictor.id,
            role="challenger" if number else "main",
            share=canary if number else 1 - canary * split,
            mode="mirrors" if number and not split else "answers",
            bundle={name: value for name, value in predictor.info.items() if name != "config"},
            card=predictor.card,
        )
        for number, predictor in enumerate(engine.predictors)
    ]


LIMITS = (
    "max_upload_mb",
    "max_images",
    "max_study_mb",
    "max_study_images",
    "max_pixels",
    "max_request_pixels",
    "timeout_s",
)


def _add_errors(app: FastAPI, seen: Seen) -> None:
    def tell(request: Request, problem: Problem) -> Response:
        seen(route_of(request), problem.status, 0.0, problem.code)
        return respond(problem, request.scope["path"])

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
