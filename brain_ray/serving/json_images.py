"""Images in JSON: base64 or data URLs, as programs send them that cannot send bytes.

{"image": "iVBORw0KGgo..."}
{"images": ["data:image/png;base64,iVBORw0KGgo...", {"name": "b.dcm", "data": "RElDTQ..."}]}
"""

from contextlib import suppress
from typing import Annotated, TypeVar

import numpy as np
import pybase64
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brain_ray.serving.problems import ProblemError

JSON_TYPE = "application/json"

Body = TypeVar("Body", bound=BaseModel)


class NamedImage(BaseModel):
    """An image with a name, which only identifies it in the answer."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    data: str
    """The file: base64, or a data URL in base64."""


Image = Annotated[str | NamedImage, Field(union_mode="left_to_right")]


class JsonImages(BaseModel):
    """A request's body: one image, or several."""

    model_config = ConfigDict(extra="forbid")

    image: Image | None = None
    images: list[Image] = []


def parse_json(body: bytes, max_images: int) -> list[tuple[str, bytes]]:
    """Returns the name (possibly empty) and the bytes of each image in a JSON body, in order.

    Raises:
        ProblemError: `too_many_images`, or `bad_request`: it is not JSON, or of another form, or an image is
            not base64.
    """
    found = read_json(JsonImages, body, max_images, f"{EXPECTED}; found ")
    images = [*([found.image] if found.image is not None else []), *found.images]
    if len(images) > max_images:
        raise ProblemError("too_many_images", f"expected at most {max_images} images in the JSON")
    named = [image if isinstance(image, NamedImage) else NamedImage(data=image) for image in images]
    return [(image.name, decode_image(image.data, place)) for place, image in enumerate(named, 1)]


EXPECTED = (
    'expected {"image": DATA} or {"images": [DATA, {"name": NAME, "data": DATA}, ...]} with DATA in base64 '
    "or a data URL"
)

MARKS_AN_IMAGE = 12
"""Largest number of quotes, brackets and commas for an image with a name of a few quotes."""

MARKS_ALONE = 200
"""The same for what is around them."""


PIECE = 1 << 18
"""Bytes of a body that are looked at at a time: they stay in the processor's cache."""


def count_marks(body: bytes) -> int:
    """Returns how many quotes, commas, and opening brackets of both kinds there are, none of which is in
    base64.

    NumPy lets other threads run meanwhile; `bytes.count` takes five times as long, and does not.
    """
    numbers = np.frombuffer(body, np.uint8)
    pieces = (numbers[start : start + PIECE] for start in range(0, len(numbers), PIECE))
    return sum(int(np.count_nonzero(piece == mark)) for piece in pieces for mark in b'"[{,')


def read_json(kind: type[Body], body: bytes, max_images: int, said: str) -> Body:
    """Reads JSON with some images in base64; `said` begins the error of a body of another form.

    A parser makes an object of 50 bytes of `[]`, so it is not given more parts than so many images need.

    Raises:
        ProblemError: `too_many_images`, `bad_request`.
    """
    if count_marks(body) > MARKS_AN_IMAGE * max_images + MARKS_ALONE:
        raise ProblemError("too_many_images", f"expected at most {max_images} images in the JSON")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))[:60] or "text"
        raise ProblemError("bad_request", f"{said}{where}: {first['msg']}"[:400]) from None


def decode_image(text: str, place: int) -> bytes:
    """Decodes the image, base64 or a data URL, at a place in the request, counted from 1.

    Raises:
        ProblemError: `bad_request`.
    """
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise ProblemError("bad_request", f"image {place} is a data URL; expected one in base64")
    with suppress(ValueError):
        return pybase64.b64decode(text, validate=True)
    try:  # some programs break base64 into lines; to look for these first takes 30 times as long
        plain = text.encode("ascii").translate(None, b" \t\r\n")
        return pybase64.b64decode(plain, validate=True)
    except ValueError as error:
        raise ProblemError("bad_request", f"image {place} is not base64: {error}"[:200]) from error
