"""HTML templates and image data URIs of both pages."""

import base64
from typing import Any

import jinja2


def environment(room: str, **filters: Any) -> jinja2.Environment:
    """Returns the templates of a room, such as "evaluation", with filters for their values.

    Values are escaped: paths, settings and reasons come from users and libraries.
    """
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(f"brain_ray.{room}", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(filters)
    return made


def data_uri(kind: str, data: bytes) -> str:
    """Returns an image, `png` or `jpeg`, as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def percent(share: float) -> str:
    """Returns a share, 0 to 1, in per cent with one digit; the sign stays on the number's line."""
    return f"{100 * share:.1f}\u00a0%"
