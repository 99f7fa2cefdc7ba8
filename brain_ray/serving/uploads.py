"""Uploads: request body -> images; limits, multipart forms, JSON, and a file's true format."""

import io
import re
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.datastructures import Headers
from starlette.requests import Request

from brain_ray.data.decoding import CheckedFile, ImageError
from brain_ray.data.formats import FORMATS, HEAD_BYTES, format_of
from brain_ray.errors import printable
from brain_ray.serving.json_images import JSON_TYPE, parse_json
from brain_ray.serving.problems import ProblemError

NAME_LENGTH = 200
"""Largest number of characters of a file name that are kept."""


@dataclass(frozen=True)
class Upload:
    """An uploaded image; its name only identifies it in the answer."""

    name: str
    data: bytes | CheckedFile | ImageError
    """The file; in a form with several, the result of its check."""

    @property
    def num_bytes(self) -> int:
        """Size of the file; 0 if its check found none that can be used."""
        data = self.data.data if isinstance(self.data, CheckedFile) else self.data
        return 0 if isinstance(data, ImageError) else len(data)


def body_size(headers: Headers, max_bytes: int) -> int:
    """Returns the largest size in bytes of a request's body: its announced length, else the limit.

    Raises:
        ProblemError: `too_large`, by the announced length.
    """
    announced = headers.get("content-length", "")
    if not announced.isdecimal() or "transfer-encoding" in headers:
        return max_bytes
    digits = announced.lstrip("0") or "0"
    if len(digits) > 15 or int(digits) > max_bytes:  # Python refuses to parse thousands of digits
        raise too_large(max_bytes)
    return int(digits)


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Reads a request's body.

    Raises:
        ProblemError: `too_large`, as soon as more than `max_bytes` have arrived.
    """
    body = io.BytesIO()  # which gives its bytes without a copy
    async for chunk in request.stream():
        body.write(chunk)
        if body.tell() > max_bytes:
            raise too_large(max_bytes)
    return body.getvalue()


def parse_uploads(headers: Headers, body: bytes, max_images: int) -> list[Upload]:
    """Returns the images of a body, in order: the body itself, the files of a form, or those in JSON.

    Takes up to 0.1 s for 20 MB: of a large body it is called in a thread.

    Args:
        headers: the request's headers.
        body: the request's body.
        max_images: largest number of images, and of parts of a form.

    Raises:
        ProblemError: `no_image`, `too_many_images`, `bad_request`, `not_an_image`.
    """
    content_type, kind = content_type_of(headers)
    if kind == "multipart/form-data":
        uploads = parse_form(content_type, body, max_images)
    elif kind == JSON_TYPE:
        uploads = [Upload(clean_name(name), data) for name, data in parse_json(body, max_images)]
    elif kind.startswith("image/") or kind in BODY_TYPES or (kind in UNTOLD_TYPES and is_image(body)):
        uploads = [Upload("image", body)] if body else []
    elif kind in UNTOLD_TYPES and not body:
        uploads = []
    else:
        found = f"the content type is {printable(kind)[:60]!r}" if kind else "there is no content type"
        raise ProblemError(
            "not_an_image",
            f"{found}, and the body does not begin as an image; expected an image (image/..., "
            "application/octet-stream, application/dicom, ...), multipart/form-data or application/json",
        )
    if not uploads:
        raise ProblemError(
            "no_image", "expected one image as the body, files in multipart/form-data, or base64 in JSON"
        )
    return uploads


SMALL_BODY = 200_000
"""Bytes of a body without a form that is parsed in less than a millisecond."""


def is_quickly_parsed(headers: Headers, body: bytes) -> bool:
    """Returns whether a body is parsed faster than a thread for it would begin."""
    return len(body) <= SMALL_BODY and not content_type_of(headers)[1].startswith("multipart/")


def content_type_of(headers: Headers) -> tuple[str, str]:
    """Returns the content type of a request, and its media type alone, in lower case."""
    content_type = headers.get("content-type", "")
    return content_type, content_type.partition(";")[0].strip().lower()


UNTOLD_TYPES = ("", "application/x-www-form-urlencoded")
"""Media types that say nothing of a body: none, and what curl sends unasked with `--data-binary`."""


def is_image(data: bytes) -> bool:
    return format_of(data[:HEAD_BYTES], FORMATS.values()) is not None


BODY_TYPES = {"application/octet-stream", *(row.media_type for row in FORMATS.values())}
"""Media types, beside all of `image/`, of a body that is one image; its format is read from the file
itself."""


PADDING = 99
"""Largest number of blanks after a form's boundary; the parser reads them one by one."""


def find_boundary(content_type: str, body: bytes, max_parts: int) -> bytes:
    """Returns the boundary of a multipart body, after a look at what would cost its parser much time.

    Raises:
        ProblemError: `bad_request`, `too_many_images`.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise damaged_form()
    # Each start of a boundary costs the parser microseconds, and a body has room for millions of them.
    delimiter = b"\r\n--" + boundary
    if body.count(delimiter) > max_parts + 1:
        raise too_many(max_parts)
    if re.search(re.escape(delimiter) + rb"[ \t]{%d}" % (PADDING + 1), body):
        raise damaged_form()
    return boundary


def parse_form(content_type: str, body: bytes, max_images: int) -> list[Upload]:
    """Returns the files of a form, and fields that hold an image; ignores other fields, and any charset."""
    boundary = find_boundary(content_type, body, max_images)
    files: list[Upload] = []

    def keep(file: File) -> None:
        file.file_object.seek(0)
        files.append(Upload(clean_name(_decode(file.file_name or b"")), file.file_object.read()))

    def keep_field(field: Field) -> None:  # a part without a file name
        data = field.value or b""
        if (field.content_type or "").startswith("image/") or is_image(data):
            files.append(Upload("image", data))

    in_memory = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}  # no client's bytes are written to a disk
    try:
        parser = FormParser("multipart/form-data", keep_field, keep, boundary=boundary, config=in_memory)
        try:
            parser.write(body)
        finally:
            # Both refer to each other, and would keep the files until Python's garbage collector runs.
            parser.parser = None
    except FormParserError as error:
        raise damaged_form() from error
    if len(files) > max_images:
        raise too_many(max_images)
    return files


def _decode(name: bytes) -> str:
    """Decodes a file name: UTF-8, as all browsers and clients of today send it, else Latin-1."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def clean_name(name: str) -> str:
    """Returns the printable characters of a file name, at most `NAME_LENGTH`; `image` if there are none."""
    return "".join(c for c in name if c.isprintable())[:NAME_LENGTH] or "image"


def damaged_form() -> ProblemError:
    return ProblemError("bad_request", "the form (multipart/form-data or multipart/related) is damaged")


def too_many(max_images: int) -> ProblemError:
    return ProblemError("too_many_images", f"expected at most {max_images} files or parts")


def too_large(max_bytes: int) -> ProblemError:
    return ProblemError("too_large", f"a request has at most {max_bytes / 1e6:g} MB")
