"""The KServe v2 inference protocol (Open Inference Protocol), REST.

Its input `image` holds whole image files, as a tensor of BYTES: raw in a binary tensor, base64 in JSON. Its
outputs are those of /v1/predict.
"""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import Headers

from brain_ray import __version__
from brain_ray.serving.engine import Engine
from brain_ray.serving.handling import Seen, attempt, handle
from brain_ray.serving.kserve_messages import INPUT, OUTPUTS, InferRequest, infer_response, parse_infer
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.uploads import Upload


def add_kserve(app: FastAPI, engine: Engine, seen: Seen) -> None:
    """Adds the protocol's routes, below /v2, to an application."""
    main = engine.predictors[0]
    name, version = main.name, main.id.rpartition("-")[2]

    def check_name(model: str, number: str = version) -> None:
        if (model, number) != (name, version):
            raise ProblemError("not_found", f"there is no such model; expected {name}, version {version}")

    @app.get("/v2", include_in_schema=False)
    async def server() -> dict[str, Any]:
        return {"name": "brain_ray", "version": __version__, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live", include_in_schema=False)
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", include_in_schema=False)
    async def ready() -> dict[str, bool]:
        await engine.check()
        return {"ready": True}

    @app.get("/v2/models/{model}", include_in_schema=False)
    @app.get("/v2/models/{model}/versions/{number}", include_in_schema=False)
    async def metadata(model: str, number: str = version) -> dict[str, Any]:
        check_name(model, number)
        classes = len(main.classes)
        outputs = [
            {"name": key, "datatype": row.datatype, "shape": [-1, classes] if row.is_of_classes else [-1]}
            for key, row in OUTPUTS.items()
        ]
        images = {"name": INPUT, "datatype": "BYTES", "shape": [-1]}
        facts = {"name": name, "versions": [version], "platform": "onnx_onnxruntime"}
        return {**facts, "inputs": [images], "outputs": outputs, "parameters": {"classes": main.classes}}

    @app.get("/v2/models/{model}/ready", include_in_schema=False)
    @app.get("/v2/models/{model}/versions/{number}/ready", include_in_schema=False)
    async def model_ready(model: str, number: str = version) -> dict[str, Any]:
        check_name(model, number)
        await engine.check()
        return {"name": name, "ready": True}

    @app.post("/v2/models/{model}/infer", include_in_schema=False)
    @app.post("/v2/models/{model}/versions/{number}/infer", include_in_schema=False)
    async def infer(request: Request, model: str, number: str = version) -> Response:
        check_name(model, number)
        asked: list[InferRequest] = []

        def parse(headers: Headers, body: bytes, max_images: int) -> list[Upload]:
            read, uploads = parse_infer(headers, body, max_images)
            asked.append(read)
            return uploads

        async def work(uploads: list[Upload]) -> Response:
            answers = []
            for place, found in enumerate(await attempt(uploads, engine.predict), 1):
                if isinstance(found, ProblemError):
                    raise ProblemError(found.problem.code, f"image {place}: {found.problem.detail}")
                answers.append(found)
            facts = {"model_name": name, "model_version": answers[0].model.id.rpartition("-")[2]}
            return infer_response(asked[0], answers, facts)

        return await handle(request, engine, work, seen, parse)
