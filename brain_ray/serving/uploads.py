"""From a request to the bytes of its images: limits, multipart, and what kind of file it really is."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from brain_ray.data.decoder import Decoder, Prepared
from brain_ray.data.images import ImageError
from brain_ray.serving.problems import ProblemError

if TYPE_CHECKING:
    from brain_ray.model.predictor import Predictor

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""Pillow's names of the formats that are taken."""

NAME_LENGTH = 200
"""Characters of a file name that are kept."""


@dataclass(frozen=True)
class Upload:
    """An image as it was sent; its name serves to recognise it in the answer, and nothing else."""

    name: str
    data: bytes


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read a request's body, as long as it is within the limit.

    Raises:
        ProblemError: `too_large`, before it is read where its length was announced; `bad_request`.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


async def parse_uploads(headers: Headers, body: bytes, max_images: int) -> list[Upload]:
    """Return the images of a request's body, in their order: one as it is, or the files of a form.

    Raises:
        ProblemError: `no_image`, `too_many_images`, `bad_request`, `not_an_image`.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        uploads = await _parse_form(headers, body, max_images)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        uploads = [Upload("image", body)] if body else []
    else:
        raise ProblemError(
            "not_an_image", "the content type is neither multipart/form-data nor one of images (image/...)"
        )
    if not uploads:
        raise ProblemError("no_image", "expected one image as the body, or files in multipart/form-data")
    return uploads


async def _parse_form(headers: Headers, body: bytes, max_images: int) -> list[Upload]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(headers, stream(), max_files=max_images, max_fields=max_images)
    parser.spool_max_size = len(body) + 1  # in memory: no client's bytes touch a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many" in error.message:
            raise ProblemError("too_many_images", f"expected at most {max_images} parts") from error
        raise ProblemError("bad_request", "the form (multipart/form-data) is damaged") from error
    except (KeyError, ValueError, AssertionError) as error:  # no boundary, an unknown charset
        raise ProblemError("bad_request", "the form (multipart/form-data) is damaged") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    return [Upload(_clean(file.filename), await file.read()) for file in files]


def prepare_upload(decoder: Decoder, predictor: "Predictor", data: bytes, side: int = 0) -> Prepared:
    """Decode an image and fit it to a model's input; as `Decoder.prepare`.

    Raises:
        ProblemError: it is of no format that is taken, or cannot be used.
    """
    try:
        return decoder.prepare(data, predictor.crop, predictor.spec, side)
    except ImageError as error:
        raise ProblemError(error.code, str(error)) from error


def _clean(name: str | None) -> str:
    """Keep of a file name what can be shown."""
    return "".join(c for c in name or "" if c.isprintable())[:NAME_LENGTH] or "image"


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError("too_large", f"a request has at most {max_bytes / 1e6:g} MB")
