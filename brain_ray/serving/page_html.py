"""HTML of the page, with the formats of images filled in."""

from collections.abc import Iterable

from brain_ray.data.formats import Format


def fill_page(html: str, formats: Iterable[Format]) -> str:
    """Returns the page's HTML with the formats filled in: in its file dialog and in the text below."""
    rows = list(formats)
    *titles, last = [row.title for row in rows]
    suffixes = [suffix for row in rows for suffix in row.suffixes]
    accept = ",".join(["image/*", *suffixes])  # image/*: phones then offer pictures, and their camera
    return html.replace("{{ accept }}", accept).replace("{{ formats }}", f"{', '.join(titles)} or {last}")
