"""Names of files and images: patterns for images and for other files that lie among them, and a name for each
image."""

import re

from brain_ray.data.formats import media_types

OTHER_IMAGES = r"avif|heic|heif|hdr|img|jxl|mha|mhd|nrrd|pcx|tga"
"""Suffixes of image formats without a row in `FORMATS`, a regular expression."""

IMAGE = re.compile(
    rf"\.({OTHER_IMAGES}|{'|'.join(re.escape(suffix[1:]) for suffix in media_types())})$", re.IGNORECASE
)
"""Suffix of an image's name; files in the classes' folders are opened whatever their suffix."""

NO_IMAGE = re.compile(
    r"\.(csv|db|docx?|html?|ini|ipynb|json|lnk|log|md|py|tsv|txt|url|xlsx?|xml|ya?ml)$|(^|/)DICOMDIR$",
    re.IGNORECASE,
)
"""End of the name of files that commonly lie among images, such as Thumbs.db and desktop.ini."""

ALONE = -1
"""Number of an image that is alone in its file."""


def image_name(path: str, frame: int) -> str:
    """Returns the name of an image: its file's path and, if the file holds several, its number in
    brackets."""
    return path if frame == ALONE else f"{path}[{frame}]"


def is_no_image(path: str) -> bool:
    """Returns whether a file's name shows that it is no image."""
    return NO_IMAGE.search(path) is not None
