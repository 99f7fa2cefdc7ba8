"""Request body -> images: limits, multipart forms, and a file's true format."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, FormParser, parse_options_header
from starlette.datastructures import Headers
from starlette.requests import Request

from brain_ray.data.decoder import Decoder
from brain_ray.data.decoding import CheckedFile, ImageError
from brain_ray.data.formats import FORMATS
from brain_ray.serving.answers import Prepared
from brain_ray.serving.problems import ProblemError

if TYPE_CHECKING:
    from brain_ray.bundle.predictor import Predictor

NAME_LENGTH = 200
"""Characters of a file name that are kept."""


@dataclass(frozen=True)
class Upload:
    """An image as it was sent; its name serves to recognise it in the answer, and nothing else."""

    name: str
    data: bytes | CheckedFile | ImageError
    """The file; of one among several, what was found when they were looked at together."""


def body_size(headers: Headers, max_bytes: int) -> int:
    """Returns the most bytes that a request's body can have: what is announced, else the limit.

    Raises:
        ProblemError: `too_large`, by what is announced.
    """
    announced = headers.get("content-length", "")
    if not announced.isdecimal() or "transfer-encoding" in headers:
        return max_bytes
    digits = announced.lstrip("0") or "0"
    if len(digits) > 15 or int(digits) > max_bytes:  # Python refuses to read thousands of digits
        raise _too_large(max_bytes)
    return int(digits)


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Reads a request's body.

    Raises:
        ProblemError: `too_large`, as soon as there is more than that.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def parse_uploads(headers: Headers, body: bytes, max_images: int) -> list[Upload]:
    """Returns the images of a request's body, in their order: one as it is, or the files of a form.

    Takes up to 0.1 s for 20 MB, so it is called in a thread.

    Args:
        headers: of the request.
        body: of the request.
        max_images: most parts of a form.

    Raises:
        ProblemError: `no_image`, `too_many_images`, `bad_request`, `not_an_image`.
    """
    content_type = headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        uploads = _parse_form(content_type, body, max_images)
    elif kind.startswith("image/") or kind in BODY_TYPES:
        uploads = [Upload("image", body)] if body else []
    else:
        raise ProblemError(
            "not_an_image", "the content type is neither multipart/form-data nor one of images (image/...)"
        )
    if not uploads:
        raise ProblemError("no_image", "expected one image as the body, or files in multipart/form-data")
    return uploads


BODY_TYPES = {"application/octet-stream", *(row.media_type for row in FORMATS.values())}
"""Media types of a body that is one image, beside all of `image/`: the file itself tells what it is."""


def check_uploads(
    decoder: Decoder, uploads: Sequence[Upload], max_pixels: int, max_request_pixels: int
) -> list[Upload]:
    """Looks at the images of a form, each once, and counts their pixels before any of them is decoded.

    Args:
        decoder: whose worker looks at them.
        uploads: whose `data` are bytes.
        max_pixels: most pixels of one image.
        max_request_pixels: most pixels of all together, by their headers; an image that cannot be read has
            none, and an answer of its own.

    Raises:
        ProblemError: `too_many_pixels`.
    """
    files = [upload.data for upload in uploads if isinstance(upload.data, bytes)]
    checked = decoder.check(files, max_pixels)
    pixels = sum(file.width * file.height for file in checked if isinstance(file, CheckedFile))
    if pixels > max_request_pixels:
        raise ProblemError(
            "too_many_pixels",
            f"its {len(uploads)} images have {pixels} pixels; expected at most {max_request_pixels} in a "
            "request: send them in several",
        )
    return [replace(upload, data=file) for upload, file in zip(uploads, checked, strict=True)]


PADDING = 99
"""Most blanks after a form's boundary; the parser steps through them one by one."""


def _parse_form(content_type: str, body: bytes, max_images: int) -> list[Upload]:
    """Returns the files of a form; its fields are passed over, and no charset is heeded."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise _damaged()
    # Each start of a boundary costs the parser microseconds, and a body has room for millions of them.
    delimiter = b"\r\n--" + boundary
    if body.count(delimiter) > max_images + 1:
        raise _too_many(max_images)
    if re.search(re.escape(delimiter) + rb"[ \t]{%d}" % (PADDING + 1), body):
        raise _damaged()
    files: list[Upload] = []

    def keep(file: File) -> None:
        file.file_object.seek(0)
        files.append(Upload(_clean(_decode(file.file_name or b"")), file.file_object.read()))

    in_memory = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}  # no client's bytes touch a disk
    try:
        parser = FormParser("multipart/form-data", None, keep, boundary=boundary, config=in_memory)
        try:
            parser.write(body)
        finally:
            # Each refers to the other, and they would keep the files until Python looks for such circles.
            parser.parser = None
    except FormParserError as error:
        raise _damaged() from error
    if len(files) > max_images:
        raise _too_many(max_images)
    return files


def prepare_upload(
    decoder: Decoder, predictor: "Predictor", upload: Upload, max_pixels: int, start: float, side: int = 0
) -> Prepared:
    """Decodes an image and fit it to a model's input.

    Args:
        decoder: whose worker does it.
        predictor: of the model.
        upload: the image.
        max_pixels: most pixels of an image.
        start: when its bytes were there, in seconds of `time.perf_counter`.
        side: longest side of the head that is to be shown, in pixels; 0: none is.

    Raises:
        ProblemError: it is of no format that is taken, or cannot be used.
    """
    try:
        if isinstance(upload.data, ImageError):
            raise upload.data
        found = decoder.prepare(upload.data, max_pixels, predictor.crop, predictor.spec, side)
    except ImageError as error:
        raise ProblemError(error.code, str(error)) from error
    return Prepared(name=upload.name, start=start, **vars(found))


def _decode(name: bytes) -> str:
    """Returns a file name as text: UTF-8, as all browsers and clients of today send it, else Latin-1."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _clean(name: str) -> str:
    """Keeps of a file name what can be shown."""
    return "".join(c for c in name if c.isprintable())[:NAME_LENGTH] or "image"


def _damaged() -> ProblemError:
    return ProblemError("bad_request", "the form (multipart/form-data) is damaged")


def _too_many(max_images: int) -> ProblemError:
    return ProblemError("too_many_images", f"expected at most {max_images} parts")


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError("too_large", f"a request has at most {max_bytes / 1e6:g} MB")
