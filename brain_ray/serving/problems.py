"""Error codes of the endpoint, as application/problem+json (RFC 9457)."""

import json
from collections.abc import Mapping

from starlette.responses import Response

from brain_ray.serving.schemas import Problem

KINDS: Mapping[str, tuple[int, str]] = {
    "bad_request": (400, "The request cannot be read"),
    "no_image": (400, "The request holds no image"),
    "unauthorized": (401, "An API key is needed"),
    "forbidden": (403, "The request is for another host, or comes from another site"),
    "not_found": (404, "There is nothing here"),
    "method_not_allowed": (405, "Not a method of this resource"),
    "slow_upload": (408, "The request did not arrive in time"),
    "too_large": (413, "The request is too large"),
    "too_many_images": (413, "The request holds too many images"),
    "too_many_pixels": (413, "The image has too many pixels"),
    "not_an_image": (415, "Not an image of a supported type"),
    "no_patient": (422, "The file does not say whose it is"),
    "several_images": (422, "The file holds several images"),
    "undecodable": (422, "The image is damaged"),
    "too_small": (422, "The image is too small"),
    "internal": (500, "The endpoint has a fault"),
    "queue_full": (503, "The endpoint is busy"),
    "not_ready": (503, "No replica is ready"),
    "timeout": (504, "The answer was not ready in time"),
}
"""Status and title of each code."""

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_S = 1
"""Seconds that a client is told to wait if the queue is full."""


class ProblemError(Exception):
    """Error of a request, or of one of its images; `code` is one of `KINDS`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        status, title = KINDS[code]
        self.problem = Problem(
            type=f"urn:brain_ray:problem:{code}", title=title, status=status, code=code, detail=detail
        )


def problem_of(status: int) -> Problem:
    """Returns the problem for an error raised around the application, by its HTTP status."""
    code = {
        404: "not_found",
        405: "method_not_allowed",
        408: "timeout",
        503: "not_ready",
        504: "timeout",
    }.get(status, "bad_request" if status < 500 else "internal")
    return ProblemError(
        code, f"Ray Serve answered {status}; its log on the endpoint's node tells more"
    ).problem


def respond(problem: Problem, path: str = "") -> Response:
    """Returns the response for a problem of a request for a path.

    Below /v2 it also has the member `error`, in which clients of the KServe protocol look for its text.
    """
    headers = {}
    if problem.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    content = problem.model_dump()
    if "/v2/" in f"{path}/":
        content["error"] = f"{problem.code}: {problem.detail}"
    return Response(json.dumps(content), problem.status, headers, media_type=MEDIA_TYPE)
