"""The page's HTML, with what it says of the formats of images filled in."""

from collections.abc import Iterable

from brain_ray.data.formats import Format


def fill_page(html: str, formats: Iterable[Format]) -> str:
    """Puts the formats into the page's HTML: which files its dialog offers, and what is written below."""
    rows = list(formats)
    *titles, last = [row.title for row in rows]
    suffixes = [suffix for row in rows for suffix in row.suffixes]
    accept = ",".join(["image/*", *suffixes])  # image/*: telephones then offer pictures, and their camera
    return html.replace("{{ accept }}", accept).replace("{{ formats }}", f"{', '.join(titles)} or {last}")
