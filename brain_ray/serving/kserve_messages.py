"""Requests and answers of the KServe v2 inference protocol, with its binary tensor extension.

Protocol: https://github.com/kserve/open-inference-protocol, extension:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.datastructures import Headers

from brain_ray.serving.json_images import decode_image, read_json
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.schemas import Answer
from brain_ray.serving.uploads import Upload

INPUT = "image"

HEADER_LENGTH = "Inference-Header-Content-Length"
"""Header with the length of the JSON at the beginning of a body, in bytes; binary tensors follow it."""


Size = Annotated[int, Field(ge=0, le=1_000_000)]
"""Size of a tensor's dimension; a limit, so that their product is no long number."""


class InputTensor(BaseModel):
    """A tensor of a request; its data are in JSON, or behind it."""

    name: str
    shape: Annotated[list[Size], Field(max_length=8)]
    datatype: str
    parameters: dict[str, bool | int | str] = {}
    data: list[str] | list[list[str]] | None = None


class OutputWanted(BaseModel):
    """A tensor that the answer shall have."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """A request for inference."""

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[InputTensor]
    outputs: list[OutputWanted] = []


@dataclass(frozen=True)
class Output:
    """An output tensor: how it is computed from an answer."""

    datatype: str
    value: Callable[[Answer], Any]
    """Returns a number, a text or a list of numbers, of the classes in their order."""
    is_of_classes: bool = False


OUTPUTS: Mapping[str, Output] = {
    "probabilities": Output("FP32", lambda answer: list(answer.probabilities.values()), True),
    "calibrated": Output("FP32", lambda answer: list(answer.calibrated.values()), True),
    "label": Output("BYTES", lambda answer: answer.label),
    "decision": Output("BYTES", lambda answer: answer.decision),
    "confidence": Output("FP32", lambda answer: answer.confidence),
    "unlikeness": Output("FP32", lambda answer: answer.unlikeness),
}


def parse_infer(headers: Headers, body: bytes, max_images: int) -> tuple[InferRequest, list[Upload]]:
    """Returns a request of the protocol, and its images.

    Raises:
        ProblemError: `bad_request`, `no_image`, `too_many_images`.
    """
    length = headers.get(HEADER_LENGTH, "")
    if length and not (length.isdecimal() and len(length) < 12 and int(length) <= len(body)):
        raise ProblemError(
            "bad_request", f"{HEADER_LENGTH} is {length[:20]!r}, the body has {len(body)} bytes"
        )
    text, binary = (body[: int(length)], body[int(length) :]) if length else (body, b"")
    request = read_json(InferRequest, text, max_images, "not a request of KServe v2, at ")
    if [(tensor.name, tensor.datatype) for tensor in request.inputs] != [(INPUT, "BYTES")]:
        found = ", ".join(f"{tensor.name} ({tensor.datatype})" for tensor in request.inputs)[:100]
        raise ProblemError("bad_request", f"the inputs are {found or 'none'}; expected {INPUT} (BYTES) alone")
    if unknown := [wanted.name for wanted in request.outputs if wanted.name not in OUTPUTS]:
        raise ProblemError("bad_request", f"no output {unknown[0][:50]!r}; there are {', '.join(OUTPUTS)}")
    (tensor,) = request.inputs
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        flat = [x for item in tensor.data or [] for x in (item if isinstance(item, list) else [item])]
        images = [decode_image(item, place) for place, item in enumerate(flat, 1)]
    elif size == len(binary) and tensor.data is None:
        images = split_elements(binary, max_images + 1)
    else:
        raise ProblemError(
            "bad_request", f"binary_data_size is {size}, and {len(binary)} bytes follow the JSON"
        )
    if len(images) > max_images:
        raise ProblemError("too_many_images", f"expected at most {max_images} images in a request")
    if not images:
        raise ProblemError("no_image", f"the input {INPUT} holds no image")
    if math.prod(tensor.shape) != len(images):
        raise ProblemError("bad_request", f"the shape is {tensor.shape}, and there are {len(images)} images")
    return request, [Upload("image", image) for image in images]


def split_elements(data: bytes, most: int) -> list[bytes]:
    """Returns the first elements of a binary tensor of BYTES: each has its length before it, in 4 bytes (LE).

    Raises:
        ProblemError: `bad_request`.
    """
    found: list[bytes] = []
    start = 0
    while start < len(data) and len(found) < most:
        end = start + 4 + int.from_bytes(data[start : start + 4], "little")
        if start + 4 > len(data) or end > len(data):
            raise ProblemError("bad_request", f"the binary tensor is damaged at byte {start} of {len(data)}")
        found.append(data[start + 4 : end])
        start = end
    return found


def infer_response(request: InferRequest, answers: Sequence[Answer], facts: Mapping[str, Any]) -> Response:
    """Returns the answers as tensors: those asked for, in JSON or behind it."""
    wanted = request.outputs or [OutputWanted(name=name) for name in OUTPUTS]
    all_binary = bool(request.parameters.get("binary_data_output", False))
    outputs, parts = [], []
    for one in wanted:
        row = OUTPUTS[one.name]
        values = np.array(
            [row.value(answer) for answer in answers], object if row.datatype == "BYTES" else "<f4"
        )
        tensor = {"name": one.name, "datatype": row.datatype, "shape": list(values.shape)}
        if one.parameters.get("binary_data", all_binary):
            part = values.tobytes() if row.datatype == "FP32" else b"".join(map(_element, values))
            parts.append(part)
            outputs.append({**tensor, "parameters": {"binary_data_size": len(part)}})
        else:
            outputs.append({**tensor, "data": values.ravel().tolist()})
    given = {} if request.id is None else {"id": request.id}
    head = json.dumps({**facts, **given, "outputs": outputs}).encode()
    if not parts:
        return Response(head, media_type="application/json")
    return Response(
        head + b"".join(parts), media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(head))}
    )


def _element(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data
