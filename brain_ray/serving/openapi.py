"""OpenAPI descriptions of uploads and problems, which FastAPI cannot derive."""

from typing import Any

from brain_ray.data.formats import FORMATS
from brain_ray.serving.json_images import JSON_TYPE
from brain_ray.serving.problems import KINDS, MEDIA_TYPE
from brain_ray.serving.schemas import Problem

IMAGE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
        "required": ["file"],
    }
}
_DATA = {"type": "string", "contentEncoding": "base64", "description": "base64, or a data URL in base64"}
_NAMED = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "data": _DATA},
    "required": ["data"],
    "additionalProperties": False,
}
_JSON = {
    "type": "object",
    "properties": {
        "image": {"anyOf": [_DATA, _NAMED]},
        "images": {"type": "array", "items": {"anyOf": [_DATA, _NAMED]}},
    },
    "additionalProperties": False,
}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One image as the body, or one or many as the files of a form or in JSON.",
        "content": {
            "multipart/form-data": _FORM,
            JSON_TYPE: {"schema": _JSON},
            **{row.media_type: IMAGE for row in FORMATS.values()},
        },
    }
}
"""OpenAPI description of an upload; its body is parsed by hand, so that limits apply while it arrives."""

STUDY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The files of a form, the parts of a DICOMweb request, a zip archive, or one file.",
        "content": {
            **BODY["requestBody"]["content"],
            "multipart/related": IMAGE,
            "application/zip": IMAGE,
        },
    }
}
"""OpenAPI description of a study."""


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Returns the descriptions of some problems' responses, by status."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = KINDS[code]
        content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
        before = found.get(status, {}).get("description")
        text = f"{code}: {title}"
        found[status] = {"description": f"{before}; {text}" if before else text, "content": content}
    return found


UPLOAD_PROBLEMS = problems(*(code for code in KINDS if code not in ("not_found", "method_not_allowed")))
COMMON_PROBLEMS = problems("unauthorized", "forbidden", "internal")
